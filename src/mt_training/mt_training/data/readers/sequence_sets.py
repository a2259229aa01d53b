"""
Sets made of sequences: KITTI odometry, 7-Scenes, TUM RGB-D, the project's rendered worlds, and any other.

The sequences themselves are read by :mod:`mt_perception.sequences`.
"""

import re
from pathlib import Path

from mt_perception.errors import EvaluationError
from mt_perception.sequences import open_sequence
from mt_training.data.readers.camvid import CLASS_COLORS, CLASS_NAMES
from mt_training.data.readers.layout import open_root
from mt_training.data.readers.sample import FrameSet, Sample

KITTI_EXPECTED = (
    'sequences/00/ … with image_2/ or image_0/ and calib.txt, and poses/00.txt …, or one such sequence'
)
KITTI_SPLITS = {
    'train': [f'{n:02d}' for n in range(9)],  # as in Zhou et al., CVPR 2017: 00–08 and 09, 10
    'val': ['09', '10'],
    'test': [f'{n:02d}' for n in range(11, 22)],
}
SCENES_EXPECTED = (
    'a scene with seq-01/ … and TrainSplit.txt, TestSplit.txt, a folder of such scenes, or one sequence with '
    'frame-000000.color.png, .depth.png, .pose.txt'
)
TUM_EXPECTED = 'rgb.txt, depth.txt, groundtruth.txt, or folders rgbd_dataset_freiburg… with these'


class SequenceSet(FrameSet):
    """
    The frames of one or more sequences, one after the other.

    :param sequences: {group name: :class:`mt_perception.sequences.base.Sequence`}.
    :param provides: what the frames may have.
    :param step: take every so-manieth frame of each.
    """

    def __init__(self, sequences, provides, step=1, depth_limits=None):
        self.sequences, self.provides, self.depth_limits = sequences, tuple(provides), depth_limits
        if step < 1:
            raise EvaluationError(f'a step of {step} frames is not possible; it is at least 1')
        self.items = [(name, i) for name, s in sequences.items() for i in range(0, len(s), step)]
        if 'segmentation' in self.provides:
            self.class_names, self.class_colors = CLASS_NAMES, CLASS_COLORS

    def __len__(self):
        """Return the number of frames."""
        return len(self.items)

    def name_of(self, index):
        """Return 'GROUP/FRAME'."""
        group, i = self.items[index]
        return f'{group}/{i:06d}'

    def __getitem__(self, index):
        """Read sample ``index``."""
        group, i = self.items[index]
        frame = self.sequences[group][i]
        return Sample(
            self.name_of(index),
            frame.image,
            frame.labels,
            frame.depth,
            frame.camera,
            frame.pose,
            index=frame.index,
            group=group,
            moving=frame.moving,
        )


def open_kitti_odometry(root, split='train', sequences=None, step=1):
    """
    Open KITTI odometry (Geiger et al., CVPR 2012).

    :param root: ``dataset/`` with sequences/ and poses/, or a single sequence.
    :param split: 'train' (00–08), 'val' (09, 10), 'test' (11–21) or 'all'; of those that are there.
    :param sequences: names such as ['00', '05'] instead of a split.
    """
    root = open_root(root, 'KITTI odometry', KITTI_EXPECTED)
    base = next((b for b in (root / 'sequences', root / 'dataset' / 'sequences') if b.is_dir()), None)
    if base is None:
        if not any((root / f'image_{k}').is_dir() for k in range(4)):
            raise EvaluationError(
                f"'{root}' is no folder of KITTI odometry; expected there: {KITTI_EXPECTED}"
            )
        return SequenceSet({root.resolve().name: open_sequence(root)}, ('poses',), step)
    have = sorted(p.name for p in base.iterdir() if p.is_dir())
    if sequences is None:
        if split not in (*KITTI_SPLITS, 'all'):
            raise EvaluationError(f"KITTI odometry has no split '{split}'; it has train, val, test and all")
        chosen = [name for name in have if split == 'all' or name in KITTI_SPLITS[split]]
    else:
        chosen = [f'{s:02d}' if isinstance(s, int) else str(s) for s in _as_list(sequences)]
    missing = [name for name in chosen if name not in have]
    if missing or not chosen:
        raise EvaluationError(
            f"'{base}' has no sequence {', '.join(missing) or f'of the split {split}'}; "
            f'it has {", ".join(have) or "none"}'
        )
    return SequenceSet({name: open_sequence(base / name) for name in chosen}, ('poses',), step)


def open_seven_scenes(root, split='train', scenes=None, step=1):
    """
    Open 7-Scenes (Shotton et al., CVPR 2013) or folders laid out like it.

    :param root: a folder of scenes, a scene, or one sequence.
    :param split: 'train' or 'test' by TrainSplit.txt and TestSplit.txt of a scene, or 'all'; of a single
        sequence all splits are all of it.
    :param scenes: names of scenes; None: all that are there.
    """
    root = open_root(root, '7-Scenes', SCENES_EXPECTED)
    if any(root.glob('frame-*.color.*')):
        found = {root.resolve().name: root}
    else:
        folders = [root] if any(root.glob('seq-*')) else sorted(p for p in root.iterdir() if p.is_dir())
        folders = [f for f in folders if any(f.glob('seq-*'))]
        if scenes is not None:
            missing = [s for s in _as_list(scenes) if s not in [f.name for f in folders]]
            if missing:
                raise EvaluationError(
                    f"'{root}' has no scene {', '.join(missing)}; it has {', '.join(f.name for f in folders)}"
                )
            folders = [f for f in folders if f.name in _as_list(scenes)]
        found = {f'{f.resolve().name}/{s.name}': s for f in folders for s in _scene_sequences(f, split)}
    if not found:
        raise EvaluationError(f"'{root}' holds no scene of 7-Scenes; expected there: {SCENES_EXPECTED}")
    sequences = {name: open_sequence(folder) for name, folder in found.items()}
    return SequenceSet(sequences, ('depth', 'poses'), step, depth_limits=(0.1, 10.0))


def _scene_sequences(folder, split):
    """List the sequences of a scene that a split names."""
    everything = sorted(p for p in folder.glob('seq-*') if p.is_dir())
    if split == 'all':
        return everything
    names = {'train': 'TrainSplit.txt', 'test': 'TestSplit.txt', 'val': 'TestSplit.txt'}
    if split not in names:
        raise EvaluationError(f"7-Scenes has no split '{split}'; it has train, test and all")
    path = folder / names[split]
    if not path.is_file():
        raise EvaluationError(
            f"scene '{folder}' has no {path.name}, which says the split; take the split all"
        )
    numbers = [int(n) for n in re.findall(r'(\d+)', path.read_text())]
    chosen = [folder / f'seq-{n:02d}' for n in numbers]
    missing = [p for p in chosen if not p.is_dir()]
    if missing:
        raise EvaluationError(f"'{path}' names '{missing[0].name}', which is not in '{folder}'")
    return chosen


def open_tum_rgbd(root, split='all', sequences=None, step=1):
    """
    Open TUM RGB-D (Sturm et al., IROS 2012).

    :param root: one sequence, or a folder of sequences.
    :param split: 'all'; the benchmark has no splits, name ``sequences`` instead.
    :param sequences: names of folders; None: all that are there.
    """
    if split not in ('all', 'train', 'val', 'test'):
        raise EvaluationError(f"TUM RGB-D has no split '{split}'; name the sequences instead")
    root = open_root(root, 'TUM RGB-D', TUM_EXPECTED)
    if (root / 'rgb.txt').is_file():
        found = {root.resolve().name: root}
    else:
        found = {p.name: p for p in sorted(root.iterdir()) if (p / 'rgb.txt').is_file()}
    if sequences is not None:
        missing = [s for s in _as_list(sequences) if s not in found]
        if missing:
            raise EvaluationError(f"'{root}' has no sequence {', '.join(missing)}; it has {', '.join(found)}")
        found = {name: found[name] for name in _as_list(sequences)}
    if not found:
        raise EvaluationError(f"'{root}' holds no sequence of TUM RGB-D; expected there: {TUM_EXPECTED}")
    opened = {name: open_sequence(folder) for name, folder in found.items()}
    return SequenceSet(opened, ('depth', 'poses'), step, depth_limits=(0.1, 10.0))


def open_rendered(root=None, split='train', worlds=None, length=120, step=1, width=640, height=480):
    """
    Open worlds that the project renders itself, with exact depth, classes and poses.

    :param root: 'SCENE' or 'SCENE:SEED' ('rendered:street:7' too), instead of ``worlds``.
    :param split: not used; seeds make the split.
    :param worlds: {scene: [first seed, seed after the last]}, scenes street, loop, room.
    :param length: frames of each world.
    """
    from mt_perception.sequences.rendered import RenderedSequence  # late: it brings the renderer

    if worlds is None:
        text = str(root or 'street:0').removeprefix('rendered:')
        scene, _, seed = text.partition(':')
        seed = seed or '0'
        if not seed.isdigit():
            raise EvaluationError(f"'{root}' is not SCENE:SEED with a whole number as seed")
        worlds = {scene: [int(seed), int(seed) + 1]}
    sequences = {
        f'{scene}_{seed}': RenderedSequence(scene, seed, length, width, height)
        for scene, seeds in worlds.items()
        for seed in range(*seeds)
    }
    return SequenceSet(sequences, ('segmentation', 'depth', 'poses'), step, depth_limits=(0.1, 80.0))


def open_any_sequence(root, split='all', step=1):
    """Open anything that open_sequence does; the frames have what the sequence has."""
    sequence = open_sequence(root)
    first = sequence[0]
    provides = [
        name
        for name, value in (('segmentation', first.labels), ('depth', first.depth), ('poses', first.pose))
        if value is not None
    ]
    return SequenceSet({sequence.name: sequence}, provides, step)


def _as_list(value):
    return [value] if isinstance(value, (str, int, Path)) else list(value)
