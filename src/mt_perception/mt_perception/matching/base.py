"""The contract of a matcher."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass
class Matches:
    """
    Pairs of corresponding keypoints; no keypoint is in more than one pair.

    :param index: [M,2] int64, keypoint of the first and of the second image.
    :param scores: [M] float32 in 0–1, larger is surer.
    """

    index: np.ndarray
    scores: np.ndarray

    def __len__(self):
        """Return the number of pairs."""
        return len(self.index)


class Matcher(ABC):
    """Finds which keypoints of two images show the same point of the scene."""

    name: str

    @abstractmethod
    def match(self, first, second):
        """
        Match two sets of keypoints.

        :param first: :class:`mt_perception.types.Keypoints`.
        :param second: the same, of the same ``model_id``.
        :return: :class:`Matches`; empty when either set is empty.
        """
