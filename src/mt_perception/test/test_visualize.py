"""The pictures of the demo and the evaluation: right size, right colours, right places."""

import numpy as np
import pytest

import contract_models
from mt_perception.matching.base import Matches
from mt_perception.perception import visualize
from mt_perception.types import Keypoints

METADATA = contract_models.perception_metadata()


def image(width=120, height=80, value=100):
    return np.full((height, width, 3), value, np.uint8)


def keypoints(xy, size=(120, 80), depth=None):
    n = len(xy)
    return Keypoints.create(np.reshape(xy, (n, 2)), np.ones(n), np.ones((n, 1)), size, depth=depth)


def changed(before, after):
    """Return (x, y) of the centre of what changed."""
    y, x = np.nonzero((before != after).any(2))
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


def test_segmentation_colors():
    classes = np.array([[0, 2], [4, 255]], np.uint8)
    painted = visualize.color_segmentation(classes, METADATA.color_table)
    assert painted.tolist() == [[[128, 128, 128], [128, 64, 128]], [[64, 64, 0], [0, 0, 0]]]


def test_overlay_has_the_images_size_and_marks_edges():
    classes = np.zeros((40, 60), np.uint8)
    classes[:, 30:] = 2
    before = image()
    out = visualize.overlay_segmentation(before, classes, METADATA.color_table, opacity=0.5)
    assert out.shape == before.shape and (before == 100).all()
    assert out[40, 20].tolist() == [114, 114, 114]
    assert out[40, 100].tolist() == [114, 82, 114]
    assert out[40, 58:63].max(1).min() < 60  # a dark line between the classes


def test_legend_lists_the_classes_that_occur():
    classes = np.array([[0, 3]], np.uint8)
    out = visualize.with_legend(image(), METADATA, classes)
    assert out.shape == (80 + visualize.LEGEND_HEIGHT, 120, 3)
    found = {tuple(color) for color in out[80:].reshape(-1, 3).tolist()}
    assert (128, 128, 128) in found and (64, 0, 128) in found
    assert (128, 64, 128) not in found  # road does not occur
    everything = visualize.with_legend(image(), METADATA)
    found = {tuple(color) for color in everything[80:].reshape(-1, 3).tolist()}
    assert {tuple(color) for color in METADATA.class_colors} <= found


def test_depth_colors():
    depth = np.array([[1, 2, 4, 8, np.nan, 0, np.inf, -1]], np.float32)
    out = visualize.color_depth(depth, (1, 8)).astype(int)[0]
    assert (out[4:] == 0).all()  # unknown is black
    assert out[0, 0] > out[0, 2]  # near is red
    assert out[3, 2] > out[3, 0]  # far is blue
    assert len({tuple(color) for color in out[:4].tolist()}) == 4
    beyond = visualize.color_depth(np.array([[0.5, 80]], np.float32), (1, 8))[0]
    np.testing.assert_array_equal(beyond, out[[0, 3]])


@pytest.mark.parametrize('depth', [np.full((4, 4), np.nan, np.float32), np.full((4, 4), 3, np.float32)])
def test_depth_without_range(depth):
    out = visualize.color_depth(depth)
    assert out.shape == (4, 4, 3)
    assert (out == 0).all() == bool(np.isnan(depth).all())


def test_depth_scale():
    out = visualize.with_depth_scale(image(400), (1.0, 10.0))
    assert out.shape == (80 + visualize.LEGEND_HEIGHT, 400, 3)
    bar = out[80 + 10, 70:330].astype(int)
    assert bar[0, 0] > bar[0, 2] and bar[-1, 2] > bar[-1, 0]
    assert visualize.with_depth_scale(image(50), (1.0, 10.0)).shape[1] == 50


def test_keypoints_are_drawn_where_they_are():
    before = image()
    out = visualize.draw_keypoints(before, keypoints([(30, 20)]))
    assert changed(before, out) == (30, 20)
    assert (before == 100).all()
    large = image(240, 160)  # drawn on the image at twice the size
    assert changed(large, visualize.draw_keypoints(large, keypoints([(30, 20)]))) == pytest.approx(
        (60.5, 40.5), abs=0.5
    )


def test_keypoints_by_depth():
    points = keypoints([(20, 20), (60, 20), (100, 20)], depth=[1.0, 50.0, np.nan])
    out = visualize.draw_keypoints(image(), points, color_by='depth').astype(int)
    assert out[20, 20, 0] > out[20, 20, 2] and out[20, 60, 2] > out[20, 60, 0]
    assert tuple(out[20, 100]) == visualize.GRAY


@pytest.mark.parametrize('vertical', [False, True])
def test_matches_connect_the_right_places(vertical):
    first, second = image(), image(100, 60)
    matches = Matches(np.array([[1, 0]]), np.array([1.0], np.float32))
    points = keypoints([(5, 5), (30, 40)]), keypoints([(50, 30)], (100, 60))
    out = visualize.draw_matches(first, points[0], second, points[1], matches, vertical=vertical)
    assert out.shape == ((140, 120, 3) if vertical else (80, 220, 3))
    offset = (0, 80) if vertical else (120, 0)
    for x, y in ((30, 40), (50 + offset[0], 30 + offset[1])):
        assert tuple(out[y, x]) != (100, 100, 100)
    assert tuple(out[5, 5]) == (100, 100, 100)  # not matched
    middle = np.array([(30 + 50 + offset[0]) / 2, (40 + 30 + offset[1]) / 2]).round().astype(int)
    assert tuple(out[middle[1], middle[0]]) != (100, 100, 100)


def test_outliers_are_red():
    points = keypoints([(20, 20), (60, 60)])
    matches = Matches(np.array([[0, 0], [1, 1]]), np.array([0.9, 0.9], np.float32))
    out = visualize.draw_matches(image(), points, image(), points, matches, inliers=[True, False]).astype(int)
    assert out[60, 60, 0] > out[60, 60, 1] + 60
    assert out[20, 20, 1] > out[20, 20, 0]


def test_nothing_to_draw():
    empty = keypoints(np.zeros((0, 2)))
    none = Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    np.testing.assert_array_equal(visualize.draw_keypoints(image(), empty), image())
    np.testing.assert_array_equal(visualize.draw_keypoints(image(), empty, 'depth'), image())
    out = visualize.draw_matches(image(), empty, image(), empty, none, inliers=[])
    np.testing.assert_array_equal(out, np.hstack([image(), image()]))


def test_title():
    out = visualize.with_title(image(), 'depth')
    assert out.shape[0] > 80 and (out[-80:] == 100).all() and out[:20].max() > 200
