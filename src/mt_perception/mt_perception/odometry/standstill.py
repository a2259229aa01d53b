"""Standing still: a pose that does not creep while the camera rests (a zero-velocity update)."""

from collections import deque

import numpy as np

from mt_perception.odometry.geometry import inverse, orthonormal, se3_exp, se3_log

# squared Mahalanobis distances; with six degrees of freedom 50 % lie below 5.35, 95 % below 12.6
RESTS, AGREES, MOVED = 5.35, 12.6, 45.0
FEWEST = 5  # frames that must agree, and over which a departure is averaged


class Standstill:
    """
    Tells from pose estimates and their information whether the camera rests.

    It rests when the estimates of the last ``still_after_s`` seconds agree with each other and their first
    half has the same mean as the second. Then their mean is held, unchanged, until the estimates clearly
    leave it. So noise makes no motion, and of slow motion no more is lost than the noise of a pose or two.

    :param still_after_s: seconds; 0 switches it off.
    :ivar held: [4,4] world-to-camera that is held, None while the camera moves.
    """

    def __init__(self, still_after_s):
        self._after = still_after_s
        self.moved()

    def moved(self):
        """Forget everything, as after a loss or when the map has changed."""
        self.held = None
        self._recent = []  # (stamp, PoseEstimate) that agree with the first
        self._departures = deque(maxlen=FEWEST)  # twists from the pose that is held

    def settle(self, stamp, estimate):
        """
        Take the next frame's estimate and return the pose to use, world-to-camera [4,4].

        :param stamp: seconds.
        :param estimate: :class:`PoseEstimate`.
        """
        if self._after <= 0:
            return estimate.world_to_camera
        if self.held is not None:
            self._departures.append(twist(estimate, self.held))
            away, n = np.mean(self._departures, axis=0), len(self._departures)
            if n * away @ estimate.information @ away < MOVED:
                return self.held
            self.moved()
        while self._recent and not agree(estimate, self._recent[0][1]):
            self._recent.pop(0)
        self._recent.append((stamp, estimate))
        if len(self._recent) >= FEWEST and stamp - self._recent[0][0] >= self._after:
            estimates = [one for _, one in self._recent]
            middle = len(estimates) // 2
            first, information = mean(estimates[:middle])
            second, _ = mean(estimates[-middle:])
            change = se3_log(second @ inverse(first))
            if 0.5 * change @ information @ change < RESTS:
                self.held, _ = mean(estimates)
                self._recent = []
                return self.held
            self._recent.pop(0)
        return estimate.world_to_camera


def twist(estimate, world_to_camera):
    """Return how an estimate differs from a pose [4,4]: [6], translation and rotation."""
    return se3_log(estimate.world_to_camera @ inverse(world_to_camera))


def agree(one, other):
    """Return whether two estimates may be of the same pose."""
    away = twist(one, other.world_to_camera)
    return 0.5 * away @ one.information @ away < AGREES


def mean(estimates):
    """Return the mean [4,4] of poses close together, weighted with their information, and its own."""
    base = estimates[0].world_to_camera
    total, vector = 1e-9 * np.eye(6), np.zeros(6)
    for one in estimates:
        total += one.information
        vector += one.information @ twist(one, base)
    return orthonormal(se3_exp(np.linalg.solve(total, vector)) @ base), total
