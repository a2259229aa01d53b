"""The common shape of a sample, and what every set of frames can do."""

from dataclasses import dataclass, field

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import EvaluationError

IGNORE_INDEX = 255
LABELS = ('segmentation', 'panoptic', 'depth', 'poses')


@dataclass
class Segment:
    """
    One object, or all of one kind of stuff, in a panoptic label.

    :param id: its value in ``Sample.segment_ids``, > 0.
    :param class_id: class id of the set.
    :param is_thing: a countable object.
    :param is_crowd: a group of objects that were not told apart.
    """

    id: int
    class_id: int
    is_thing: bool = False
    is_crowd: bool = False


@dataclass
class Sample:
    """
    One image with the labels it has; what it lacks is None.

    :param name: unique in its set, usable as a relative file name without suffix ('aachen/aachen_000000_…').
    :param image: [H,W,3] uint8 RGB.
    :param labels: [H,W] uint8 class ids of the set, ``IGNORE_INDEX`` = unlabelled.
    :param depth: [H,W] float32 metres along the camera's Z, NaN where unknown.
    :param camera: intrinsics of ``image``.
    :param pose: [4,4] float64 camera-to-world in metres (optical frame).
    :param segment_ids: [H,W] int32, 0 = in no segment.
    :param segments: list of :class:`Segment`.
    :param index: number of the frame in its sequence or set.
    :param group: samples of one group share a world; a sequence, a scene.
    :param moving: [H,W] bool: shows something that moves by itself.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray | None = None
    depth: np.ndarray | None = None
    camera: Camera | None = None
    pose: np.ndarray | None = None
    segment_ids: np.ndarray | None = None
    segments: list = field(default_factory=list)
    index: int = 0
    group: str = ''
    moving: np.ndarray | None = None


class FrameSet:
    """
    A set of images with labels: ``len(set)``, ``set[i]`` reads a :class:`Sample` from disk.

    :ivar class_names: names of the class ids 0, 1, …; empty without segmentation.
    :ivar class_colors: [r, g, b] of each class.
    :ivar provides: what the samples may have, out of ``LABELS``; a single sample may lack it.
    :ivar depth_limits: (smallest, largest) depth in metres that an evaluation counts, or None for its
        default.
    """

    class_names = ()
    class_colors = ()
    provides = ()
    depth_limits = None

    def __len__(self):
        """Return the number of samples."""
        raise NotImplementedError

    def __getitem__(self, index):
        """Read sample ``index``."""
        raise NotImplementedError

    def name_of(self, index):
        """Return the name of sample ``index`` without reading more than needed."""
        return self[index].name

    def image_path(self, index):
        """Return the path of image ``index``, or None where it is not one file."""
        return None


class NamedImages(FrameSet):
    """
    A set with one image file for every name.

    :param images: {name: path}, in the order of the set.
    """

    def __init__(self, images):
        self.images, self.names = images, list(images)

    def __len__(self):
        """Return the number of images."""
        return len(self.names)

    def name_of(self, index):
        """Return the name of image ``index``."""
        return self.names[index]

    def image_path(self, index):
        """Return the path of image ``index``."""
        return self.images[self.names[index]]


class Part(FrameSet):
    """
    Some samples of a set.

    :param whole: the set.
    :param indices: which.
    """

    def __init__(self, whole, indices):
        self.whole, self.indices = whole, list(indices)
        self.class_names, self.class_colors = whole.class_names, whole.class_colors
        self.provides, self.depth_limits = whole.provides, whole.depth_limits

    def __len__(self):
        """Return the number of samples."""
        return len(self.indices)

    def __getitem__(self, index):
        """Read sample ``index`` of the part."""
        return self.whole[self.indices[index]]

    def name_of(self, index):
        """Return the name of sample ``index`` of the part."""
        return self.whole.name_of(self.indices[index])

    def image_path(self, index):
        """Return the path of image ``index`` of the part, or None."""
        return self.whole.image_path(self.indices[index])


def take(frames, selection):
    """
    Return the samples ``selection`` of a set.

    :param selection: a slice, 'A:B', 'A:B:STEP' or None for all.
    :raises EvaluationError: not of that form, or nothing left.
    """
    if selection is None or selection == '':
        return frames
    if isinstance(selection, str):
        try:
            parts = [int(p) if p.strip() else None for p in selection.split(':')]
        except ValueError:
            parts = []
        if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] is not None and parts[2] < 1):
            raise EvaluationError(f"'{selection}' is not a range like 320:400 or 0:100:5")
        selection = slice(*parts)
    indices = range(len(frames))[selection]
    if not indices:
        raise EvaluationError(
            f'the range {selection.start}:{selection.stop} selects none of {len(frames)} images'
        )
    return Part(frames, indices)


def check_size(array, image, path):
    """Raise an EvaluationError unless a label or depth image has the size of its image."""
    if array.shape[:2] != image.shape[:2]:
        raise EvaluationError(
            f"'{path}' is {array.shape[1]} × {array.shape[0]} pixels, "
            f'but its image is {image.shape[1]} × {image.shape[0]}'
        )


def check_ids(labels, count, path, expected):
    """
    Raise an EvaluationError unless a label image holds ids below ``count`` and ``IGNORE_INDEX`` only.

    :param expected: what may be there, the end of the sentence.
    """
    wrong = labels[(labels >= count) & (labels != IGNORE_INDEX)]
    if wrong.size:
        raise EvaluationError(f"'{path}' holds the value {wrong[0]}; {expected}")
