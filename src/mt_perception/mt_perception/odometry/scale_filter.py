"""The scale of a map over time: a random walk, observed now and then."""

import numpy as np

FAR_OFF = 2.0  # standard deviations beyond which an observation counts less (Huber)


class ScaleFilter:
    """
    Kalman filter (and Rauch–Tung–Striebel smoother) of the logarithm of metres per map unit.

    A monocular map keeps its scale from keyframe to keyframe but for a small drift; observations of it may
    be far off now and then.

    :param mean: log scale before any observation.
    :param sigma: its standard deviation.
    :param drift: standard deviation of the change from keyframe to keyframe.
    :ivar mean: log scale as known from all observations so far.
    :ivar variance: of ``mean``.
    :ivar observations: number of observations so far.
    """

    def __init__(self, mean, sigma, drift):
        self.mean = float(mean)
        self.variance = float(sigma) ** 2
        self.drift = drift
        self.observations = 0
        self._history = []  # (stamp, variance before the observation, mean, variance)

    def step(self, stamp, value=None, sigma=None):
        """
        Go on to the next keyframe.

        :param stamp: seconds.
        :param value: log scale seen there, or None.
        :param sigma: standard deviation of ``value``.
        """
        if self._history:
            self.variance += self.drift**2
        before = self.variance
        if value is not None:
            expected = np.sqrt(before + sigma**2)
            off = abs(value - self.mean) / (FAR_OFF * expected)
            noise = sigma**2 * max(1.0, off if self.observations else 1.0)
            gain = before / (before + noise)
            self.mean += gain * (value - self.mean)
            self.variance = before * noise / (before + noise)
            self.observations += 1
        self._history.append((stamp, before, self.mean, self.variance))

    def forget(self, stamp):
        """Forget what was before ``stamp``; :meth:`smoothed` starts later then."""
        first = next((i for i, entry in enumerate(self._history) if entry[0] >= stamp), len(self._history))
        del self._history[: max(0, min(first, len(self._history) - 1))]

    def smoothed(self):
        """Return (stamps [K], log scale [K]) at the keyframes, each as known from all observations."""
        if not self._history:
            return np.zeros(1), np.full(1, self.mean)
        stamps, before, mean, variance = np.array(self._history, np.float64).T
        out = mean.copy()
        for k in range(len(out) - 2, -1, -1):
            out[k] += variance[k] / before[k + 1] * (out[k + 1] - mean[k])
        return stamps, out
