"""The height of the camera above the ground, in map units, from map points on the ground."""

import numpy as np

FEWEST = 4  # points on the ground a height is made from
# how well the camera is known to look along the ground and to be level to the sides before anything is seen
PITCH_SIGMA, ROLL_SIGMA = np.radians(4.0), np.radians(0.5)
COURSE_SIGMA = np.radians(2.0)  # of the angle between the direction of travel and the ground
HEIGHT_SIGMA = 0.1  # relative, of a point's height: its depth and bumps
REACH, WIDTH = 15.0, 2.0  # in heights: farther points say little, and beside the lane kerbs begin
MEMORY = 0.98  # of what is known of the tilt, per keyframe
TURNED = np.radians(3.0)  # between two keyframes: the course is not straight


class Ground:
    """
    The plane that the camera's carrier moves on, as the camera sees it.

    How the camera is tilted against it is learned over time from the points themselves (the height must not
    depend on the distance) and from the direction of travel, which lies in the plane; the height is the
    median over the points of one keyframe. Heights enter as ratios, so the scale of the map does not matter
    and may drift.

    :param down: [3] direction in the optical frame that is down when the carrier stands level.
    """

    def __init__(self, down=(0.0, 1.0, 0.0)):
        down = np.asarray(down, np.float64)
        self._down = down / np.linalg.norm(down)
        forward = np.array([0.0, 0.0, 1.0]) if abs(self._down[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
        right = np.cross(self._down, forward)
        right /= np.linalg.norm(right)
        self._across = np.stack([np.cross(right, self._down), right])  # [2,3] ahead and aside
        self._prior = np.diag([PITCH_SIGMA**-2, ROLL_SIGMA**-2])
        self._information = np.zeros((2, 2))
        self._vector = np.zeros(2)

    @property
    def normal(self):
        """Unit vector [3] down to the ground, in the optical frame."""
        tilt = np.linalg.solve(self._prior + self._information, self._vector)
        normal = self._down + tilt @ self._across
        return normal / np.linalg.norm(normal)

    def learn_course(self, step):
        """
        Take in how the camera moved between two keyframes.

        :param step: [4,4] the later camera in the earlier one.
        """
        length = np.linalg.norm(step[:3, 3])
        turn = np.arccos(np.clip((np.trace(step[:3, :3]) - 1) / 2, -1, 1))
        if length == 0 or turn > TURNED:
            return
        course = step[:3, 3] / length
        self._add((self._across @ course)[None], np.array([-self._down @ course]), COURSE_SIGMA)

    def height(self, points):
        """
        Height of the camera above points on the ground.

        :param points: [N,3] in the optical frame, map units.
        :return: (log of the height in map units, its standard deviation), or None with too few points.
        """
        heights = points @ self.normal
        points, heights = points[heights > 0], heights[heights > 0]
        if len(heights) < FEWEST:
            return None
        typical = np.median(heights)
        ahead, aside = np.abs(points @ self._across.T).T
        near = (ahead < REACH * typical) & (aside < WIDTH * typical)
        points, heights = points[near], heights[near]
        if len(heights) < FEWEST:
            return None
        logs = np.log(heights)
        middle = np.median(logs)
        spread = max(1.4826 * np.median(np.abs(logs - middle)), HEIGHT_SIGMA)
        # 1.2533 sigma / sqrt(n) is the standard error of a median
        sigma = 1.2533 * spread / np.sqrt(len(logs))
        self._information *= MEMORY
        self._vector *= MEMORY
        # (down + tilt · across) · p = h for all points: relative heights, the common one taken out
        relative = points / np.exp(middle)
        weight = 1 / (1 + ((logs - middle) / (2 * spread)) ** 2)
        rows, left = relative @ self._across.T, 1 - relative @ self._down
        rows = rows - (weight @ rows) / weight.sum()
        left = left - (weight @ left) / weight.sum()
        root = np.sqrt(weight)
        self._add(rows * root[:, None], left * root, spread)
        return float(middle), float(sigma)

    def _add(self, rows, values, sigma):
        """Add equations ``rows`` [N,2] · tilt = ``values`` [N] to what is known of the tilt."""
        self._information += rows.T @ rows / sigma**2
        self._vector += rows.T @ values / sigma**2
