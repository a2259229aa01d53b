"""Mutual nearest neighbours in descriptor space."""

import numpy as np

from mt_perception.errors import ModelError
from mt_perception.matching.base import Matcher, Matches


class NearestMatcher(Matcher):
    """
    Pairs of keypoints that are each other's most similar one.

    :param min_similarity: smallest cosine of the angle between the two descriptors.
    :param ratio: Lowe's ratio test (IJCV 2004, section 7.1): the distance to the best is below this part of
        the distance to the second best; None = no test.
    """

    name = 'nearest'

    def __init__(self, min_similarity=0.0, ratio=None):
        self.min_similarity = min_similarity
        self.ratio = ratio

    def match(self, first, second):
        """Match two sets of keypoints; see :meth:`mt_perception.matching.base.Matcher.match`."""
        check_same_model(first, second)
        if len(first) == 0 or len(second) == 0:
            return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
        similarity = first.descriptors @ second.descriptors.T
        best = similarity.argmax(1)
        rows = np.arange(len(first))
        score = similarity[rows, best]
        keep = (score == similarity.max(0)[best]) & (score >= self.min_similarity)
        if self.ratio is not None and len(second) > 1:
            similarity[rows, best] = -np.inf
            # of unit vectors: distance² = 2 - 2 cosine
            keep &= (1 - score) < self.ratio**2 * (1 - similarity.max(1))
        kept = np.flatnonzero(keep)
        kept = kept[np.sort(np.unique(best[kept], return_index=True)[1])]  # of equal descriptors the first
        index = np.stack([kept, best[kept]], 1).astype(np.int64)
        return Matches(index, np.clip(score[kept], 0, 1).astype(np.float32))


def check_same_model(first, second):
    """
    Refuse to compare descriptors of different networks.

    :raises ModelError: the sets have different ``model_id`` or descriptor lengths.
    """
    if first.model_id != second.model_id:
        raise ModelError(
            f"keypoints of model '{first.model_id}' cannot be matched with keypoints of model "
            f"'{second.model_id}': their descriptors mean different things"
        )
    if len(first) and len(second) and first.descriptors.shape[1] != second.descriptors.shape[1]:
        raise ModelError(
            f"keypoints of model '{first.model_id}' have descriptors of {first.descriptors.shape[1]} and of "
            f'{second.descriptors.shape[1]} numbers'
        )
