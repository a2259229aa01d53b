"""
When the pictures of a rendered sequence are taken, and where on its way the camera is then.

A timeline is made steady, with pauses; frames are dropped or repeated afterwards.
"""

from dataclasses import dataclass, replace

import numpy as np

RAMP_S = 1.5  # the camera takes to stop and to start again
TURN_RATE_DEG_S = 36.0  # greatest rate at which it turns on the spot
SETTLED_S = 2.0  # no frame is lost before
GAP_S = 0.5  # the one longer gap, or freeze, in the middle


@dataclass(frozen=True)
class Timeline:
    """
    N frames.

    :param stamps: [N] seconds, strictly increasing.
    :param tick: [N] int: which picture is shown; one that repeats has the number of the frame before.
    :param time: [T] seconds at which the pictures are taken.
    :param way: [T] distance travelled until then, in frames of steady motion.
    :param turn: [T] radians by which the camera is turned to the left.
    """

    stamps: np.ndarray
    tick: np.ndarray
    time: np.ndarray
    way: np.ndarray
    turn: np.ndarray

    def at(self, time):
        """Return (way, turn) at any time in seconds, as it goes on beyond the ends."""
        step = self.time[1] - self.time[0] if len(self.time) > 1 else 1.0
        beyond = time - np.clip(time, self.time[0], self.time[-1])
        way = np.interp(time, self.time, self.way) + beyond / step
        return float(way), float(np.interp(time, self.time, self.turn))


@dataclass(frozen=True)
class Pause:
    """
    The camera stops, stands or turns on the spot, and goes on.

    :param after_s: seconds from the start until it begins to slow down.
    :param seconds: it stands.
    :param turn_deg: it turns so far to the left meanwhile, and back again.
    """

    after_s: float
    seconds: float
    turn_deg: float = 0.0

    @classmethod
    def turning(cls, after_s, turn_deg):
        """Return a pause that is as long as the turn takes."""
        return cls(after_s, np.pi * abs(turn_deg) / TURN_RATE_DEG_S, turn_deg)


def make_timeline(frames, fps, pauses=(), total=None):
    """
    Return a steady timeline with pauses.

    :param frames: of the whole way without a pause.
    :param pauses: :class:`Pause`, in order of time.
    :param total: number of frames at most; None: until the way's end.
    """
    speed, turn = [], []
    for pause in pauses:
        moving = max(0, round(pause.after_s * fps) - len(speed))
        ramp = round(RAMP_S * fps)
        slower = 1 - (np.arange(ramp) + 1) / (ramp + 1)
        standing = round(pause.seconds * fps)
        phase = (np.arange(standing) + 1) / max(standing, 1)
        speed += [*np.ones(moving), *slower, *np.zeros(standing), *slower[::-1]]
        turn += [0.0] * (moving + ramp)
        turn += list(np.radians(pause.turn_deg) / 2 * (1 - np.cos(2 * np.pi * phase))) + [0.0] * ramp
    rest = max(0, int(np.ceil(frames - sum(speed) - 1e-9)))
    speed += [1.0] * rest
    turn += [0.0] * rest
    way = np.r_[0.0, np.cumsum(speed)][: len(speed)]
    turn = np.r_[0.0, turn][: len(way)]
    if total is not None:
        way, turn = way[:total], turn[:total]
    time = np.arange(len(way)) / fps
    return Timeline(time, np.arange(len(way)), time, way, turn)


def drop_frames(timeline, share, rng):
    """Leave out every frame with the probability ``share``, and half a second in the middle."""
    kept = ~_unlucky(timeline, share, rng)
    return replace(timeline, stamps=timeline.stamps[kept], tick=timeline.tick[kept])


def repeat_frames(timeline, share, rng):
    """Show the picture before again with the probability ``share``, and for half a second in the middle."""
    again = _unlucky(timeline, share, rng)
    tick = np.maximum.accumulate(np.where(again, 0, timeline.tick))
    return replace(timeline, tick=tick)


def _unlucky(timeline, share, rng):
    """Return [N] bool; neither the first two seconds nor the last frame."""
    stamps = timeline.stamps
    middle = (stamps[0] + stamps[-1]) / 2
    unlucky = rng.random(len(stamps)) < share
    unlucky |= (stamps >= middle - 1e-9) & (stamps < middle + GAP_S - 1e-9)
    unlucky &= stamps >= stamps[0] + SETTLED_S
    unlucky[-1] = False
    return unlucky
