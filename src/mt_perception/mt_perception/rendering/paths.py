"""How the camera moves through the worlds."""

import numpy as np

from mt_perception.rendering.pose import look

CAMERA_HEIGHT = 1.5  # metres above the road


class Drive:
    """The camera's way along the street: arc length in metres to a pose."""

    def __init__(self, rng, line, start, length, half_road):
        self.line = line
        self.start = start
        self.length = length
        self.closed = line.closed
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
