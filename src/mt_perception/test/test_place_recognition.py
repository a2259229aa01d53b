"""The whole place recognition in a synthetic world: loops close, none is false, an old map is found again."""

import numpy as np
import pytest

from mt_perception.errors import ModelError
from mt_perception.evaluation import trajectory
from mt_perception.matching import NearestMatcher
from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition import Keyframe, MapError, PlaceParameters, PlaceRecognition
from mt_perception.place_recognition.loops import Loop
from mt_perception.place_recognition.similarity import angle_of
from mt_perception.place_recognition.verification import Relation
from places_world import Places, lap

DRIFT = (0.02, 0.5, 0.015)
LAP, N = 70, 80


def recognition(**parameters):
    return PlaceRecognition(NearestMatcher(), PlaceParameters(**parameters))


def feed(places, keyframes):
    return [places.add(keyframe) for keyframe in keyframes]


def ate(poses, truth):
    return trajectory.evaluate(np.array(truth), np.array(poses))[0]['ate_rmse_sim3_m']


@pytest.fixture(scope='module')
def world():
    return Places()


@pytest.fixture(scope='module')
def closed(world):
    """A lap and a seventh, with what came of it."""
    truth = lap(world, N, N / LAP)
    keyframes = world.keyframes(truth, DRIFT, seed=9)
    places = recognition()
    additions = feed(places, keyframes)
    return truth, keyframes, places, additions


def test_a_loop_is_closed(closed):
    """All at the same place; the error falls to less than a third; every frame is carried over."""
    truth, keyframes, places, additions = closed
    loops = [loop for addition in additions for loop in addition.loops]
    assert len(loops) >= 5 and places.graph.right == [True] * len(loops)
    for loop in loops:
        assert np.linalg.norm(truth[loop.earlier][:3, 3] - truth[loop.later][:3, 3]) < 8
        exact = inverse(truth[loop.earlier]) @ truth[loop.later]
        assert np.degrees(angle_of(inverse(exact) @ loop.relation.transform)) < 1
    before = [keyframe.pose for keyframe in keyframes]
    stamps, after = places.graph.path()
    assert ate(after, truth) < 0.3 * ate(before, truth)
    carried = places.graph.correct(stamps, before)
    np.testing.assert_allclose(carried, after, atol=1e-9)
    correction = places.graph.correction() @ keyframes[-1].pose
    np.testing.assert_allclose(correction[:3, 3], after[-1][:3, 3], atol=1e-9)


def test_nothing_happens_before_the_loop(closed):
    """The first lap is odometry's, to the last bit of its steps."""
    _, keyframes, _, additions = closed
    first = next(k for k, addition in enumerate(additions) if addition.loops)
    assert first >= LAP - 4 and not any(addition.corrected for addition in additions[:first])
    assert sum(addition.verified for addition in additions[: LAP - 6]) == 0


def test_two_runs_are_equal_to_the_last_bit(world, closed):
    truth, _, places, _ = closed
    again = recognition()
    feed(again, world.keyframes(truth, DRIFT, seed=9))
    np.testing.assert_array_equal(np.array(again.graph.poses), np.array(places.graph.poses))


def test_a_hundred_wrong_loops_forced_in(closed):
    """Whatever slipped through every check: the map's error grows by less than 5 %."""
    truth, _, places, _ = closed
    graph = places.graph
    before = ate(graph.path()[1], truth)
    rng = np.random.default_rng(0)
    loops, right, poses = list(graph.loops), list(graph.right), list(graph.poses)
    wrong = []
    while len(wrong) < 100:
        first, second = sorted(int(k) for k in rng.choice(N, 2, replace=False))
        if second - first > 8:
            near = se3_exp(np.concatenate([rng.normal(0, 1, 3), rng.normal(0, 0.1, 3)]))
            relation = Relation(near, loops[0].relation.covariance, 100, 80, distance=10.0)
            wrong.append(Loop(first, second, 0.9, relation))
    try:
        graph.close(wrong)
        assert ate(graph.path()[1], truth) < 1.05 * before
        assert all(graph.right[: len(loops)])
    finally:
        graph.loops, graph.right, graph.poses = loops, right, poses


def test_a_straight_road_has_no_loops(world):
    """Half a ring: nothing is seen twice."""
    places = recognition(exclude_keyframes=8, exclude_s=0.0, min_similarity=-1.0)
    additions = feed(places, world.keyframes(lap(world, 24, 0.5)))
    assert sum(addition.candidates for addition in additions) > 30
    assert not any(addition.loops for addition in additions)


def test_keyframes_that_show_nothing_new_lose_their_keypoints(closed):
    """Memory is bounded by the places there are; their poses stay."""
    _, _, places, additions = closed
    empty = [keyframe.view is None for keyframe in places.graph.keyframes]
    assert not any(empty[: LAP - 4]) and sum(empty) >= 5
    assert len(places.graph.path()[0]) == N


def test_a_saved_map_is_found_again(world, closed, tmp_path):
    """Another program, another start: single images, then odometry, are located in the old map."""
    truth, _, places, _ = closed
    count = places.save(tmp_path / 'ring')
    assert count == sum(keyframe.view is not None for keyframe in places.graph.keyframes)
    other = recognition()
    assert other.load(tmp_path / 'ring') == count and not other.graph.located
    map_from_truth = places.graph.poses[0] @ inverse(truth[0])
    for k, angle in enumerate((0.05, 1.0, 2.5, 4.4)):
        pose = world.pose(angle) @ se3_exp(np.array([0.3, 0.1, 0.4, 0.02, 0.08, 0]))
        found = other.localize(world.view(pose, 500 + k))
        nearest = places.graph.poses[int(round(angle / 2 / np.pi * LAP))]
        assert found.inliers >= 25 and found.score > 0.5
        assert np.linalg.norm(found.pose[:3, 3] - nearest[:3, 3]) < 2.5
        error = np.linalg.norm(found.pose[:3, 3] - (map_from_truth @ pose)[:3, 3])
        assert error < 1.5, 'the map has drifted by about a metre'
        spread = np.sqrt(np.diag(found.covariance))
        assert (spread > 0).all() and spread[:3].max() < 0.2
    # a new run, whose odometry starts somewhere else
    run = lap(world, N, N / LAP)[30:42]
    additions = feed(other, world.keyframes(run, DRIFT, first=1000))
    assert other.graph.located and additions[2].corrected
    stamps, path = other.graph.path()
    for pose, exact in zip(path, run):
        assert np.linalg.norm(pose[:3, 3] - (map_from_truth @ exact)[:3, 3]) < 1.5
    saved_again = other.save(tmp_path / 'both')
    assert saved_again >= count


def test_a_run_that_starts_anew_finds_itself_in_its_own_map(world):
    """Odometry was reset, time may have jumped back: what was mapped is kept and found again."""
    truth = lap(world, 40, 0.5)
    places = recognition()
    feed(places, world.keyframes(truth[:20]))
    mapped = len(places.graph.keyframes)
    again = world.keyframes(truth[5:17], first=0, seed=9)
    additions = feed(places, again)
    assert places.graph.located and sum(len(addition.loops) for addition in additions) >= 3
    assert len(places.graph.keyframes) == mapped + 12
    _, path = places.graph.path()
    for pose, exact in zip(path, truth[5:17]):
        assert np.linalg.norm(pose[:3, 3] - (inverse(truth[0]) @ exact)[:3, 3]) < 0.3


def test_an_unknown_place_is_not_found(world):
    """None, not a guess."""
    places = recognition()
    feed(places, world.keyframes(lap(world, 20, 0.2)))
    assert places.localize(world.view(world.pose(np.pi), 77)) is None
    assert recognition().localize(world.view(world.pose(0.0), 1)) is None


def test_another_models_images_are_refused_and_nothing_is_lost(world, tmp_path):
    places = recognition()
    keyframes = world.keyframes(lap(world, 8, 0.1))
    feed(places, keyframes[:6])
    places.save(tmp_path / 'map')
    other = keyframes[6]
    other.view.model_id = 'another'
    with pytest.raises(ModelError, match="'world'.*'another'"):
        places.add(other)
    with pytest.raises(ModelError, match="'another'"):
        places.localize(other.view)
    assert len(places.graph.keyframes) == 6
    places.add(keyframes[7])
    (tmp_path / 'bad').write_bytes((tmp_path / 'map').read_bytes()[:-9])
    with pytest.raises(MapError):
        places.load(tmp_path / 'bad')
    assert len(places.graph.keyframes) == 7 and places.graph.located


def test_a_step_that_odometry_did_not_see_is_open(world):
    """Lost between two keyframes: a huge covariance there lets a loop move the rest as it must."""
    truth = lap(world, N, N / LAP)
    keyframes = world.keyframes(truth, (0.005, 0.05, 0.002), lost_at=40)
    places = recognition()
    feed(places, keyframes)
    assert any(places.graph.right)
    assert ate([keyframe.pose for keyframe in keyframes], truth) > 3
    assert ate(places.graph.path()[1], truth) < 0.5


def test_a_keyframe_without_depth_is_no_harm(world):
    """Pure rotation, a start: it is looked up by the geometry of the image alone."""
    places = recognition(consistent_keyframes=1, exclude_keyframes=3, exclude_s=0.0)
    feed(places, world.keyframes(lap(world, 6, 0.06)))
    view = world.view(world.pose(0.02), 90, depth_noise=None)
    addition = places.add(Keyframe(90.0, np.eye(4), np.eye(6), view))
    assert addition.candidates and len(places.graph.keyframes) == 7
