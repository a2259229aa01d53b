"""The start from two views: wrong matches, and planes that two motions explain."""

import numpy as np
import pytest

from mt_perception.odometry.geometry import inverse, project, to_camera
from mt_perception.odometry.parameters import OdometryParameters
from mt_perception.odometry.two_view import ambiguous, depth_spread, initialize
from synthetic_world import pose_at

SIGMA = 1 / 500  # one pixel


@pytest.fixture
def wall():
    """
    A wall and things before it, seen while going ahead and turning by 20°; a quarter is matched wrongly.

    :return: (second camera from first, rays in both views, which matches are true, depths in both views).
    """
    rng = np.random.default_rng(1)
    rays = rng.uniform((-0.6, -0.4), (0.2, 0.4), (200, 2))
    z = 4 + 1.5 * rays[:, 0]
    z[::3] *= 0.6
    points = np.concatenate([rays, np.ones((200, 1))], 1) * z[:, None]
    motion = inverse(pose_at(x=-0.1, z=0.4, yaw=-np.radians(20)))
    moved = to_camera(motion, points)
    rays_b = project(moved) + rng.normal(0, 0.7 * SIGMA, (200, 2))
    true = np.arange(200) % 4 > 0
    rays_b[~true] += rng.uniform(-40, 40, ((~true).sum(), 2)) * SIGMA
    return motion, rays + rng.normal(0, 0.7 * SIGMA, (200, 2)), rays_b, true, np.stack([z, moved[:, 2]], 1)


def turned(one, other):
    """Degrees between two rotations."""
    return np.degrees(np.arccos(np.clip((np.trace(one[:3, :3].T @ other[:3, :3]) - 1) / 2, -1, 1)))


def test_a_start_among_wrong_matches(wall):
    """The motion is the true one, and what is matched wrongly makes no points."""
    motion, rays_a, rays_b, true, depth = wall
    view = initialize(rays_a, rays_b, SIGMA, OdometryParameters(), depth)
    assert view.pose is not None
    assert turned(inverse(view.pose), motion) < 1
    assert view.good[true].mean() > 0.9 and view.good[~true].mean() < 0.1


def test_depth_at_the_keypoints_tells_two_motions_apart(wall):
    """A rival that explains 93 % is dismissed when only the best one agrees with the depths."""
    motion, rays_a, rays_b, true, depth = wall
    rays_a, rays_b, depth = rays_a[true], rays_b[true], depth[true]
    motion[:3, 3] /= np.linalg.norm(motion[:3, 3])
    other = pose_at(x=0.3, yaw=-np.radians(5)) @ motion
    other[:3, 3] /= np.linalg.norm(other[:3, 3])
    views = rays_a, rays_b, 20 * SIGMA  # wide: the rival's points pass, whatever it explains

    turning = (motion, 100.0)
    assert not ambiguous([turning, (other, 93.0)], *views, 3 * depth)
    assert not ambiguous([turning, (other, 89.0)], *views, None)
    assert ambiguous([turning, (other, 93.0)], *views, None)
    assert ambiguous([turning, (other, 96.0)], *views, depth)
    assert ambiguous([turning, (other, 93.0)], *views, np.full_like(depth, np.nan))
    assert not ambiguous([turning, (motion, 99.0)], *views, None)


def test_the_simpler_of_two_motions_needs_less():
    """
    What a turn of 20° explains, one of 26° with a step aside explains nearly as well.

    The turn leaves it open with 85 % already, not with 75 %.
    """
    rays_a = np.random.default_rng(2).uniform((-0.5, -0.3), (0.3, 0.3), (100, 2))
    turn = pose_at(z=-1.0, yaw=np.radians(20))
    rays_b = project(to_camera(turn, 200 * np.c_[rays_a, np.ones(100)]))
    aside = pose_at(x=-1.0, yaw=np.radians(26))
    views = rays_a, rays_b, 20 * SIGMA
    parallax = [depth_spread(*views[:2], motion, views[2], None)[1] for motion in (turn, aside)]
    assert parallax[0] < np.radians(1) and parallax[1] > np.radians(5)
    assert ambiguous([(aside, 100.0), (turn, 85.0)], *views, None)
    assert not ambiguous([(aside, 100.0), (turn, 75.0)], *views, None)
    assert not ambiguous([(turn, 100.0), (aside, 85.0)], *views, None)
