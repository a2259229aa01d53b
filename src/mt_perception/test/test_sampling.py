"""Depth and class at sub-pixel places."""

import numpy as np
import pytest

from mt_perception.perception.sampling import sample_classes, sample_depth

NAN = np.nan


def at(depth, *xy):
    return sample_depth(np.asarray(depth, np.float32), np.array(xy, np.float32))


def test_bilinear_on_a_smooth_surface():
    x, y = np.meshgrid(np.arange(20), np.arange(10))
    depth = 50 + 0.1 * x + 0.2 * y
    points = np.random.default_rng(0).uniform((0, 0), (19, 9), (100, 2))
    found = sample_depth(depth.astype(np.float32), points)
    np.testing.assert_allclose(found, 50 + 0.1 * points[:, 0] + 0.2 * points[:, 1], rtol=1e-6)


def test_surfaces_are_not_mixed():
    depth = [[1, 10], [1, 10]]
    np.testing.assert_allclose(at(depth, (0.4, 0.5), (0.6, 0.5)), [1, 10])
    np.testing.assert_allclose(at([[1, 1.05], [1, 1.05]], (0.4, 0.5)), [1.02])


@pytest.mark.parametrize('hole', [NAN, 0.0, -1.0, np.inf])
def test_invalid_pixels_do_not_count(hole):
    depth = [[2, hole], [2, hole]]
    np.testing.assert_allclose(at(depth, (0.1, 0.5), (0.9, 0.5)), [2, 2])
    found = at([[hole, hole, 2]], (0.5, 0), (1.5, 0), (0, 0))
    assert np.isnan(found[[0, 2]]).all() and found[1] == 2


def test_border():
    depth = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    points = (-5, -5), (99, 99), (2, 1), (2, 0), (-0.4, 1.4)
    np.testing.assert_allclose(at(depth, *points), [1, 6, 6, 3, 4])
    assert at([[3.0]], (0.3, 0.3)) == 3


def test_classes():
    classes = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    points = np.array([(0.4, 0.4), (0.6, 0.4), (1.6, 0.6), (-3, 9), (99, -1)], np.float32)
    found = sample_classes(classes, points)
    assert found.tolist() == [1, 2, 6, 4, 3] and found.dtype == np.uint8


def test_no_points():
    empty = np.zeros((0, 2), np.float32)
    assert sample_depth(np.ones((4, 4), np.float32), empty).shape == (0,)
    assert sample_classes(np.ones((4, 4), np.uint8), empty).shape == (0,)
