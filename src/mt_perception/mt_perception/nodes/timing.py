"""Rates and percentiles over a sliding window: what the diagnostics say about time."""

import threading
import time
from collections import deque

import numpy as np

PERCENTILES = (50, 95, 99)


class Rate:
    """
    How often something happens.

    :param window: seconds looked back.
    """

    def __init__(self, window=5.0, clock=time.monotonic):
        self._window = window
        self._clock = clock
        self._ticks = deque(maxlen=10000)
        self._lock = threading.Lock()
        self._last = None
        self.count = 0

    def tick(self):
        """Note that it happened now."""
        with self._lock:
            self._last = self._clock()
            self._ticks.append(self._last)
            self.count += 1

    def hz(self):
        """Return events per second over the window, 0 when there were fewer than two."""
        oldest = self._clock() - self._window
        with self._lock:
            while self._ticks and self._ticks[0] < oldest:
                self._ticks.popleft()
            if len(self._ticks) < 2:
                return 0.0
            span = self._ticks[-1] - self._ticks[0]
            return (len(self._ticks) - 1) / span if span > 0 else 0.0

    def age(self):
        """Return the seconds since the last event, None when there was none yet."""
        with self._lock:
            return None if self._last is None else self._clock() - self._last


class Timings:
    """
    Milliseconds per stage of the last ``size`` frames.

    :param size: frames looked back.
    """

    LAST = ('publish', 'total')  # shown at the end, whatever came first

    def __init__(self, size=1000):
        self._frames = deque(maxlen=size)
        self._lock = threading.Lock()

    def add(self, timings_ms):
        """Note one frame: a mapping of stage name to milliseconds; a frame need not have every stage."""
        with self._lock:
            self._frames.append(dict(timings_ms))

    def statistics(self):
        """
        Return {stage: {'p50': ms, 'p95': ms, 'p99': ms, 'mean': ms}}.

        Percentiles are over the frames that have the stage, the mean is over all frames: means add up.
        """
        with self._lock:
            frames = list(self._frames)
        values = {}
        for frame in frames:
            for stage, milliseconds in frame.items():
                values.setdefault(stage, []).append(milliseconds)
        stages = [stage for stage in values if stage not in self.LAST]
        stages += [stage for stage in self.LAST if stage in values]
        return {
            stage: {**percentiles(values[stage]), 'mean': sum(values[stage]) / len(frames)}
            for stage in stages
        }

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._frames.clear()


def percentiles(values):
    """Return {'p50': …, 'p95': …, 'p99': …} of ``values`` (linear interpolation); NaN without any."""
    if len(values) == 0:
        return {f'p{p}': float('nan') for p in PERCENTILES}
    return {f'p{p}': float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
