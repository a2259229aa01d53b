"""Two views of one place, and of different ones."""

import numpy as np
import pytest

from mt_perception.errors import ModelError
from mt_perception.matching import NearestMatcher
from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition import PlaceParameters
from mt_perception.place_recognition.similarity import angle_of, invert, scale_of, similarity
from mt_perception.place_recognition.verification import Verifier, occupied_cells, turned_around
from places_world import Places


@pytest.fixture(scope='module')
def places():
    return Places()


@pytest.fixture
def verifier():
    return Verifier(NearestMatcher(), PlaceParameters())


def moved(pose, forward=0.0, side=0.0, yaw=0.0):
    return pose @ se3_exp(np.array([side, 0, forward, 0, yaw, 0]))


def test_motion_and_scale_between_two_views(places, verifier):
    """Half a pixel of noise: centimetres, tenths of a degree, and the ratio of the units within 2 %."""
    first = places.pose(0.3)
    second = moved(first, 0.8, 0.3, np.radians(5))
    relation = verifier.verify(places.view(first, 1), places.view(second, 2, scale=1.4))
    exact = similarity(inverse(first) @ second, 1 / 1.4)
    error = invert(exact) @ relation.transform
    assert relation.has_length and relation.has_scale
    assert scale_of(error) == pytest.approx(1, abs=0.02)
    assert np.degrees(angle_of(error)) < 0.2
    assert np.linalg.norm(relation.transform[:3, 3] - exact[:3, 3]) < 0.05
    assert 100 < relation.inliers <= relation.matches
    assert 5 * 1.4 < relation.distance < 30 * 1.4, 'in units of the later view'


def test_covariance_covers_the_error(places, verifier):
    """Errors in units of their standard deviations stay small: it is not optimistic."""
    first = places.pose(1.0)
    chi2 = []
    for k in range(12):
        second = moved(first, 0.1 * k, 0.05 * k, np.radians(k - 6))
        relation = verifier.verify(places.view(first, 2 * k), places.view(second, 2 * k + 1))
        rest = invert(inverse(first) @ second) @ relation.transform
        turn = rest[:3, :3] / scale_of(rest)
        error = np.concatenate(
            [
                [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]],
                2 * rest[:3, 3],
                [2 * np.log(scale_of(rest))],
            ]
        )
        error /= 2
        chi2.append(error @ np.linalg.solve(relation.covariance, error))
    assert np.mean(chi2) < 7 and max(chi2) < 20


def test_other_places_are_refused(places, verifier):
    """The opposite side of the ring, and the same place looked at the other way."""
    here = places.view(places.pose(0.0), 1)
    assert verifier.verify(here, places.view(places.pose(np.pi), 2)) is None
    assert verifier.verify(here, places.view(moved(places.pose(0.0), yaw=np.pi), 3)) is None
    assert verifier.verify(here, places.view(places.pose(0.0), 4)) is not None


def test_depths_that_contradict_each_other_are_refused(places, verifier):
    """Points on which the two maps disagree in all directions, or by more than any drift."""
    first, second = places.pose(0.0), moved(places.pose(0.0), 0.5)
    here = places.view(first, 1)
    assert verifier.verify(here, places.view(second, 2, scale=2.5)) is None
    assert verifier.verify(here, places.view(second, 2, depth_noise=0.6)) is None
    assert verifier.verify(here, places.view(second, 2, scale=1.9)) is not None


def test_points_of_either_view_will_do(places, verifier):
    """Known positions in the later view only: the same motion, in the earlier frame."""
    first = places.pose(2.0)
    second = moved(first, 1.0, -0.4, np.radians(-8))
    for depths in ((0.02, None), (None, 0.02)):
        relation = verifier.verify(
            places.view(first, 1, depth_noise=depths[0]), places.view(second, 2, depth_noise=depths[1])
        )
        assert relation.has_length and not relation.has_scale
        error = inverse(inverse(first) @ second) @ relation.transform
        assert np.linalg.norm(error[:3, 3]) < 0.05 and np.degrees(angle_of(error)) < 0.2
        sigma = np.sqrt(np.diag(relation.covariance))
        assert sigma[6] == pytest.approx(np.log(2), rel=0.01), 'the scale is open up to a factor of two'


def test_without_any_position_the_direction_is_left(places, verifier):
    """Essential matrix: rotation and direction, the length said to be unknown."""
    first = places.pose(2.0)
    second = moved(first, 1.0, -0.6, np.radians(6))
    relation = verifier.verify(
        places.view(first, 1, depth_noise=None), places.view(second, 2, depth_noise=None)
    )
    exact = inverse(first) @ second
    assert not relation.has_length and not relation.has_scale
    assert np.degrees(angle_of(inverse(exact) @ relation.transform)) < 0.5
    direction = exact[:3, 3] / np.linalg.norm(exact[:3, 3])
    assert relation.transform[:3, 3] @ direction > np.cos(np.radians(5))
    assert relation.covariance[3, 3] > 1e5
    assert (
        verifier.verify(
            places.view(first, 1, depth_noise=None), places.view(places.pose(5.0), 2, depth_noise=None)
        )
        is None
    )


def test_turned_around_twice_is_the_same(places, verifier):
    first = places.pose(0.3)
    view, other = places.view(first, 1), places.view(moved(first, 0.8, 0.3, 0.1), 2, scale=0.8)
    relation = verifier.verify(view, other)
    twice = turned_around(turned_around(relation))
    np.testing.assert_allclose(twice.transform, relation.transform, atol=1e-12)
    np.testing.assert_allclose(twice.covariance, relation.covariance, rtol=1e-6, atol=1e-12)
    assert twice.distance == pytest.approx(relation.distance)


def test_inliers_in_one_corner_do_not_count(places):
    """Many points on one small thing do not fix a pose."""
    view = places.view(places.pose(0.0), 1)
    assert occupied_cells(view.rays, view) == 16
    corner = view.rays[(view.xy < [150, 110]).all(1)]
    assert occupied_cells(corner, view) == 1
    strict = Verifier(NearestMatcher(), PlaceParameters(min_cells=17))
    assert strict.verify(view, places.view(places.pose(0.0), 2)) is None


def test_other_models_keypoints_are_refused(places, verifier):
    view, other = places.view(places.pose(0.0), 1), places.view(places.pose(0.0), 2)
    other.model_id = 'another'
    with pytest.raises(ModelError, match="'another'"):
        verifier.verify(view, other)
