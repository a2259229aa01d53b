"""Centre lines of streets: smooth plane curves by arc length."""

import numpy as np

STEP = 0.5  # metres between samples


class Centreline:
    """
    A curve in the ground plane with headings, sampled by arc length.

    :param headings: [n] radians at every ``STEP`` metres, continuous.
    :param closed: arc length wraps around.
    """

    def __init__(self, headings, closed=False):
        self.headings = np.asarray(headings, float)
        middle = (self.headings[1:] + self.headings[:-1]) / 2
        steps = np.c_[np.cos(middle), np.sin(middle)] * STEP
        self.points = np.vstack([np.zeros(2), np.cumsum(steps, 0)])
        self.length = STEP * (len(self.headings) - 1)
        self.closed = closed
        if closed:  # spread the small closing error over the curve
            self.points -= np.linspace(0, 1, len(self.points))[:, None] * self.points[-1]

    def heading(self, s):
        """Heading in radians at arc length ``s`` (clamped to the ends, or wrapped when closed)."""
        lap = 0.0
        if self.closed:
            lap = np.floor(s / self.length) * (self.headings[-1] - self.headings[0])
            s = s % self.length
        return float(np.interp(s / STEP, np.arange(len(self.headings)), self.headings) + lap)

    def at(self, s, left=0.0):
        """Return the point [2] at arc length ``s``, ``left`` metres to the left of the curve."""
        heading = self.heading(s)
        if self.closed:
            s = s % self.length
        index = np.arange(len(self.points))
        point = np.array([np.interp(s / STEP, index, self.points[:, i]) for i in (0, 1)])
        beyond = s - np.clip(s, 0, self.length)
        point = point + beyond * np.array([np.cos(heading), np.sin(heading)])
        return point + left * np.array([-np.sin(heading), np.cos(heading)])


def winding(rng, length):
    """Return an open centre line with gentle curves (radius over 90 m)."""
    s = np.arange(0, length + STEP, STEP)
    curvature = np.zeros_like(s)
    for _ in range(3):
        wavelength = rng.uniform(90, 260)
        curvature += rng.uniform(0, 1 / 270) * np.sin(2 * np.pi * s / wavelength + rng.uniform(0, 2 * np.pi))
    return Centreline(np.cumsum(curvature) * STEP)


def block(rng, side_a=None, side_b=None, radius=16.0):
    """Return a closed centre line around a block of houses (left turns)."""
    side_a = rng.uniform(50, 80) if side_a is None else side_a
    side_b = rng.uniform(35, 55) if side_b is None else side_b
    curvature = []
    for side in (side_a, side_b, side_a, side_b):
        curvature += [np.zeros(round(side / STEP)), np.full(round(radius * np.pi / 2 / STEP), 1.0)]
    curvature = np.concatenate(curvature)
    # Smooth transitions, as on a real street, with a total turn of exactly one revolution.
    kernel = np.hanning(13)
    curvature = np.convolve(np.r_[curvature[-20:], curvature, curvature[:20]], kernel, 'same')[20:-20]
    curvature *= 2 * np.pi / curvature.sum()
    return Centreline(np.r_[0, np.cumsum(curvature)], closed=True)
