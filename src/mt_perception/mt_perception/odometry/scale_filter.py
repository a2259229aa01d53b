"""The scale of a map over time: a random walk, observed now and then, and held by the camera's height."""

import numpy as np

FAR_OFF = 2.0  # standard deviations beyond which an observation counts less (Huber)
# of the log height of the camera above the ground in metres: nothing is known, and it hardly changes
HEIGHT_SIGMA, HEIGHT_DRIFT = 1.0, 0.002
UNPROVED = 3.0  # squared misfit, in sigmas, that heights are believed to have until they show what they have
MEMORY = 0.9  # of that misfit, per height
WORST = 25.0  # one height counts no more than this in it
SCALE, HEIGHT = np.array([1.0, 0.0]), np.array([1.0, -1.0])  # what is observed of the state


class ScaleFilter:
    """
    Kalman filter (and Rauch–Tung–Striebel smoother) of the logarithm of metres per map unit.

    A monocular map keeps its scale from keyframe to keyframe but for a small drift; observations of it may
    be far off now and then. A second state is the height of the camera above the ground in metres: unknown,
    but constant on wheels, so that its change in the map is a change of the map's scale. Whether it is
    constant shows in how well heights are foretold; where they are not, as in a hand, they do not count.

    :param mean: log scale before any observation.
    :param sigma: its standard deviation.
    :param drift: standard deviation of the change from keyframe to keyframe.
    :param before: filter of the map before, which knows the height already; None for the first.
    :ivar observations: number of observations so far.
    :ivar misfit: mean squared difference of late, in sigmas, between heights seen and foretold.
    """

    def __init__(self, mean, sigma, drift, before=None):
        self.drift = drift
        self.observations = 0
        self.misfit = UNPROVED if before is None else before.misfit
        height, variance = (0.0, HEIGHT_SIGMA**2) if before is None else before.height
        self._state = np.array([mean, height])
        self._spread = np.diag([float(sigma) ** 2, variance])
        self._history = []  # (stamp, covariance before the observations, state, covariance)

    @property
    def mean(self):
        """Log scale as known from all observations so far."""
        return float(self._state[0])

    @property
    def variance(self):
        """Variance of :attr:`mean`."""
        return float(self._spread[0, 0])

    @property
    def height(self):
        """Log of the height of the camera in metres, and its variance."""
        return float(self._state[1]), float(self._spread[1, 1])

    def step(self, stamp, value=None, sigma=None, height=None, height_sigma=None):
        """
        Go on to the next keyframe.

        :param stamp: seconds.
        :param value: log scale seen there, or None.
        :param sigma: standard deviation of ``value``.
        :param height: log of the height of the camera above the ground in map units, or None.
        :param height_sigma: standard deviation of ``height``.
        """
        if self._history:
            self._spread = self._spread + np.diag([self.drift**2, HEIGHT_DRIFT**2])
        before = self._spread
        if value is not None:
            noise = sigma**2
            if self.observations:
                expected = np.sqrt(self.variance + noise)
                noise *= max(1.0, abs(value - self.mean) / (FAR_OFF * expected))
            self._update(SCALE, value, noise)
            self.observations += 1
        if height is not None:
            expected = HEIGHT @ self._spread @ HEIGHT + height_sigma**2
            off = (-height - HEIGHT @ self._state) ** 2 / expected
            self.misfit = MEMORY * self.misfit + (1 - MEMORY) * min(off, WORST)
            self._update(HEIGHT, -height, (height_sigma * max(1.0, self.misfit, np.sqrt(off))) ** 2)
        self._history.append((stamp, before, self._state, self._spread))

    def _update(self, seen, value, noise):
        """Take in an observation of ``seen`` · state with the variance ``noise``."""
        gain = self._spread @ seen / (seen @ self._spread @ seen + noise)
        self._state = self._state + gain * (value - seen @ self._state)
        left = np.eye(2) - np.outer(gain, seen)
        self._spread = left @ self._spread @ left.T + noise * np.outer(gain, gain)

    def forget(self, stamp):
        """Forget what was before ``stamp``; :meth:`smoothed` starts later then."""
        first = next((i for i, entry in enumerate(self._history) if entry[0] >= stamp), len(self._history))
        del self._history[: max(0, min(first, len(self._history) - 1))]

    def smoothed(self):
        """Return (stamps [K], log scale [K]) at the keyframes, each as known from all observations."""
        if not self._history:
            return np.zeros(1), np.full(1, self.mean)
        stamps, before, states, spreads = (np.array(column) for column in zip(*self._history))
        out = states.copy()
        for k in range(len(out) - 2, -1, -1):
            gain = np.linalg.solve(before[k + 1], spreads[k]).T
            out[k] += gain @ (out[k + 1] - states[k])
        return stamps, out[:, 0]
