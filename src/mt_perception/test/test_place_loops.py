"""A loop counts once neighbouring keyframes say the same."""

import numpy as np

from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition import PlaceParameters
from mt_perception.place_recognition.loops import Loop, SequenceConsistency
from mt_perception.place_recognition.similarity import similarity
from mt_perception.place_recognition.verification import Relation

TRUE = [se3_exp(np.array([0.3 * k, 0, 1.0 * k, 0, 0.02 * k, 0])) for k in range(12)]


def loop(earlier, later, second_lap, wrong=None, scale=1.0, has_length=True):
    """A loop from the keyframe ``earlier`` to ``later`` of a second lap, right but for ``wrong``."""
    transform = similarity(inverse(TRUE[earlier]) @ second_lap[later], scale)
    if wrong is not None:
        transform = transform @ wrong
    relation = Relation(transform, np.eye(7) * 0.01, 100, 80, has_length=has_length, distance=10.0)
    return Loop(earlier, later, 0.9, relation)


class Feed:
    """A second lap in odometry's own frame, 100 keyframes later."""

    def __init__(self, **parameters):
        self.drift = se3_exp(np.array([3.0, 0.2, -2.0, 0.05, 0.3, 0]))
        self.lap = {100 + k: pose @ se3_exp(np.array([0.2, 0, 0.1, 0, 0, 0])) for k, pose in enumerate(TRUE)}
        self.consistency = SequenceConsistency(PlaceParameters(**parameters))

    def pose_of(self, number):
        return TRUE[number] if number < 100 else self.drift @ self.lap[number]

    def __call__(self, newest, *loops):
        return [(one.earlier, one.later) for one in self.consistency.feed(loops, newest, self.pose_of)]


def test_the_third_keyframe_decides_and_each_loop_comes_once():
    """Whatever the drift between the laps: what is compared is the way between neighbours."""
    feed = Feed()
    assert feed(100, loop(0, 100, feed.lap)) == []
    assert feed(101, loop(1, 101, feed.lap)) == []
    assert feed(102, loop(2, 102, feed.lap)) == [(0, 100), (1, 101), (2, 102)]
    assert feed(103, loop(3, 103, feed.lap)) == [(3, 103)]


def test_one_keyframe_alone_does_not_agree_with_itself():
    feed = Feed()
    assert feed(100, loop(0, 100, feed.lap), loop(1, 100, feed.lap), loop(2, 100, feed.lap)) == []


def test_loops_that_disagree_do_not_count():
    """By place, by heading, by scale."""
    for wrong in (
        se3_exp(np.array([4.0, 0, 0, 0, 0, 0])),
        se3_exp(np.array([0, 0, 0, 0, np.radians(10), 0])),
        similarity(np.eye(4), 1.4),
    ):
        feed = Feed()
        feed(100, loop(0, 100, feed.lap))
        feed(101, loop(1, 101, feed.lap))
        assert feed(102, loop(2, 102, feed.lap, wrong)) == []
        assert feed(103, loop(3, 103, feed.lap)) == [(0, 100), (1, 101), (3, 103)]


def test_loops_long_ago_are_forgotten():
    feed = Feed(consistency_window=3)
    feed(100, loop(0, 100, feed.lap))
    feed(101, loop(1, 101, feed.lap))
    assert feed(105) == []
    assert feed(106, loop(6, 106, feed.lap)) == []


def test_a_common_scale_is_no_contradiction():
    """The second lap is a tenth larger: all loops say so, and agree."""
    feed = Feed()
    larger = {number: pose.copy() for number, pose in feed.lap.items()}
    for pose in larger.values():
        pose[:3, 3] *= 1.1
    feed.pose_of = lambda k: TRUE[k] if k < 100 else feed.drift @ larger[k]
    found = [feed(100 + k, loop(k, 100 + k, feed.lap, scale=1 / 1.1)) for k in range(3)]
    assert len(found[2]) == 3


def test_without_lengths_the_headings_must_agree():
    feed = Feed()
    found = [feed(100 + k, loop(k, 100 + k, feed.lap, has_length=False)) for k in range(3)]
    assert len(found[2]) == 3
    feed = Feed()
    turned = se3_exp(np.array([0, 0, 0, 0, np.radians(10), 0]))
    wrong = [None, None, turned]
    found = [feed(100 + k, loop(k, 100 + k, feed.lap, wrong[k], has_length=False)) for k in range(3)]
    assert found[2] == []


def test_one_is_enough_where_that_is_asked_for():
    feed = Feed(consistent_keyframes=1)
    assert feed(100, loop(0, 100, feed.lap)) == [(0, 100)]
