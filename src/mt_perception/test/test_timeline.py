"""When pictures are taken and where the camera is then: pauses, turns, lost and repeated frames."""

import numpy as np
import pytest

from mt_perception.sequences.timeline import Pause, drop_frames, make_timeline, repeat_frames


def test_without_anything_it_is_steady():
    line = make_timeline(30, 10.0)
    assert line.stamps.tolist() == [i / 10 for i in range(30)]
    assert line.way.tolist() == line.tick.tolist() == list(range(30))
    assert not line.turn.any()
    assert line.at(1.25) == (12.5, 0)
    assert line.at(3.4)[0] == pytest.approx(34), 'it goes on beyond the end'
    assert line.at(-0.1)[0] == pytest.approx(-1)


def test_a_pause_stops_gently_and_nothing_of_the_way_is_lost():
    """Two seconds standing, the speed changes by a sixteenth a frame, the whole way is still made."""
    line = make_timeline(60, 10.0, [Pause(1.0, 2.0)])
    speed = np.diff(line.way)
    assert (speed == 0).sum() == 20
    assert np.abs(np.diff(speed)).max() <= 1 / 16 + 1e-9 and 0 <= speed.min() and speed.max() == 1
    assert line.way[10] == 10, 'a second at full speed first'
    assert 58 < line.way[-1] <= 60 and len(line.way) == 60 + 20 + 15
    assert np.array_equal(line.stamps, np.arange(95) / 10)


def test_a_turn_is_on_the_spot_out_and_back_and_not_too_quick():
    line = make_timeline(60, 10.0, [Pause.turning(1.0, 90.0)])
    turning = line.turn != 0
    assert np.ptp(line.way[turning]) == 0, 'the camera does not move meanwhile'
    assert np.degrees(line.turn.max()) == pytest.approx(90, abs=0.5)
    assert line.turn.min() > -1e-9 and line.turn[-1] == pytest.approx(0, abs=1e-9)
    assert np.degrees(np.abs(np.diff(line.turn)).max()) <= 3.6 + 1e-9, '36 degrees a second'


def test_the_number_of_frames_can_be_limited():
    assert len(make_timeline(60, 10.0, [Pause(1.0, 2.0)], total=25).stamps) == 25


def test_dropped_frames_leave_gaps_and_one_long_one():
    line = make_timeline(600, 10.0)
    kept = drop_frames(line, 0.2, np.random.default_rng(1))
    assert len(kept.stamps) == pytest.approx(480, abs=30)
    assert kept.stamps[:21].tolist() == line.stamps[:21].tolist() and kept.stamps[-1] == line.stamps[-1]
    middle = (kept.stamps >= 29.95) & (kept.stamps < 30.45)
    assert not middle.any()
    assert np.array_equal(kept.stamps, line.stamps[kept.tick])
    again = drop_frames(line, 0.2, np.random.default_rng(1))
    assert np.array_equal(again.tick, kept.tick)


def test_repeated_frames_show_the_one_before():
    line = make_timeline(600, 10.0)
    shown = repeat_frames(line, 0.2, np.random.default_rng(1))
    assert np.array_equal(shown.stamps, line.stamps)
    behind = line.tick - shown.tick
    assert (behind[:21] == 0).all() and (behind >= 0).all()
    assert (behind > 0).mean() == pytest.approx(0.2, abs=0.05)
    freeze = (line.stamps >= 29.95) & (line.stamps < 30.45)
    assert len(set(shown.tick[freeze])) == 1 and freeze.sum() == 5
    assert (np.diff(shown.tick) >= 0).all(), 'time does not run back'
