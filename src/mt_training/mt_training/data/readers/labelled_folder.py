"""
Your own segmentation set: images and class-id maps of the same name.

Layout: ``SPLIT/images/NAME.jpg`` and ``SPLIT/labels/NAME.png`` (or ``images/`` and ``labels/`` without a
split), folders below kept; 8-bit or palette PNG, 255 = unlabelled. ``classes.yaml`` in the root lists the
names.
"""

import yaml

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import read_class_ids, read_rgb
from mt_training.data.readers.layout import find_folder, images_by_key, labels_of, open_root
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.sample import IGNORE_INDEX, NamedImages, Sample, check_ids, check_size

EXPECTED = (
    'SPLIT/images, SPLIT/labels with png of the same names, and classes.yaml with a list of class names'
)


class LabelledFolder(NamedImages):
    """
    One split of a folder of images and class ids.

    :param split: a folder below ``root``, or 'all' when images/ and labels/ are in the root.
    :param classes: list of class names; None: those of classes.yaml.
    :param unlabelled: further values that mean unlabelled.
    :raises EvaluationError: folders, labels or names are missing.
    """

    provides = ('segmentation',)

    def __init__(self, root, split='train', classes=None, unlabelled=()):
        root = open_root(root, 'labelled image', EXPECTED)
        prefix = '' if split == 'all' else f'{split}/'
        images = find_folder(root, [f'{prefix}images'], 'labelled image', EXPECTED)
        labels = find_folder(root, [f'{prefix}labels'], 'labelled image', EXPECTED)
        super().__init__(images_by_key(images))
        self.labels = labels_of(self.images, labels, f'the split {split}', images, EXPECTED)
        self.class_names = tuple(classes or read_class_names(root / 'classes.yaml'))
        self.class_colors = bit_colors(len(self.class_names))
        self.unlabelled = tuple(unlabelled)

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        image, labels = read_rgb(self.images[name]), read_class_ids(self.labels[name]).copy()
        check_size(labels, image, self.labels[name])
        for value in self.unlabelled:
            labels[labels == value] = IGNORE_INDEX
        count = len(self.class_names)
        expected = f'there are {count} class names: name it in unlabelled, or add a class'
        check_ids(labels, count, self.labels[name], expected)
        return Sample(name, image, labels, index=index, group=name.rpartition('/')[0])


def read_class_names(path):
    """Read a YAML list of class names; EvaluationError when it is missing or no such list."""
    try:
        names = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise EvaluationError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise EvaluationError(f"'{path}' is not a list of class names")
    return names
