"""
Mapillary Vistas (Neuhold et al., ICCV 2017), versions 1.2 (66 classes) and 2.0 (124).

Layout of v1.2::

    config.json
    training/images/NAME.jpg   training/labels/NAME.png   training/instances/NAME.png

Layout of v2.0, whose archive has both versions' labels::

    config_v1.2.json   config_v2.0.json
    training/images/NAME.jpg   training/v2.0/labels/NAME.png   training/v2.0/instances/NAME.png   (and v1.2/)

A pixel of ``labels`` (a palette PNG) is the place of its class in the configuration's list; one of
``instances`` (16-bit) is 256 × that + the number of the object. Classes that the configuration does not
evaluate (unlabelled, …) are ignored. Splits: training, validation, testing (no labels).
"""

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.coco_panoptic import read_json
from mt_training.data.readers.images import read_class_ids, read_rgb, read_uint16
from mt_training.data.readers.layout import (
    choose_split,
    find_file,
    find_folder,
    images_by_key,
    labels_of,
    open_root,
)
from mt_training.data.readers.sample import IGNORE_INDEX, NamedImages, Sample, Segment, check_size

EXPECTED = (
    'config.json, training/images, training/labels and training/instances (v1.2), or config_v2.0.json, '
    'training/images and training/v2.0/labels and instances (v2.0)'
)
SPLITS = {
    'train': 'training',
    'val': 'validation',
    'test': 'testing',
    'training': 'training',
    'validation': 'validation',
    'testing': 'testing',
}
VERSIONS = ('v2.0', 'v1.2')


class Mapillary(NamedImages):
    """
    One split of Mapillary Vistas.

    :param root: folder of the configuration and the splits.
    :param split: 'train', 'val' or 'test'.
    :param version: 'v2.0' or 'v1.2'; None: the newest that is there.
    :param panoptic: read the instances too.
    :raises EvaluationError: files are missing or the configuration is damaged.
    """

    def __init__(self, root, split='train', version=None, panoptic=False):
        self.root = open_root(root, 'Mapillary Vistas', EXPECTED)
        self.split = choose_split(split, SPLITS, 'Mapillary Vistas')
        if version not in (None, *VERSIONS):
            raise EvaluationError(f"Mapillary Vistas has no version '{version}'; use {' or '.join(VERSIONS)}")
        self.version = version or next(
            (v for v in VERSIONS if (self.root / f'config_{v}.json').is_file()), 'v1.2'
        )
        configs = [f'config_{self.version}.json'] + ['config.json'] * (self.version == 'v1.2')
        self.config_path = find_file(self.root, configs, 'Mapillary Vistas', EXPECTED)
        self.classes = read_config(self.config_path)
        self.class_names = tuple(c['name'] for c in self.classes)
        self.class_colors = tuple(tuple(c['color']) for c in self.classes)
        self._kept = np.full(256, IGNORE_INDEX, np.uint8)
        used = [i for i, c in enumerate(self.classes) if c['evaluate']]
        self._kept[used] = used
        folder = find_folder(self.root, [f'{self.split}/images'], 'Mapillary Vistas', EXPECTED)
        super().__init__(images_by_key(folder, recursive=False))
        self.labels, self.instances = {}, {}
        if self.split != 'testing':
            self.labels = self._maps('labels')
            self.provides = ('segmentation',)
        if panoptic and self.labels:
            self.instances = self._maps('instances')
            self.provides = ('segmentation', 'panoptic')

    def _maps(self, kind):
        candidates = [f'{self.split}/{self.version}/{kind}']
        candidates += [f'{self.split}/{kind}'] * (self.version == 'v1.2')
        folder = find_folder(self.root, candidates, 'Mapillary Vistas', EXPECTED)
        return labels_of(self.images, folder, f'Mapillary Vistas {self.split}', candidates[-1], EXPECTED)

    def __getitem__(self, index):
        """Read sample ``index``."""
        name = self.names[index]
        sample = Sample(name, read_rgb(self.images[name]), index=index)
        if self.labels:
            path = self.labels[name]
            labels = read_class_ids(path)
            check_size(labels, sample.image, path)
            self._check_ids(labels, path)
            sample.labels = self._kept[labels]
        if self.instances:
            sample.segment_ids, sample.segments = self.panoptic(index)
            check_size(sample.segment_ids, sample.image, self.instances[name])
        return sample

    def panoptic(self, index):
        """
        Read the segments of image ``index``: each object, and all of each stuff class, is one.

        :return: (segment ids [H,W] int32 = 256 × (class id + 1) + object number, 0 = not evaluated; list of
            :class:`Segment`).
        """
        path = self.instances[self.names[index]]
        values = read_uint16(path).astype(np.int32)
        classes = values // 256
        self._check_ids(classes, path)
        countable = np.array([c['instances'] for c in self.classes])
        kept = self._kept[classes] != IGNORE_INDEX
        ids = np.where(kept, 256 * (classes + 1) + np.where(countable[classes], values % 256, 0), 0)
        segments = [
            Segment(int(i), int(i) // 256 - 1, bool(countable[int(i) // 256 - 1]))
            for i in np.unique(ids)
            if i
        ]
        return ids.astype(np.int32), segments

    def _check_ids(self, classes, path):
        if classes.max(initial=0) >= len(self.classes):
            raise EvaluationError(
                f"'{path}' has the class {classes.max()}, but '{self.config_path.name}' lists "
                f'{len(self.classes)}: labels and configuration are of different versions'
            )


def read_config(path):
    """
    Read the classes of a configuration: list of dicts with name, readable, color, instances, evaluate.

    :raises EvaluationError: damaged, or more classes than fit 8 bits.
    """
    content = read_json(path)
    try:
        classes = [
            {
                'name': entry['name'],
                'readable': entry.get('readable', entry['name']),
                'color': [int(v) for v in entry['color'][:3]],
                'instances': bool(entry['instances']),
                'evaluate': bool(entry['evaluate']),
            }
            for entry in content['labels']
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"'{path}' is no configuration of Mapillary Vistas: {error!r}; it needs labels with name, color, "
            'instances and evaluate'
        ) from None
    if not 0 < len(classes) < IGNORE_INDEX:
        raise EvaluationError(f"'{path}' lists {len(classes)} classes, not 1–254")
    return classes
