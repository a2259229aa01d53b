"""Loops that count once neighbouring keyframes agree on them."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from mt_perception.place_recognition.similarity import angle_of, invert, scale_of
from mt_perception.place_recognition.verification import Relation

MAX_SCALE_STEP = 0.2  # logarithm of the scale between two loops that agree


@dataclass
class Loop:
    """
    Two keyframes that show the same place.

    :param earlier: number of the earlier keyframe.
    :param later: number of the later one.
    :param score: cosine of their global descriptors.
    :param relation: :class:`Relation`.
    """

    earlier: int
    later: int
    score: float
    relation: Relation

    def renumbered(self, place):
        """Return the loop with the numbers that ``place`` gives to its keyframes."""
        return replace(self, earlier=place[self.earlier], later=place[self.later])


class SequenceConsistency:
    """
    Holds verified loops back until enough neighbouring keyframes have loops that say the same.

    Two loops agree when odometry carries one over to the other: with A the motion between the earlier
    keyframes and B that between the later ones, Z' = A Z B.

    :param parameters: :class:`PlaceParameters`.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self._held = deque()

    def feed(self, loops, newest, pose_of):
        """
        Take the verified loops of one keyframe.

        :param loops: list of :class:`Loop` of the keyframe ``newest``.
        :param newest: its number.
        :param pose_of: function that returns the pose [4,4] of a keyframe by number.
        :return: loops that count now, the older ones first; each is returned once.
        """
        p = self.parameters
        while self._held and self._held[0][0].later < newest - p.consistency_window:
            self._held.popleft()
        accepted = []
        for loop in loops:
            entry = [loop, p.consistent_keyframes <= 1]
            agreeing = [other for other in self._held if self._agree(other[0], loop, pose_of)]
            keyframes = {other[0].later for other in agreeing} | {loop.later}
            if len(keyframes) >= p.consistent_keyframes:
                for other in agreeing:
                    if not other[1]:
                        accepted.append(other[0])
                        other[1] = True
                entry[1] = True
            if entry[1]:
                accepted.append(loop)
            self._held.append(entry)
        return accepted

    def _agree(self, first, second, pose_of):
        """Whether two loops of different later keyframes say the same about the place."""
        p = self.parameters
        if first.later == second.later:
            return False
        if abs(first.earlier - second.earlier) > 2 * p.consistency_window:
            return False
        earlier = invert(pose_of(second.earlier)) @ pose_of(first.earlier)
        later = invert(pose_of(first.later)) @ pose_of(second.later)
        a, b = first.relation, second.relation
        carried = earlier @ a.transform @ later
        error = invert(b.transform) @ carried
        if angle_of(error) > np.radians(p.consistency_angle_deg):
            return False
        if not (a.has_length and b.has_length):
            return True
        if a.has_scale and b.has_scale and abs(np.log(scale_of(error))) > MAX_SCALE_STEP:
            return False
        way = np.linalg.norm(later[:3, 3]) + np.linalg.norm(b.transform[:3, 3]) / scale_of(b.transform)
        allowed = p.consistency_share * way + p.consistency_offset * b.distance
        return bool(np.linalg.norm(error[:3, 3]) <= allowed)
