"""The trajectory, kept so that it can still be corrected."""

import numpy as np

from mt_perception.odometry.geometry import inverse


class Record:
    """
    A frame of the trajectory: its pose relative to a keyframe, whose corrections move it too.

    :ivar stamp: seconds.
    :ivar tracked: the pose was located against a map.
    """

    __slots__ = ('stamp', 'tracked', '_anchor', '_relative')

    def __init__(self, stamp, keyframe, world_to_camera, tracked):
        """:param keyframe: :class:`Frame` to tie the pose to, or None for the world."""
        self.stamp = stamp
        self.anchor_to(keyframe, world_to_camera, tracked)

    def anchor_to(self, keyframe, world_to_camera, tracked):
        """Replace the pose by ``world_to_camera`` [4,4], tied to ``keyframe``."""
        self.tracked = tracked
        self._anchor = keyframe
        pose = inverse(world_to_camera)
        self._relative = pose if keyframe is None else keyframe.world_to_camera @ pose

    @property
    def pose(self):
        """Camera-to-world [4,4], as known now."""
        return np.array(self._relative) if self._anchor is None else self._anchor.pose @ self._relative
