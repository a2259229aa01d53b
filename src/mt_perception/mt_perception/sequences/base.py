"""The contract of a sequence: images in time order, with what is known about them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mt_perception.camera import Camera


@dataclass
class SequenceFrame:
    """
    One frame of a sequence.

    :param index: position in the sequence (before any ``--frames`` selection).
    :param stamp: seconds, increasing.
    :param image: [H,W,3] uint8 RGB (gray images are repeated).
    :param camera: intrinsics of ``image``, or None when the sequence has none.
    :param pose: [4,4] float64 camera-to-world ground truth in metres (optical frame), or None.
    :param depth: [H,W] float32 metres registered to ``image``, NaN where unknown, or None.
    :param labels: [H,W] uint8 class ids, 255 = unlabelled, or None.
    :param moving: [H,W] bool: shows something that moves by itself, or None where that is not known.
    """

    index: int
    stamp: float
    image: np.ndarray
    camera: Camera | None = None
    pose: np.ndarray | None = None
    depth: np.ndarray | None = None
    labels: np.ndarray | None = None
    moving: np.ndarray | None = None


class Sequence(ABC):
    """
    Images in time order.

    ``len(sequence)`` frames; ``sequence[i]`` reads frame ``i`` from disk (or renders it) and raises
    :class:`mt_perception.errors.SequenceError` naming the file when that fails; iteration goes
    through all of them. ``stamps`` and ``poses`` are known without reading images.

    :ivar name: short name for tables and output folders.
    :ivar camera: :class:`Camera` of all frames, or None.
    :ivar stamps: [N] float64 seconds.
    :ivar poses: list of N [4,4] camera-to-world ground-truth poses (an entry may be None), or None.
    """

    name: str
    camera: Camera | None
    stamps: np.ndarray
    poses: list | None

    @abstractmethod
    def __len__(self):
        """Return the number of frames."""

    @abstractmethod
    def __getitem__(self, index):
        """Return frame ``index`` as a :class:`SequenceFrame`."""

    def skip_depth(self):
        """Say that nobody needs the frames' depth: where reading it takes time, it is None from now on."""
        return

    def __iter__(self):
        """Go through all frames in time order."""
        for index in range(len(self)):
            yield self[index]
