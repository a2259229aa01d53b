"""
ADE20K as SceneParse150 (Zhou et al., CVPR 2017), the benchmark of 150 classes.

Layout of ADEChallengeData2016::

    images/training/ADE_train_00000001.jpg           annotations/training/ADE_train_00000001.png
    images/validation/ADE_val_00000001.jpg           annotations/validation/ADE_val_00000001.png

A pixel of an annotation is 0 = other (ignored here) or 1–150; class id = value − 1.
"""

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.ade20k_classes import CLASS_NAMES
from mt_training.data.readers.images import read_class_ids, read_rgb
from mt_training.data.readers.layout import (
    choose_split,
    find_folder,
    images_by_key,
    labels_of,
    open_root,
)
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.sample import IGNORE_INDEX, NamedImages, Sample, check_size

EXPECTED = (
    'images/training, images/validation with jpg and annotations/training, annotations/validation with png '
    '(ADEChallengeData2016)'
)
SPLITS = {'train': 'training', 'val': 'validation', 'training': 'training', 'validation': 'validation'}
INNER = 'ADEChallengeData2016'  # the archive's own folder; its parent will do as the root


class Ade20k(NamedImages):
    """
    One split of SceneParse150.

    :param root: ADEChallengeData2016 or the folder it is in.
    :param split: 'train' or 'val'.
    :raises EvaluationError: folders or annotations are missing.
    """

    class_names = CLASS_NAMES
    class_colors = bit_colors(len(CLASS_NAMES))
    provides = ('segmentation',)

    def __init__(self, root, split='train'):
        root = open_root(root, 'ADE20K', EXPECTED)
        if (root / INNER).is_dir():
            root = root / INNER
        part = choose_split(split, SPLITS, 'ADE20K')
        images = find_folder(root, [f'images/{part}'], 'ADE20K', EXPECTED)
        maps = find_folder(root, [f'annotations/{part}'], 'ADE20K', EXPECTED)
        super().__init__(images_by_key(images, recursive=False))
        self.labels = labels_of(self.images, maps, f'ADE20K {part}', images, EXPECTED)

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        image, values = read_rgb(self.images[name]), read_class_ids(self.labels[name])
        check_size(values, image, self.labels[name])
        if values.max(initial=0) > len(CLASS_NAMES):
            raise EvaluationError(
                f"'{self.labels[name]}' holds the value {values.max()}; annotations of SceneParse150 "
                'hold 0–150 '
                '(those of the full ADE20K are another format)'
            )
        labels = np.where(values == 0, IGNORE_INDEX, values - 1).astype(np.uint8)
        return Sample(name, image, labels, index=index)
