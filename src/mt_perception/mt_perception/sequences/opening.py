"""Opens any sequence, told apart by what its folder holds."""

from pathlib import Path

from mt_perception.errors import SequenceError
from mt_perception.sequences import euroc, images, kitti, rendered, rgbd, rosbag, tum, video
from mt_perception.sequences.files import list_images, natural_key
from mt_perception.sequences.rendered_name import PREFIX, folder_name, parse_name
from mt_perception.sequences.stored import select


def open_sequence(source, frames=None, **options):
    """
    Open a sequence.

    :param source: a KITTI odometry folder, an RGB-D (7-Scenes) folder, a TUM RGB-D folder, a EuRoC folder,
        a folder of images, a video, a rosbag2 folder or file, or ``rendered:SCENE[:SEED][:WORD…]``, see
        :mod:`mt_perception.sequences.rendered_name`.
    :param frames: 'A:B' takes a part, with open and negative ends as in Python; frames keep their index.
    :param options: passed to the sequence: ``topic`` and ``ground_truth_topic`` of a bag, or those of
        :class:`mt_perception.sequences.rendered.RenderedSequence`.
    :return: :class:`mt_perception.sequences.base.Sequence`.
    :raises SequenceError: nothing there, nothing that is known, or something damaged.
    """
    source = str(source)
    if source.startswith(PREFIX):
        return select(_rendered(source, options), frames)
    if not source:
        raise SequenceError('no sequence was named; give a folder, a video, a bag or rendered:street')
    path = Path(source).expanduser()
    if not path.exists():
        raise SequenceError(f"there is no sequence '{path}'; check the path, or use rendered:street")
    kind = _kind(path)
    if kind is None:
        raise SequenceError(_unknown(path))
    if kind is rosbag.RosbagSequence:
        return select(kind(path, **options), frames)
    if options:
        raise SequenceError(f"'{path}' is no bag and takes no {', '.join(sorted(options))}")
    return select(kind(path), frames)


def find_sequences(source):
    """
    Return the sequences that a name or a folder stands for.

    :param source: what :func:`open_sequence` takes, or a folder of such folders, videos and bags (KITTI's
        ``dataset`` folder too).
    :return: (list of sources for :func:`open_sequence`, names of folders inside that hold none); ``source``
        itself where there is nothing inside, so that opening it says what is wrong.
    """
    source = str(source)
    path = Path(source).expanduser()
    if source.startswith(PREFIX) or not path.is_dir() or _kind(path) is not None:
        return [source], []
    inner = path / 'sequences' if (path / 'sequences').is_dir() else path
    entries = [entry for entry in sorted(inner.iterdir(), key=natural_key) if not entry.name.startswith('.')]
    entries = [entry for entry in entries if entry.is_dir() or _kind(entry) is not None]
    found = [str(entry) for entry in entries if _kind(entry) is not None]
    return (found, [entry.name for entry in entries if _kind(entry) is None]) if found else ([source], [])


def _rendered(source, options):
    scene, seed, named = parse_name(source)
    sequence = rendered.RenderedSequence(scene, seed, **{**named, **options})
    sequence.name = folder_name(scene, seed, named)
    return sequence


def _kind(path):
    """Return the class that reads ``path``, or None."""
    if path.is_file():
        if path.suffix in ('.db3', '.mcap'):
            return rosbag.RosbagSequence
        return video.VideoSequence if path.suffix.lower() in video.SUFFIXES else None
    if (path / 'metadata.yaml').is_file() or any(path.glob('*.db3*')) or any(path.glob('*.mcap*')):
        return rosbag.RosbagSequence
    if any((path / name).is_dir() for name in kitti.IMAGE_FOLDERS):
        return kitti.KittiSequence
    if (path / 'rgb.txt').is_file():
        return tum.TumSequence
    if (path / 'mav0' / 'cam0').is_dir() or (path / 'cam0' / 'data.csv').is_file():
        return euroc.EurocSequence
    if any(path.glob('frame-*.color.*')):
        return rgbd.RgbdSequence
    return images.ImagesSequence if list_images(path) else None


def _unknown(path):
    if path.is_file():
        return f"'{path}' is neither a video ({', '.join(video.SUFFIXES)}) nor a bag (.db3, .mcap)"
    if not any(path.iterdir()):
        return f"folder '{path}' is empty; a sequence folder holds images or a bag"
    return (
        f"folder '{path}' holds no sequence: neither image_0/ or image_2/ (KITTI), frame-*.color.jpg "
        '(RGB-D), rgb.txt (TUM), mav0/cam0/ (EuRoC), metadata.yaml (rosbag2) nor images'
    )
