"""How the camera moves through the worlds."""

import numpy as np

from mt_perception.rendering.pose import look

CAMERA_HEIGHT = 1.5  # metres above the road
WALL_M = 0.75  # metres that people keep from the walls, and what stands there
AISLE_M = 1.35  # metres from a wall to the middle of the way along it


class Drive:
    """The camera's way along the street: arc length in metres to a pose."""

    def __init__(self, rng, line, start, length, half_road):
        self.line = line
        self.start = start
        self.length = length
        self.closed = line.closed
        self.half_road = half_road
        self.lane = min(0.4 * half_road, half_road - 3.4)
        self.pitch = np.radians(rng.uniform(0.0, 4.0))
        self.phase = rng.uniform(0, 2 * np.pi, 5)

    def __call__(self, s, left=0.0, yaw=0.0):
        """
        Return the camera-to-world pose [4,4] after ``s`` metres.

        :param left: metres to the left of the lane.
        :param yaw: radians to the left of the driving direction.
        """
        p = self.phase
        sway = 0.15 * np.sin(s / 17 + p[0]) + 0.08 * np.sin(s / 7 + p[1])
        s = s + self.start
        height = CAMERA_HEIGHT + 0.015 * np.sin(s / 1.7 + p[2]) + 0.01 * np.sin(s / 0.9 + p[3])
        pitch = self.pitch + 0.004 * np.sin(s / 2.3 + p[3]) + 0.002 * np.sin(s / 0.8)
        roll = 0.006 * np.sin(s / 3.1 + p[4])
        heading = self.line.heading(s) + yaw + 0.02 * np.cos(s / 17 + p[0])
        return look(np.r_[self.line.at(s, self.lane + sway + left), height], heading, -pitch, roll)


class Walk:
    """A hand-held camera that wanders on an ellipse inside the room, looking at the table or across."""

    def __init__(self, rng, size, target):
        self.size = size
        self.radii = size / 2 - rng.uniform(0.75, 1.0, 2)
        self.target = target
        self.start = rng.uniform(0, 2 * np.pi)
        self.sense = rng.choice([-1, 1])
        self.across = rng.random() < 0.4
        self.phase = rng.uniform(0, 2 * np.pi, 9)
        self.height = rng.uniform(1.25, 1.6)
        self.closed = False
        self.length = np.inf

    def __call__(self, t):
        """Return the camera-to-world pose [4,4] after ``t`` seconds."""
        p = self.phase
        angle = self.start + self.sense * (0.22 * t + 0.25 * np.sin(0.31 * t + p[0]))
        reach = 0.8 + 0.2 * np.sin(0.43 * t + p[1])
        position = np.r_[
            reach * self.radii * (np.cos(angle), np.sin(angle)),
            self.height + 0.14 * np.sin(0.5 * t + p[2]) + 0.02 * np.sin(2.1 * t + p[3]),
        ]
        position[:2] += 0.012 * np.sin(np.array((2.7, 3.1)) * t + p[4:6])
        aim = self.target - position[:2]
        heading = np.arctan2(aim[1], aim[0])
        distance = max(0.7, np.hypot(*aim))
        elevation = -np.arctan2(position[2] - 0.75, distance) * 0.8
        if self.across:  # look across the room instead
            heading = angle + np.pi + 0.6 * np.sin(0.23 * t + p[8])
            elevation = -0.22
        heading += 0.30 * np.sin(0.37 * t + p[6]) + 0.015 * np.sin(3.3 * t + p[3])
        elevation += 0.12 * np.sin(0.61 * t + p[7]) + 0.012 * np.sin(2.9 * t + p[5])
        return look(position, heading, elevation, 0.06 * np.sin(0.8 * t + p[8]))

    def keep_inside(self, at):
        """Return the place [2] in the room that is nearest to ``at``."""
        return np.clip(at, WALL_M - self.size / 2, self.size / 2 - WALL_M)


class Round:
    """
    A hand-held camera that is carried round a room, looking ahead: arc length in metres to a pose.

    After ``length`` metres it is back where it started, but for the sway of the hand.
    """

    def __init__(self, rng, size):
        self.size = size
        self.closed = True
        radii = size / 2 - AISLE_M
        angle = np.linspace(0, 2 * np.pi, 2001)
        curve = radii * np.c_[np.cos(angle), np.sin(angle)]
        self.points = curve
        self.travelled = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
        self.length = float(self.travelled[-1])
        self.start = rng.uniform(0, self.length)
        self.height = rng.uniform(1.35, 1.5)
        self.phase = rng.uniform(0, 2 * np.pi, 8)

    def _place(self, s):
        s = s % self.length
        return np.array([np.interp(s, self.travelled, self.points[:, i]) for i in (0, 1)])

    def __call__(self, s):
        """Return the camera-to-world pose [4,4] after ``s`` metres."""
        p = self.phase
        along = s + self.start
        ahead = self._place(along + 0.3) - self._place(along - 0.3)
        ahead /= np.linalg.norm(ahead)
        sway = 0.05 * np.sin(1.7 * s + p[0]) + 0.015 * np.sin(7.3 * s + p[1])
        position = np.r_[
            self._place(along) + sway * np.array([-ahead[1], ahead[0]]),
            self.height + 0.03 * np.sin(1.1 * s + p[2]) + 0.012 * np.sin(8.9 * s + p[3]),
        ]
        heading = (
            np.arctan2(ahead[1], ahead[0]) + 0.22 * np.sin(0.9 * s + p[4]) + 0.02 * np.sin(6.1 * s + p[5])
        )
        elevation = -0.16 + 0.06 * np.sin(1.3 * s + p[6]) + 0.012 * np.sin(7.7 * s + p[7])
        return look(position, heading, elevation, 0.04 * np.sin(1.9 * s + p[5]))

    def keep_inside(self, at):
        """Return the place [2] in the room that is nearest to ``at``."""
        return np.clip(at, WALL_M - self.size / 2, self.size / 2 - WALL_M)
