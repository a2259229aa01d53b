"""
Labels made by ``pseudo_label``, beside the images they were made for.

Layout of its output::

    manifest.json                        teacher, tasks, class names, what depth means
    segmentation/NAME.png                8-bit class ids, 255 = none
    segmentation_confidence/NAME.png     8-bit, 255 × confidence
    depth/NAME.png                       16-bit, metres × 256, 0 = none
    depth_confidence/NAME.png            8-bit, 255 × confidence
"""

from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.coco_panoptic import read_json
from mt_training.data.readers.images import read_class_ids, read_depth
from mt_training.data.readers.layout import open_root
from mt_training.data.readers.sample import IGNORE_INDEX, FrameSet, check_size

EXPECTED = 'manifest.json and segmentation/ or depth/, as pseudo_label writes them'
MANIFEST = 'manifest.json'
DEPTH_UNITS_PER_METRE = 256
TASKS = ('segmentation', 'depth')


class WithPseudoLabels(FrameSet):
    """
    A set whose missing labels come from a teacher; what the set has itself stays.

    :param frames: :class:`FrameSet` with the images, opened as when the labels were made.
    :param folder: output of ``pseudo_label``.
    :param min_confidence: labels below it are left out, 0–1; of depth and segmentation alike.
    :param relative_depth: take depth that the teacher knows up to scale only; otherwise it is left out.
    :raises EvaluationError: no such folder, or an image has no labels there.
    """

    def __init__(self, frames, folder, min_confidence=0.5, relative_depth=False):
        self.frames, self.folder = frames, open_root(folder, 'pseudo label', EXPECTED)
        if not 0 <= min_confidence <= 1:
            raise EvaluationError(f'a smallest confidence of {min_confidence} is not between 0 and 1')
        manifest = read_manifest(self.folder)
        self.min_confidence = min_confidence
        metric = manifest.get('depth_kind') == 'metric'
        self.tasks = [
            task
            for task in manifest['tasks']
            if task not in frames.provides and (task != 'depth' or metric or relative_depth)
        ]
        if not self.tasks:
            raise EvaluationError(
                f"'{self.folder}' has no labels that the set lacks: it has {', '.join(manifest['tasks'])}"
                + (
                    ''
                    if metric or 'depth' not in manifest['tasks']
                    else ' (depth without scale: set relative_depth)'
                )
            )
        self.provides = tuple(frames.provides) + tuple(self.tasks)
        self.depth_limits = frames.depth_limits
        own = 'segmentation' not in self.tasks
        self.class_names = frames.class_names if own else tuple(manifest['class_names'])
        self.class_colors = frames.class_colors if own else tuple(map(tuple, manifest['class_colors']))
        missing = [
            self.frames.name_of(i)
            for i in range(len(frames))
            if not all(label_path(self.folder, t, frames.name_of(i)).is_file() for t in self.tasks)
        ]
        if missing:
            raise EvaluationError(
                f"'{self.folder}' has no {' and '.join(self.tasks)} for '{missing[0]}' ({len(missing)} of "
                f'{len(frames)} images): run pseudo_label to the end, on the same data set and split'
            )

    def __len__(self):
        """Return the number of images."""
        return len(self.frames)

    def name_of(self, index):
        """Return the name of sample ``index``."""
        return self.frames.name_of(index)

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.frames.image_path(index)

    def __getitem__(self, index):
        """Read sample ``index``."""
        sample = self.frames[index]
        for task in self.tasks:
            path = label_path(self.folder, task, sample.name)
            confidence = read_class_ids(label_path(self.folder, f'{task}_confidence', sample.name))
            weak = confidence < self.min_confidence * 255
            if task == 'segmentation':
                values = read_class_ids(path).copy()
                values[weak] = IGNORE_INDEX
                sample.labels = values
            else:
                values = read_depth(path, DEPTH_UNITS_PER_METRE)
                values[weak] = np.nan
                sample.depth = values
            check_size(values, sample.image, path)
        return sample


def label_path(folder, kind, name):
    """Return where the labels ``kind`` ('segmentation', 'depth_confidence', …) of image ``name`` are."""
    return Path(folder) / kind / f'{name}.png'


def read_manifest(folder):
    """Read and check ``manifest.json``: tasks, class_names and class_colors, depth_kind."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise EvaluationError(f"'{folder}' has no {MANIFEST}; expected there: {EXPECTED}")
    manifest = read_json(path)
    tasks = manifest.get('tasks') if isinstance(manifest, dict) else None
    if not tasks or any(t not in TASKS for t in tasks):
        raise EvaluationError(f"'{path}' is no manifest of pseudo_label: its tasks are {tasks}")
    if 'segmentation' in tasks and not manifest.get('class_names'):
        raise EvaluationError(f"'{path}' does not name the classes of its segmentation")
    return manifest
