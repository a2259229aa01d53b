"""Trajectory files: what is written is read back, and evo's conventions are kept."""

import cv2
import numpy as np
import pytest

from mt_perception.errors import SequenceError
from mt_perception.sequences.trajectory_io import (
    interpolate_poses,
    quaternions_to_rotations,
    read_kitti,
    read_tum,
    rotations_to_quaternions,
    write_kitti,
    write_tum,
)


def rotations(count, seed=0, largest=np.pi):
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    vectors *= (np.linspace(0, largest, count) / np.linalg.norm(vectors, axis=1))[:, None]
    return np.array([cv2.Rodrigues(v)[0] for v in vectors]), vectors


def poses(count):
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = rotations(count)[0]
    matrices[:, :3, 3] = np.random.default_rng(1).normal(size=(count, 3)) * 50
    return matrices


def test_quaternions_of_all_angles():
    """From the identity to half a turn, against the definition by axis and angle."""
    matrices, vectors = rotations(60)
    quaternions = rotations_to_quaternions(matrices)
    angles = np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.c_[np.sin(angles / 2) * vectors / np.maximum(angles, 1e-12), np.cos(angles / 2)]
    assert np.allclose(np.abs((quaternions * expected).sum(1)), 1, atol=1e-12)
    assert (quaternions[:, 3] >= 0).all()
    assert np.allclose(quaternions_to_rotations(quaternions), matrices, atol=1e-12)
    assert np.allclose(quaternions_to_rotations(3 * quaternions), matrices, atol=1e-12)


def test_tum_round_trip(tmp_path):
    path, stamps, truth = tmp_path / 'trajectory.txt', 1.7e9 + np.arange(20) / 30, poses(20)
    write_tum(path, stamps, truth)
    read_stamps, read = read_tum(path)
    assert np.allclose(read_stamps, stamps, atol=1e-6)
    assert np.allclose(read, truth, atol=1e-7)
    assert [p.name for p in tmp_path.iterdir()] == ['trajectory.txt']


def test_tum_is_what_evo_reads(tmp_path):
    """Order of the columns: stamp, position, quaternion with the scalar last."""
    file_interface = pytest.importorskip('evo.tools.file_interface')
    path, truth = tmp_path / 'trajectory.txt', poses(7)
    write_tum(path, np.arange(7.0), truth)
    trajectory = file_interface.read_tum_trajectory_file(str(path))
    assert np.allclose(trajectory.poses_se3, truth, atol=1e-7)
    write_kitti(path, truth)
    assert np.allclose(file_interface.read_kitti_poses_file(str(path)).poses_se3, truth, atol=1e-7)


def test_kitti_round_trip(tmp_path):
    path, truth = tmp_path / 'poses.txt', poses(9)
    write_kitti(path, truth)
    assert np.allclose(read_kitti(path), truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('', 'holds no poses'),
        ('1 2 3\n', 'has 3 values in entry 1, not 8'),
        ('1 0 0 0 0 0 0 1\n2 0 0 nan 0 0 0 1\n', 'has NaN or infinite values in entry 2'),
        ('1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 0\n', 'has a quaternion of length zero in entry 2'),
        ('2 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 1\n', 'do not increase: entry 2'),
        ('a b c d e f g h\n', 'has no numbers in entry 1'),
    ],
)
def test_damaged_tum(tmp_path, text, sentence):
    (tmp_path / 't.txt').write_text(text)
    with pytest.raises(SequenceError, match=sentence):
        read_tum(tmp_path / 't.txt')


def test_missing_and_unwritable(tmp_path):
    with pytest.raises(SequenceError, match="none.txt' cannot be read"):
        read_tum(tmp_path / 'none.txt')
    with pytest.raises(SequenceError, match='cannot be written'):
        write_tum(tmp_path / 'no_folder' / 't.txt', [0.0], poses(1))
    assert list(tmp_path.iterdir()) == []


class TestInterpolation:
    known = np.array([0.0, 1.0, 2.0, 6.0])

    def interpolate(self, stamps, max_gap=1.5):
        """A turn about z of 40° a second while moving along x."""
        angles = np.radians(40) * self.known
        zeros = np.zeros(4)
        quaternions = np.c_[zeros, zeros, np.sin(angles / 2), np.cos(angles / 2)] * [[1], [-1], [1], [2]]
        return interpolate_poses(stamps, self.known, np.c_[self.known, zeros, zeros], quaternions, max_gap)

    @pytest.mark.parametrize('t', [0.0, 0.25, 1.0, 1.9])
    def test_between(self, t):
        """Constant velocity and turn rate are met exactly, whatever the signs of the quaternions."""
        (pose,) = self.interpolate([t])
        assert np.allclose(pose[:3, 3], (t, 0, 0))
        assert np.allclose(pose[:3, :3], cv2.Rodrigues(np.array((0, 0, np.radians(40) * t)))[0])

    def test_gaps_and_ends(self):
        found = self.interpolate([-0.5, -0.1, 2.1, 4.0, 5.9, 6.1, 7.0])
        assert [p is not None for p in found] == [False, True, True, False, True, True, False]

    def test_single_entry(self):
        found = interpolate_poses([0.0, 5.0], [0.01], np.ones((1, 3)), np.array([[0, 0, 0, 1.0]]), 1.0)
        assert np.allclose(found[0][:3, 3], 1)
        assert found[1] is None
