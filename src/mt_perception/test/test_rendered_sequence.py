"""Rendered sequences: exact, deterministic, rich enough to track."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mt_perception.errors import SequenceError
from mt_perception.rendering import render
from mt_perception.sequences import open_sequence
from mt_perception.sequences.rendered import RenderedSequence
from mt_perception.types import UNKNOWN_CLASS

SIZE = {'width': 320, 'height': 240}
DIGEST = """
import hashlib, sys
from mt_perception.sequences.rendered import RenderedSequence
from mt_perception.rendering import render
sequence = RenderedSequence(sys.argv[1], seed=4, width=320, height=240)
views = render(sequence.scene, sequence.camera.scaled(160, 120), sequence.poses[9])
print(hashlib.sha256(b''.join(view.tobytes() for view in views)).hexdigest())
"""


def warp_error(a, b):
    """
    Look up what frame ``a`` sees in frame ``b`` by depth and poses.

    :return: share of the pixels with depth that are visible in both, and their median gray difference with
        and without the warp.
    """
    k, depth = a.camera.matrix, a.depth
    v, u = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    points = np.stack([(u - k[0, 2]) / k[0, 0] * depth, (v - k[1, 2]) / k[1, 1] * depth, depth], -1)
    motion = np.linalg.inv(b.pose) @ a.pose
    points = points @ motion[:3, :3].T + motion[:3, 3]
    with np.errstate(invalid='ignore', divide='ignore'):
        x = (points[..., 0] / points[..., 2] * k[0, 0] + k[0, 2]).astype(np.float32)
        y = (points[..., 1] / points[..., 2] * k[1, 1] + k[1, 2]).astype(np.float32)
        inside = (
            (points[..., 2] > 0.1) & (x > 0) & (y > 0) & (x < depth.shape[1] - 1) & (y < depth.shape[0] - 1)
        )
    gray = [cv2.GaussianBlur(cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0) for f in (a, b)]
    gray = [g.astype(np.float32) for g in gray]
    there = cv2.remap(gray[1], x, y, cv2.INTER_LINEAR)
    depth_there = cv2.remap(np.nan_to_num(b.depth, nan=1e4), x, y, cv2.INTER_NEAREST)
    with np.errstate(invalid='ignore'):
        visible = inside & (np.abs(depth_there - points[..., 2]) < 0.02 * points[..., 2])
    error = np.median(np.abs(gray[0] - there)[visible])
    return visible.sum() / inside.sum(), error, np.median(np.abs(gray[0] - gray[1])[visible])


@pytest.mark.parametrize('name', ['street', 'room'])
def test_depth_and_pose_explain_the_next_image(name, request):
    """One frame warped into another by depth and pose looks the same; not warped it does not."""
    sequence = request.getfixturevalue(name)
    visible, error, unwarped = warp_error(sequence[20], sequence[22])
    assert visible > 0.8
    assert error < 2.0
    assert error < unwarped / 3


@pytest.mark.parametrize('name', ['street', 'room'])
def test_every_process_renders_the_same(name, request):
    """Demo, report, tests and training see one and the same picture, whatever was seen before."""
    source = str(Path(sys.modules['mt_perception'].__file__).parents[1])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([source, os.environ.get('PYTHONPATH', '')]))
    done = subprocess.run(
        [sys.executable, '-c', DIGEST, name], capture_output=True, text=True, check=True, env=environment
    )
    sequence = request.getfixturevalue(name)
    sequence[100]
    views = render(sequence.scene, sequence.camera.scaled(160, 120), sequence.poses[9])
    assert done.stdout.split() == [hashlib.sha256(b''.join(view.tobytes() for view in views)).hexdigest()]


def test_street_has_the_classes(street):
    """All of CamVid's classes turn up along a street, the large ones in every frame."""
    frames = [street[i] for i in range(0, 150, 30)]
    found = set(np.unique([f.labels for f in frames]).tolist())
    assert found == set(range(11))
    for frame in frames:
        share = np.bincount(frame.labels.ravel(), minlength=11) / frame.labels.size
        assert share[3] > 0.1  # road
        assert share[[1, 5]].sum() > 0.1  # buildings and trees
        assert (np.isnan(frame.depth) == (frame.labels == 0)).all()
        assert np.nanmin(frame.depth) > 0.5
        assert frame.labels.dtype == np.uint8
        assert frame.depth.dtype == np.float32


def test_room_has_depth_everywhere_and_no_street_classes(room):
    for i in (0, 70, 140):
        frame = room[i]
        assert (frame.labels == UNKNOWN_CLASS).all()
        assert np.isfinite(frame.depth).all()
        assert 0.2 < np.median(frame.depth) < 5
        assert frame.depth.max() < 9


@pytest.mark.parametrize('name', ['street', 'room'])
def test_textures_are_rich(name, request):
    """Enough corners for any tracker, spread over the image."""
    sequence = request.getfixturevalue(name)
    detector = cv2.FastFeatureDetector_create(threshold=15)
    for i in range(0, 150, 50):
        points = cv2.KeyPoint_convert(detector.detect(cv2.cvtColor(sequence[i].image, cv2.COLOR_RGB2GRAY)))
        assert len(points) > 400
        cells = set(map(tuple, (points // (80, 60)).astype(int).tolist()))
        assert len(cells) >= 9  # of 16


def test_street_drives_at_camera_height(street):
    poses = np.array(street.poses)
    assert np.allclose(poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1)
    assert np.abs(poses[:, 2, 3] - 1.5).max() < 0.05
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert np.allclose(steps, 0.7, atol=0.06)  # 7 m/s at 10 Hz
    forward = np.einsum('ni,ni->n', np.diff(poses[:, :3, 3], axis=0), poses[:-1, :3, 2])
    assert (forward > 0.6).all()


def test_loop_comes_back():
    sequence = RenderedSequence('loop', 4, **SIZE)
    poses = np.array(sequence.poses)
    away = np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1)
    again = 10 + np.flatnonzero(away[10:] < 1.0)
    assert away.max() > 40
    assert len(again)
    first, last = sequence[0], sequence[int(again[np.argmin(away[again])])]
    assert (first.labels == last.labels).mean() > 0.7  # the same place looks the same


def test_room_moves_by_hand(room):
    poses = np.array(room.poses)
    motion = np.linalg.inv(poses[:-1]) @ poses[1:]
    angles = np.degrees(np.arccos(np.clip((np.trace(motion[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 0.01 < np.linalg.norm(motion[:, :3, 3], axis=1).mean() < 0.12
    assert angles.max() < 10
    assert np.ptp(poses[:, 2, 3]) > 0.05


def test_seeds_are_different_worlds(room, street):
    other = RenderedSequence('room', 5, **SIZE)
    assert np.abs(other[0].image.astype(int) - room[0].image).mean() > 20
    assert RenderedSequence('street', 5, **SIZE).scene.origin.shape != street.scene.origin.shape


def test_camera_and_length_are_chosen():
    sequence = RenderedSequence('room', 1, frames=7, width=200, height=100, fps=20, focal=150)
    assert len(sequence) == 7
    assert sequence.stamps.tolist() == [i / 20 for i in range(7)]
    assert (sequence.camera.width, sequence.camera.height, sequence.camera.fx) == (200, 100, 150)
    assert sequence[-1].index == 6
    assert sequence[3].image.shape == (100, 200, 3)
    with pytest.raises(IndexError):
        sequence[7]


def test_traffic_moves():
    """Moving cars change the picture of a standing camera, and only theirs."""
    still = RenderedSequence('street', 4, frames=40, speed=0.0, traffic=6, **SIZE)
    first, later = still[0], still[15]
    changed = first.labels != later.labels
    assert changed.any()
    assert np.isin(first.labels[changed], (8, 10)).any() or np.isin(later.labels[changed], (8, 10)).any()
    assert changed.mean() < 0.2
    assert set(np.unique(first.labels[first.moving])) <= {8, 10} and 0 < first.moving.mean() < 0.3


def test_photometry(room):
    """Exposure, defocus and noise change the picture as named, repeatably, and nothing else."""
    clean = room[3]

    def taken(**options):
        frame = RenderedSequence('room', 4, frames=5, **SIZE, **options)[3]
        assert np.array_equal(frame.depth, clean.depth)
        return frame.image.astype(float)

    mean = clean.image.mean()
    assert taken(exposure=0.5).mean() == pytest.approx(mean * 0.5 ** (1 / 2.2), rel=0.02)
    sharpness = [
        cv2.Laplacian(image, cv2.CV_64F).std() for image in (clean.image.astype(float), taken(blur=1.5))
    ]
    assert sharpness[1] < sharpness[0] / 3
    noisy = taken(noise=3.0)
    assert np.array_equal(noisy, taken(noise=3.0))
    assert 3 < (noisy - clean.image).std() < 20
    assert abs((noisy - clean.image).mean()) < 1.5


def test_opening_by_name():
    sequence = open_sequence('rendered:room:3', frames='5:-140')
    assert len(sequence) == 5
    assert sequence.stamps[0] == 0.5
    assert sequence[0].index == 5


@pytest.mark.parametrize(
    'source, sentence',
    [
        ('rendered:moon', "no rendered scene 'moon'; use one of street"),
        ('rendered:street:x', "'rendered:street:x' is not rendered:SCENE:SEED"),
        ('rendered:street:-1', 'whole number'),
    ],
)
def test_wrong_names(source, sentence):
    with pytest.raises(SequenceError, match=sentence):
        open_sequence(source)
