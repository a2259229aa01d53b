"""Homographies: pixel conventions, estimation and its judgement."""

import cv2
import numpy as np
import pytest

from mt_training.metrics.homography import (
    corner_error,
    estimate_homography,
    inside,
    resize_matrix,
    resized_homography,
    view_change,
    warp_points,
)

PERSPECTIVE = np.array([[0.9, 0.2, 12.0], [-0.15, 1.1, 30.0], [1e-4, -2e-4, 1.0]])


def similarity(degrees, scale, x=0.0, y=0.0):
    """[3,3] rotation, scale and shift."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


def test_warp_agrees_with_opencv_and_inverts():
    """The same as cv2.perspectiveTransform; the inverse leads back."""
    points = np.random.default_rng(0).uniform(0, 400, (50, 2))
    expected = cv2.perspectiveTransform(points[None], PERSPECTIVE)[0]
    np.testing.assert_allclose(warp_points(points, PERSPECTIVE), expected, atol=1e-9)
    np.testing.assert_allclose(warp_points(points, -3 * PERSPECTIVE), expected, atol=1e-9)
    np.testing.assert_allclose(warp_points(expected, np.linalg.inv(PERSPECTIVE)), points, atol=1e-9)


def test_points_beyond_the_horizon_are_nowhere():
    """A point behind the second camera is not mapped to a mirrored place inside the image."""
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.01, 1]])
    mapped = warp_points([[10, 50], [10, -200]], homography)
    assert np.isfinite(mapped[0]).all() and np.isinf(mapped[1]).all()
    assert inside(mapped, (640, 480)).tolist() == [True, False]


@pytest.mark.parametrize('size', [(320, 240), (800, 400)])
def test_resize_matrix_follows_cv2_resize(size):
    """The centre of a blob moves with the image, to a tenth of a pixel."""
    y, x = np.mgrid[:480, :640]
    blob = np.exp(-((x - 203.0) ** 2 + (y - 111.0) ** 2) / (2 * 12**2)).astype(np.float32)
    small = cv2.resize(blob, size, interpolation=cv2.INTER_AREA if size[0] < 640 else cv2.INTER_LINEAR)
    rows, columns = np.mgrid[: size[1], : size[0]]
    centre = [(columns * small).sum() / small.sum(), (rows * small).sum() / small.sum()]
    np.testing.assert_allclose(
        warp_points([[203, 111]], resize_matrix((640, 480), size))[0], centre, atol=0.02
    )


def test_resized_homography_maps_resized_points():
    """Mapping then resizing is resizing then mapping."""
    first, second, new = (800, 640), (1000, 700), (640, 480)
    points = np.random.default_rng(1).uniform(0, 600, (20, 2))
    direct = warp_points(warp_points(points, PERSPECTIVE), resize_matrix(second, new))
    resized = warp_points(points, resize_matrix(first, new))
    np.testing.assert_allclose(
        warp_points(resized, resized_homography(PERSPECTIVE, first, second, new)), direct, atol=1e-9
    )


def test_corner_error_of_a_shift():
    """A shift by (3, 4) pixels is an error of 5; no homography is an infinite one."""
    assert corner_error(similarity(0, 1, 3, 4), np.eye(3), (640, 480)) == pytest.approx(5)
    assert corner_error(None, np.eye(3), (640, 480)) == np.inf
    assert corner_error(np.zeros((3, 3)), np.eye(3), (640, 480)) == np.inf


def test_ransac_finds_the_homography_among_outliers():
    """With 40 % wrong matches the corners are right to a hundredth of a pixel, the right ones named."""
    rng = np.random.default_rng(2)
    first = rng.uniform(0, 480, (200, 2))
    second = warp_points(first, PERSPECTIVE)
    second[:80] = rng.uniform(0, 480, (80, 2))
    estimated, inliers = estimate_homography(first, second)
    assert corner_error(estimated, PERSPECTIVE, (640, 480)) < 0.01
    assert inliers[80:].all() and inliers[:80].sum() < 5
    order = rng.permutation(200)
    again, reordered = estimate_homography(first, second, order=order)
    assert corner_error(again, PERSPECTIVE, (640, 480)) < 0.01
    np.testing.assert_array_equal(inliers, reordered)


def test_estimation_is_deterministic():
    """Noisy matches give the same matrix every time."""
    rng = np.random.default_rng(3)
    first = rng.uniform(0, 480, (100, 2))
    second = warp_points(first, PERSPECTIVE) + rng.normal(0, 1, (100, 2))
    np.testing.assert_array_equal(
        estimate_homography(first, second)[0], estimate_homography(first, second)[0]
    )


def test_too_few_matches_fail():
    """Three matches are no homography; points on a line neither."""
    points = np.random.default_rng(4).uniform(0, 100, (3, 2))
    assert estimate_homography(points, points)[0] is None
    line = np.stack([np.arange(10.0), np.arange(10.0)], 1)
    assert corner_error(estimate_homography(line, line)[0], PERSPECTIVE, (640, 480)) > 5


@pytest.mark.parametrize('degrees, scale', [(0, 1), (37, 1.8), (-150, 0.5), (175, 1.0)])
def test_view_change_of_a_similarity(degrees, scale):
    """Rotation without sign, scale as the larger over the smaller."""
    angle, change = view_change(similarity(degrees, scale, 5, 6), (640, 480))
    assert angle == pytest.approx(abs(degrees), abs=1e-6)
    assert change == pytest.approx(max(scale, 1 / scale))
