"""Keypoint metrics on synthetic points with known answers, and against plain loops over the definitions."""

import numpy as np
import pytest

from mt_training.metrics.homography import warp_points
from mt_training.metrics.keypoints import (
    matcher_matching_score,
    matching_accuracy,
    nearest_matching_score,
    repeatability,
    shared_points,
)

SIZE = (640, 480)
HOMOGRAPHY = np.array([[0.95, 0.1, 20.0], [-0.08, 1.02, 15.0], [5e-5, -4e-5, 1.0]])


def grid(step=40):
    """[N,2] points at least 40 pixels apart and away from the border."""
    x, y = np.meshgrid(np.arange(60, 560, step), np.arange(60, 400, step))
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)


def unit(vectors):
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_perfect_detector():
    """Every point found again at its place: repeatability 1, error 0."""
    points = grid()
    assert repeatability(points, warp_points(points, HOMOGRAPHY), HOMOGRAPHY, SIZE) == pytest.approx((1, 0))


def test_localization_error_is_the_distance():
    """Points found 1.5 pixels off are found; 3.5 pixels off they are not."""
    points = grid()
    found = warp_points(points, HOMOGRAPHY)
    assert repeatability(points, found + (1.5, 0), HOMOGRAPHY, SIZE) == pytest.approx((1, 1.5))
    missed = repeatability(points, found + (3.5, 0), HOMOGRAPHY, SIZE)
    assert missed[0] == 0 and np.isnan(missed[1])


def test_half_of_the_points_found_again():
    """Of N points here and N/2 there, (N/2 + N/2) of (N + N/2) are repeated."""
    points = grid()
    half = warp_points(points[: len(points) // 2], HOMOGRAPHY)
    expected = 2 * len(half) / (len(points) + len(half))
    assert repeatability(points, half, HOMOGRAPHY, SIZE)[0] == pytest.approx(expected)


def test_points_outside_the_other_image_do_not_count():
    """What the second image cannot show is not missing there."""
    shift = np.array([[1.0, 0, -300], [0, 1, 0], [0, 0, 1]])
    points = np.array([[100.0, 100], [400, 100], [500, 200]])
    found = np.array([[100.0, 100], [200, 200], [600, 300]])  # the last is outside the first image
    assert [m.tolist() for m in shared_points(points, found, shift, SIZE)] == [
        [False, True, True],
        [True, True, False],
    ]
    assert repeatability(points, found, shift, SIZE)[0] == 1


def test_no_points():
    """Without any point there is no number; with points in one image only nothing is repeated."""
    none = np.zeros((0, 2))
    assert np.isnan(repeatability(none, none, HOMOGRAPHY, SIZE)).all()
    assert repeatability(grid(), none, HOMOGRAPHY, SIZE)[0] == 0
    assert matching_accuracy(none, none, HOMOGRAPHY, (1, 3)) == [0, 0]
    assert nearest_matching_score(none, grid(), none, unit(grid()), HOMOGRAPHY, SIZE) == 0


def test_repeatability_and_matching_score_follow_their_definition():
    """The same numbers as loops over all pairs of random points."""
    rng = np.random.default_rng(0)
    first = rng.uniform(0, SIZE, (150, 2))
    second = np.concatenate(
        [warp_points(first[:90], HOMOGRAPHY) + rng.normal(0, 1.5, (90, 2)), rng.uniform(0, SIZE, (50, 2))]
    )
    first_descriptors = unit(rng.standard_normal((150, 8)))
    second_descriptors = unit(
        np.concatenate([first_descriptors[:90], rng.standard_normal((50, 8))]) + rng.normal(0, 0.3, (140, 8))
    )
    inverse = np.linalg.inv(HOMOGRAPHY)

    def is_inside(point):
        return 0 <= point[0] < SIZE[0] and 0 <= point[1] < SIZE[1]

    here = [p for p in warp_points(first, HOMOGRAPHY) if is_inside(p)]
    there = [q for q, back in zip(second, warp_points(second, inverse)) if is_inside(back)]
    nearest = [min(np.hypot(*(p - q)) for q in there) for p in here] + [
        min(np.hypot(*(p - q)) for p in here) for q in there
    ]
    near = [d for d in nearest if d <= 3]
    rate, error = repeatability(first, second, HOMOGRAPHY, SIZE)
    assert rate == pytest.approx(len(near) / (len(here) + len(there)))
    assert error == pytest.approx(np.mean(near))

    scores = []
    for a, b, da, db, matrix in (
        (first, second, first_descriptors, second_descriptors, inverse),
        (second, first, second_descriptors, first_descriptors, HOMOGRAPHY),
    ):
        visible = correct = 0
        for point, descriptor in zip(a, da):
            partner = warp_points(b[[int(np.argmin(np.linalg.norm(db - descriptor, axis=1)))]], matrix)[0]
            shown = 0 <= partner[0] <= SIZE[0] - 1 and 0 <= partner[1] <= SIZE[1] - 1
            visible += shown
            correct += shown and np.hypot(*(partner - point)) < 3
        scores.append(correct / visible)
    score = nearest_matching_score(first, second, first_descriptors, second_descriptors, HOMOGRAPHY, SIZE)
    assert score == pytest.approx(np.mean(scores))
    assert 0.1 < score < 0.9


def test_matching_accuracy_counts_by_threshold():
    """Matches 0.5, 2 and 4 pixels off: a third within 1, two thirds within 3, all within 5."""
    points = grid()[:3]
    off = warp_points(points, HOMOGRAPHY) + np.array([[0.5, 0], [0, 2], [4, 0]])
    assert matching_accuracy(points, off, HOMOGRAPHY, (1, 3, 5)) == pytest.approx([1 / 3, 2 / 3, 1])


def test_matcher_score_counts_points_left_out():
    """A matcher that matches half of the points, all rightly, reaches one half."""
    points = grid()
    other = warp_points(points, HOMOGRAPHY)
    half = np.arange(len(points) // 2)
    index = np.stack([half, half], 1)
    expected = len(half) / len(points)
    assert matcher_matching_score(points, other, index, HOMOGRAPHY, SIZE) == pytest.approx(expected)
    wrong = np.stack([half, half + 1], 1)
    assert matcher_matching_score(points, other, wrong, HOMOGRAPHY, SIZE) == 0
