"""Every label must move with its image; correspondences must show the same point."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_perception.camera import Camera  # noqa: E402
from mt_training.data import light  # noqa: E402
from mt_training.data.augment import (  # noqa: E402
    random_crop,
    random_homography,
    warp_image,
    warp_labels,
    warp_points,
)
from mt_training.data.pairs import (  # noqa: E402
    SKY_DEPTH,
    HomographyPairs,
    PlacePairs,
    RgbdPairs,
    cell_targets,
)
from mt_training.data.sets import SetBuilder  # noqa: E402
from mt_training.matcher.data import assign, homography_targets, rgbd_targets  # noqa: E402


def textured(height, width, seed=0):
    """Make a smooth random RGB image: neighbouring pixels differ little, places differ a lot."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (height // 12, width // 12, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def at(image, points):
    """Sample [N,2] pixels bilinearly: [N,3] float32."""
    points = points.astype(np.float32)
    return cv2.remap(image.astype(np.float32), points[:, None, 0], points[:, None, 1], cv2.INTER_LINEAR)[:, 0]


@pytest.fixture(autouse=True)
def plain_light(monkeypatch):
    """Leave the light alone, so that views can be compared by value."""
    monkeypatch.setattr('mt_training.data.pairs.photometric', lambda rng, image, *_, **__: image)


@pytest.mark.parametrize('seed', range(4))
def test_warped_image_and_points_agree(seed):
    rng = np.random.default_rng(seed)
    image = textured(240, 320, seed)
    matrix = random_homography(rng, (320, 240), (160, 128), scale=(1.2, 1.6))
    view = warp_image(image, matrix, (160, 128))
    points = rng.uniform([60, 60], [260, 180], (200, 2))
    moved = warp_points(matrix, points)
    inside = ((moved > 2) & (moved < [157, 125])).all(axis=1)
    assert inside.sum() > 20
    error = np.abs(at(view, moved[inside]) - at(image, points[inside])).mean()
    unrelated = np.abs(at(view, moved[inside]) - at(image, points[inside][::-1])).mean()
    assert error < 12 < unrelated


def test_labels_outside_the_source_are_ignored():
    labels = np.zeros((100, 100), np.uint8)
    warped = warp_labels(labels, np.array([[1.0, 0, 50], [0, 1, 0], [0, 0, 1]]), (100, 100))
    assert (warped[:, :49] == 255).all() and (warped[:, 51:] == 0).all()


def test_random_crop_reports_its_zoom():
    rng = np.random.default_rng(3)
    matrix, zoom = random_crop(rng, (640, 480), (320, 224), scale=(0.9, 1.5), max_rotation=0.3)
    moved = warp_points(matrix, np.array([[100.0, 100], [200, 100]]))
    assert np.linalg.norm(moved[1] - moved[0]) == pytest.approx(100 * zoom)


def test_cell_targets_keep_the_strongest_point():
    cells = cell_targets(np.array([[5.0, 6.0], [6.2, 4.9], [100.0, 3.0]]), np.array([0.9, 0.2, 1.0]), (16, 8))
    assert cells.shape == (2, 4)
    assert cells[1, 1] == 2 * 4 + 1  # (5, 6) is row 2, column 1 of its cell
    assert (cells == 16).sum() == 7


def test_homography_pairs_correspond():
    image = textured(240, 320)
    labels = (image[:, :, 0] // 64).astype(np.uint8)
    keypoints = (np.random.default_rng(1).uniform(0, [320, 240], (300, 2)), np.ones(300))
    sampler = HomographyPairs([image], [labels], [keypoints], (160, 128), scale=(0.9, 1.2))
    pair = sampler.sample(np.random.default_rng(5), geometry=True)
    assert pair['images'].shape == (2, 3, 128, 160) and pair['cells'].shape == (2, 32, 40)
    points = pair['points'][:, pair['points_valid']]
    assert points.shape[1] > 30
    views = pair['images'].transpose(0, 2, 3, 1)
    assert np.abs(at(views[0], points[0]) - at(views[1], points[1])).mean() < 15
    sky = pair['labels'] == 0
    assert (pair['depth'][sky] == SKY_DEPTH).all() and np.isnan(pair['depth'][~sky]).all()
    forward, backward = homography_targets(pair, points[0], points[1])
    seen = np.isfinite(forward).all(axis=1)
    np.testing.assert_allclose(forward[seen], points[1][seen], atol=1e-2)
    seen = np.isfinite(backward).all(axis=1)
    np.testing.assert_allclose(backward[seen], points[0][seen], atol=1e-2)


def plane_frames(count=6):
    """Render a textured wall 2 m from a camera that moves sideways: frames with exact depth and poses."""
    texture = textured(600, 1200, 9)
    camera = Camera.from_focal(160, 128, 130.0)
    frames = []
    for i in range(count):
        pose = np.eye(4)
        pose[0, 3] = 0.06 * i
        matrix = np.array([[1.0, 0, -300 - 130.0 / 2 * pose[0, 3]], [0, 1, -200], [0, 0, 1]])
        image = cv2.warpPerspective(texture, matrix, (160, 128), flags=cv2.INTER_LINEAR)
        depth = np.full((128, 160), 2.0, np.float32)
        frames.append(
            {'image': image, 'depth': depth, 'labels': None, 'pose': pose, 'camera': camera,
             'keypoints': None, 'group': 'wall'}
        )  # fmt: skip
    return frames


@pytest.mark.parametrize('flip', [False, True])
def test_rgbd_pairs_correspond_and_scale_depth(flip):
    sampler = RgbdPairs(plane_frames(), (128, 96), focal=130.0, gap=4, scale=(1.0, 1.5), roll=0.3, flip=flip)
    mirrored = []
    for seed in range(6):
        pair = sampler.sample(np.random.default_rng(seed), geometry=True)
        points = pair['points'][:, pair['points_valid']]
        assert points.shape[1] > 20
        views = pair['images'].transpose(0, 2, 3, 1)
        assert np.abs(at(views[0], points[0]) - at(views[1], points[1])).mean() < 15
        forward, backward = rgbd_targets(pair, points[0], points[1])
        known = np.isfinite(forward).all(axis=1)
        assert known.sum() > 10
        np.testing.assert_allclose(forward[known], points[1][known], atol=0.05)
        known = np.isfinite(backward).all(axis=1)
        np.testing.assert_allclose(backward[known], points[0][known], atol=0.05)
        for v in range(2):
            zoom = np.sqrt(abs(np.linalg.det(pair['matrices'][v][:2, :2])))
            depth = pair['depth'][v]
            np.testing.assert_allclose(depth[np.isfinite(depth)], 2.0 / zoom, rtol=1e-4)
        turned = [np.linalg.det(m[:2, :2]) < 0 for m in pair['matrices']]
        assert turned[0] == turned[1]
        mirrored.append(turned[0])
    assert any(mirrored) == flip and not all(mirrored)


def test_what_moves_has_no_correspondences():
    frames = plane_frames()
    for frame in frames:
        frame['moving'] = np.zeros((128, 160), bool)
        frame['moving'][:, :80] = True
    sampler = RgbdPairs(frames, (128, 96), focal=130.0, gap=1, scale=(1.0, 1.0), roll=0.0)
    for seed in range(3):
        pair = sampler.sample(np.random.default_rng(seed), geometry=True)
        points = pair['points'][:, pair['points_valid']]
        assert points.shape[1] > 10
        for matrix, view in zip(pair['matrices'], points):
            assert (warp_points(np.linalg.inv(matrix), view)[:, 0] > 79).all()


def test_rendered_worlds_with_what_moves_in_them(tmp_path):
    builder = SetBuilder(None, tmp_path, None, (64, 64), 420.0)
    section = {
        'kind': 'rendered', 'worlds': {'street': [100, 101]}, 'length': 6, 'step': 3, 'teacher_every': 0,
        'gap': 3, 'scale': [1.0, 1.2], 'roll': 0.0, 'options': {'moving': True},
    }  # fmt: skip
    for _ in range(2):  # made, then read again
        frames = builder.build(section).frames
        assert len(frames) == 2
        for frame in frames:
            assert 0.1 < frame['moving'].mean() < 0.6
            assert np.isin(frame['labels'][frame['moving']], (8, 9)).mean() > 0.98, 'cars and pedestrians'


def test_assign_knows_matches_misses_and_the_unknown():
    points0 = np.array([[10.0, 10], [50, 50], [90, 90], [20, 80]])
    points1 = np.array([[12.0, 10], [70, 20]])
    forward = np.array([[11.0, 10], [np.inf, np.inf], [np.nan, np.nan], [70, 24.5]])
    backward = np.array([[11.0, 10], [np.inf, np.inf]])
    match0, match1 = assign(points0, points1, forward, backward)
    assert match0.tolist() == [0, -1, -2, -2]
    assert match1.tolist() == [0, -1]


def test_place_pairs_are_reproducible():
    images = [textured(64, 96, i) for i in range(5)]
    sampler = PlacePairs([([i], [i]) for i in images], (64, 32))
    a, b = (sampler.sample(np.random.default_rng(8)) for _ in range(2))
    assert a['images'].shape == (2, 3, 32, 64)
    np.testing.assert_array_equal(a['images'], b['images'])


def test_light_changes_nothing_but_light():
    blocks = np.random.default_rng(3).integers(0, 255, (12, 16, 3), np.uint8)
    image = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    changed = [light.photometric(np.random.default_rng(seed), image) for seed in range(40)]
    assert all(x.shape == image.shape and x.dtype == np.uint8 for x in changed)
    means = np.array([x.mean() for x in changed])
    assert means.std() > 8 and abs(means.mean() - image.mean()) < 25, 'brighter and darker'
    assert len({x.tobytes() for x in changed}) == 40
    for x in changed:  # what was an edge is one at the same place
        assert abs(best_shift(image, x)).max() == 0
    again = light.photometric(np.random.default_rng(5), image)
    assert np.array_equal(again, changed[5]), 'the generator alone decides'
    weak = light.photometric(np.random.default_rng(5), image, strength=0.2)
    assert np.abs(weak.astype(float) - image).mean() < np.abs(again.astype(float) - image).mean()
    assert light.photometric(np.random.default_rng(5), image, strength=0) is image
    state = torch.random.get_rng_state()
    light.photometric(np.random.default_rng(1), image)
    assert torch.equal(state, torch.random.get_rng_state()), 'the training draws as it did'


def best_shift(a, b):
    """Whole-pixel shift of ``b`` at which its edges fit those of ``a`` best: (rows, columns)."""
    edges = [np.abs(np.diff(x.astype(float).mean(axis=2), axis=1))[:-1] for x in (a, b)]
    edges = [x - x.mean() for x in edges]
    scores = {
        (i, j): (edges[0] * np.roll(edges[1], (i, j), (0, 1)))[3:-3, 3:-3].sum()
        for i in range(-2, 3)
        for j in range(-2, 3)
    }
    return np.array(max(scores, key=scores.get))
