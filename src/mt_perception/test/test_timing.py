"""Rates and percentiles of the diagnostics."""

import math

import pytest

from mt_perception.nodes.timing import Rate, Timings, percentiles


class Clock:
    """A clock the test turns."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_rate_over_the_window():
    """10 events a second are 10 Hz, and old ones do not count."""
    clock = Clock()
    rate = Rate(window=5.0, clock=clock)
    for _ in range(100):
        rate.tick()
        clock.now += 0.1
    assert rate.hz() == pytest.approx(10.0)
    assert rate.count == 100
    assert rate.age() == pytest.approx(0.1)
    clock.now += 60
    assert rate.hz() == 0.0
    assert rate.age() == pytest.approx(60.1), 'the age is known beyond the window'


def test_rate_before_anything_happened():
    """No event: no rate and no age."""
    rate = Rate()
    assert rate.hz() == 0.0
    assert rate.age() is None


def test_percentiles_of_stages():
    """Stages keep their order, with the total last, and forget what is older than the window."""
    timings = Timings(size=100)
    timings.add({'preprocess': 1e6, 'total': 1e6, 'inference': 1e6})
    for value in range(1, 101):
        timings.add({'preprocess': value, 'total': 3 * value, 'inference': 2 * value})
    result = timings.statistics()
    assert list(result) == ['preprocess', 'inference', 'total']
    assert result['preprocess']['p50'] == pytest.approx(50.5)
    assert result['inference']['p99'] == pytest.approx(198.02)
    timings.clear()
    assert timings.statistics() == {}


def test_a_rare_stage_counts_little_in_the_mean():
    """A keyframe's 90 ms in every third frame are 30 ms a frame, but 90 ms when they happen."""
    timings = Timings()
    for number in range(30):
        timings.add({'track': 10.0, 'adjust': 90.0} if number % 3 == 0 else {'track': 10.0})
    result = timings.statistics()
    assert result['adjust']['p50'] == 90
    assert result['adjust']['mean'] == pytest.approx(30)
    assert result['track']['mean'] == pytest.approx(10)


def test_percentiles_of_nothing():
    """No values give NaN, not an error."""
    assert all(math.isnan(value) for value in percentiles([]).values())
