"""
COCO-Stuff (Caesar et al., CVPR 2018): pixel maps of 80 kinds of things and 91 of stuff on COCO 2017.

Layout: images in ``train2017/`` or ``images/train2017/``; the maps of stuffthingmaps_trainval2017.zip in
``stuffthingmaps/train2017/``, ``annotations/train2017/`` or ``stuffthingmaps_trainval2017/train2017/``,
``000000000009.png`` for ``000000000009.jpg``. A pixel is the id of COCO's label list less one (0 = person …
181 = wood, eleven of them unused), 255 = unlabelled.
"""

import numpy as np

from mt_training.data.readers.coco_stuff_classes import LABELS, UNUSED
from mt_training.data.readers.images import read_class_ids, read_rgb
from mt_training.data.readers.layout import (
    choose_split,
    find_folder,
    images_by_key,
    labels_of,
    open_root,
)
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.sample import IGNORE_INDEX, NamedImages, Sample, check_ids, check_size

EXPECTED = (
    'train2017/ and val2017/ with images (or images/train2017/ …) and stuffthingmaps/train2017/ … (or '
    'annotations/train2017/ …) with a png of the same name'
)
SPLITS = {'train': 'train2017', 'val': 'val2017', 'train2017': 'train2017', 'val2017': 'val2017'}
MAP_FOLDERS = ('stuffthingmaps', 'annotations', 'stuffthingmaps_trainval2017', 'annotations/stuffthingmaps')
# pixel value → class id; the ids of unused labels are left out, so that 171 classes remain
USED = [value for value, name in enumerate(LABELS) if name not in UNUSED]
CLASS_OF_VALUE = np.full(256, IGNORE_INDEX, np.uint8)
CLASS_OF_VALUE[USED] = np.arange(len(USED))
FIRST_STUFF = 91  # pixel value


class CocoStuff(NamedImages):
    """
    One split of COCO-Stuff.

    :param root: folder of the images and the maps.
    :param split: 'train' or 'val'.
    :raises EvaluationError: folders or maps are missing.
    """

    class_names = tuple(LABELS[value] for value in USED)
    class_colors = bit_colors(len(USED))
    provides = ('segmentation',)

    def __init__(self, root, split='train'):
        root = open_root(root, 'COCO-Stuff', EXPECTED)
        part = choose_split(split, SPLITS, 'COCO-Stuff')
        maps = find_folder(root, [f'{folder}/{part}' for folder in MAP_FOLDERS], 'COCO-Stuff', EXPECTED)
        images = find_folder(root, [f'images/{part}', part], 'COCO-Stuff', EXPECTED)
        super().__init__(images_by_key(images, recursive=False))
        self.labels = labels_of(self.images, maps, f'COCO-Stuff {part}', images, EXPECTED)

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        image, values = read_rgb(self.images[name]), read_class_ids(self.labels[name])
        check_size(values, image, self.labels[name])
        check_ids(values, len(LABELS), self.labels[name], 'pixel maps of COCO-Stuff hold 0–181 or 255')
        return Sample(name, image, CLASS_OF_VALUE[values], index=index)
