"""Similarity transforms, and poses that move smoothly."""

import numpy as np
import pytest

from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition.similarity import (
    adjoint,
    angle_of,
    interpolate,
    invert,
    rigid,
    scale_of,
    similarity,
)
from mt_perception.place_recognition.smoothing import SmoothTransform


def random_similarity(rng):
    return similarity(se3_exp(rng.normal(0, 1, 6)), np.exp(rng.normal(0, 0.5)))


def small(step):
    """Exponential of a small element of sim(3): (rotation, translation, logarithm of the scale)."""
    turn = np.array([[0, -step[2], step[1]], [step[2], 0, -step[0]], [-step[1], step[0], 0]])
    out = np.eye(4)
    out[:3, :3] += turn + step[6] * np.eye(3)
    out[:3, 3] = step[3:6]
    return out


def test_parts_and_inverse():
    """A similarity is its pose and its scale; its inverse undoes it."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        transform = random_similarity(rng)
        np.testing.assert_allclose(similarity(rigid(transform), scale_of(transform)), transform, atol=1e-12)
        np.testing.assert_allclose(
            rigid(transform)[:3, :3].T @ rigid(transform)[:3, :3], np.eye(3), atol=1e-12
        )
        np.testing.assert_allclose(invert(transform) @ transform, np.eye(4), atol=1e-12)


def test_the_adjoint_carries_a_perturbation_from_right_to_left():
    """S exp(x) = exp(Ad x) S to first order, for each of the seven directions."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        transform, h = random_similarity(rng), 1e-7
        for k in range(7):
            step = np.zeros(7)
            step[k] = h
            left = small(adjoint(transform) @ step) @ transform
            np.testing.assert_allclose((transform @ small(step) - left) / h, 0, atol=1e-5)


def test_angle_is_exact_for_small_and_large_turns():
    for angle in (1e-6, 0.3, 3.1):
        turn = se3_exp(np.array([1, 2, 3, 0, angle, 0]))
        assert angle_of(similarity(turn, 2.5)) == pytest.approx(angle, rel=1e-6)


def test_between_two_similarities():
    """The ends are met; half of a turn about one axis is half the angle, half of a scale its root."""
    rng = np.random.default_rng(2)
    first, second = random_similarity(rng), random_similarity(rng)
    np.testing.assert_allclose(interpolate(first, second, 0), first, atol=1e-12)
    np.testing.assert_allclose(interpolate(first, second, 1), second, atol=1e-12)
    turn = similarity(se3_exp(np.array([0, 0, 0, 0, 1.0, 0])), 4.0)
    half = interpolate(np.eye(4), turn, 0.5)
    assert angle_of(half) == pytest.approx(0.5) and scale_of(half) == pytest.approx(2)


class TestSmoothTransform:
    """map → odom never moves the robot faster than it may."""

    def test_limited_where_the_robot_is(self):
        """A turn of the transform by 10° moves a robot 100 m off by 17 m: that takes 17 s at 1 m/s."""
        smooth = SmoothTransform(1.0, np.radians(45))
        robot = np.eye(4)
        robot[0, 3] = 100.0
        target = se3_exp(np.array([0, 0, 0, 0, 0, np.radians(10)]))
        smooth.update(np.eye(4), robot, 0.0)
        before, times = robot, []
        for k in range(1, 400):
            stamp = 0.1 * k
            present = smooth.update(target, robot, stamp) @ robot
            assert np.linalg.norm(present[:3, 3] - before[:3, 3]) <= 0.1 + 1e-9
            before = present
            if np.allclose(smooth.value, target):
                times.append(stamp)
        distance = 2 * 100 * np.sin(np.radians(5))
        assert times[0] == pytest.approx(distance, abs=0.2)

    def test_the_turn_is_limited_too(self):
        smooth = SmoothTransform(0.0, np.radians(5))
        target = se3_exp(np.array([5.0, 0, 0, 0, 0, np.radians(20)]))
        smooth.update(np.eye(4), np.eye(4), 0.0)
        assert np.degrees(angle_of(smooth.update(target, np.eye(4), 1.0))) == pytest.approx(5)
        np.testing.assert_allclose(smooth.update(target, np.eye(4), 4.01), target, atol=1e-9)

    def test_follows_a_robot_that_moves_on(self):
        """While the transform moves, the robot drives: what is limited is the correction alone."""
        smooth = SmoothTransform(0.5, np.radians(10))
        target = se3_exp(np.array([0.0, 2.0, 0, 0, 0, 0]))
        robot = np.eye(4)
        smooth.update(np.eye(4), robot, 0.0)
        for k in range(1, 60):
            before = smooth.value.copy()
            robot = robot @ se3_exp(np.array([1.0, 0, 0, 0, 0, 0.1]))
            after = smooth.update(target, robot, 0.1 * k)
            moved = np.linalg.norm((after @ robot - before @ robot)[:3, 3])
            assert moved <= 0.05 + 1e-9
        np.testing.assert_allclose(smooth.value, target, atol=1e-9)

    def test_zero_rates_and_a_jump_are_at_once_and_time_must_advance(self):
        target = se3_exp(np.array([3.0, 0, 0, 0, 0, 1.0]))
        np.testing.assert_allclose(SmoothTransform(0, 0).update(target, np.eye(4), 1.0), target)
        smooth = SmoothTransform(1.0, 1.0)
        smooth.jump(target, 1.0)
        np.testing.assert_allclose(smooth.update(target, np.eye(4), 1.0), target)
        np.testing.assert_allclose(smooth.update(np.eye(4), np.eye(4), 0.5), target, atol=1e-12)
        half = smooth.update(inverse(target) @ target, np.eye(4), 1.0)
        assert 0 < np.linalg.norm(half[:3, 3]) < 3
