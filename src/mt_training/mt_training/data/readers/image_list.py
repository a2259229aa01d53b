"""Images without labels: folders of them, and the images of sets made for another purpose."""

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import read_rgb
from mt_training.data.readers.layout import images_by_key, open_root
from mt_training.data.readers.sample import NamedImages, Sample

EXPECTED = 'images (jpg, png, …), also in folders below'


class ImageList(NamedImages):
    """
    Images without labels.

    :param images: {name: path}.
    """

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        return Sample(name, read_rgb(self.images[name]), index=index, group=name.rpartition('/')[0])


def open_images(root, split='all', recursive=True):
    """
    Open a folder of images.

    :param split: name of a folder below ``root``, or 'all' of it.
    :param recursive: folders below too.
    :raises EvaluationError: no such folder, or no image in it.
    """
    root = open_root(root, 'image', EXPECTED)
    folder = root if split == 'all' else root / split
    if not folder.is_dir():
        raise EvaluationError(f"image folder '{root}' has no folder '{split}'")
    images = images_by_key(folder, recursive)
    if not images:
        raise EvaluationError(f"image folder '{folder}' holds no image; expected there: {EXPECTED}")
    return ImageList(images)


def images_of_scenes(scenes):
    """Return the images of planar scenes as a :class:`ImageList`."""
    return ImageList({f'{scene.name}/{path.stem}': path for scene in scenes for path in scene.images})


def images_of_places(places):
    """Return references and queries of a set of places as a :class:`ImageList`."""
    paths = {f'references/{i:06d}': p for i, p in enumerate(places.references)}
    return ImageList({**paths, **{f'queries/{i:06d}': p for i, p in enumerate(places.queries)}})
