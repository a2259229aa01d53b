"""
Trajectories as text: TUM (``stamp tx ty tz qx qy qz qw``) and KITTI (3×4 matrices) formats.

The same files that evo and the TUM and KITTI tools read.
"""

import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.files import check_stamps, read_kitti_poses, read_numbers
from mt_perception.writing import whole_file


def quaternions_to_rotations(quaternions):
    """Return rotation matrices [N,3,3] of quaternions [N,4] (x, y, z, w) of any length but zero."""
    quaternions = np.asarray(quaternions, np.float64)
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
        ],
        1,
    )


def rotations_to_quaternions(rotations):
    """
    Return quaternions [N,4] (x, y, z, w), w ≥ 0, of rotation matrices [N,3,3].

    The eigenvector of Bar-Itzhack (2000): robust for all angles and for slightly imprecise matrices.
    """
    r = np.asarray(rotations, np.float64)
    k = np.zeros((len(r), 4, 4))
    k[:, 0, 0] = r[:, 0, 0] - r[:, 1, 1] - r[:, 2, 2]
    k[:, 1, 1] = r[:, 1, 1] - r[:, 0, 0] - r[:, 2, 2]
    k[:, 2, 2] = r[:, 2, 2] - r[:, 0, 0] - r[:, 1, 1]
    k[:, 3, 3] = np.trace(r, axis1=1, axis2=2)
    k[:, 1, 0] = r[:, 0, 1] + r[:, 1, 0]
    k[:, 2, 0] = r[:, 0, 2] + r[:, 2, 0]
    k[:, 2, 1] = r[:, 1, 2] + r[:, 2, 1]
    k[:, 3, 0] = r[:, 2, 1] - r[:, 1, 2]
    k[:, 3, 1] = r[:, 0, 2] - r[:, 2, 0]
    k[:, 3, 2] = r[:, 1, 0] - r[:, 0, 1]
    quaternions = np.linalg.eigh(k / 3)[1][:, :, -1]  # eigh reads the lower triangle
    return np.where(quaternions[:, 3:] < 0, -quaternions, quaternions)


def poses_from_parts(translations, quaternions):
    """Return a list of [4,4] poses from [N,3] and [N,4] (x, y, z, w)."""
    poses = np.tile(np.eye(4), (len(translations), 1, 1))
    poses[:, :3, 3] = translations
    if len(poses):
        poses[:, :3, :3] = quaternions_to_rotations(quaternions)
    return list(poses)


def interpolate_poses(stamps, known_stamps, translations, quaternions, max_gap):
    """
    Interpolate a trajectory: linear in position, spherical linear in rotation.

    :param stamps: [N] seconds.
    :param known_stamps: [M] seconds, increasing.
    :param translations: [M,3].
    :param quaternions: [M,4] (x, y, z, w).
    :param max_gap: seconds; no pose between two entries farther apart than this, nor outside them,
        unless an entry lies within a tenth of it.
    :return: list of N [4,4] poses or None.
    """
    stamps, known = np.asarray(stamps, np.float64), np.asarray(known_stamps, np.float64)
    if len(known) == 0:
        return [None] * len(stamps)
    right = np.clip(np.searchsorted(known, stamps), 1, max(1, len(known) - 1))
    left = right - 1
    right = np.minimum(right, len(known) - 1)
    gap = known[right] - known[left]
    t = np.clip((stamps - known[left]) / np.where(gap > 0, gap, 1), 0, 1)
    q0 = quaternions[left] / np.linalg.norm(quaternions[left], axis=1, keepdims=True)
    q1 = quaternions[right] / np.linalg.norm(quaternions[right], axis=1, keepdims=True)
    dot = (q0 * q1).sum(1, keepdims=True)
    q1, dot = np.where(dot < 0, -q1, q1), np.abs(dot)
    angle = np.arccos(np.clip(dot, -1, 1))
    sine = np.sin(angle)
    flat = sine < 1e-8
    safe = np.where(flat, 1, sine)
    w0 = np.where(flat, 1 - t[:, None], np.sin((1 - t[:, None]) * angle) / safe)
    w1 = np.where(flat, t[:, None], np.sin(t[:, None] * angle) / safe)
    poses = poses_from_parts(
        translations[left] * (1 - t[:, None]) + translations[right] * t[:, None], w0 * q0 + w1 * q1
    )
    between = (stamps >= known[left]) & (stamps <= known[right]) & (gap <= max_gap)
    nearest = np.minimum(np.abs(stamps - known[left]), np.abs(stamps - known[right]))
    return [p if ok else None for p, ok in zip(poses, between | (nearest <= max_gap / 10))]


def read_tum(path):
    """
    Read a trajectory in TUM format.

    :return: stamps [N] seconds, list of N [4,4] poses.
    :raises SequenceError: missing, not numbers, a quaternion of length zero, or stamps that do not increase.
    """
    table = read_tum_table(path)
    return table[:, 0], poses_from_parts(table[:, 1:4], table[:, 4:8])


def read_tum_table(path):
    """Read a trajectory in TUM format as a checked [N,8] table: stamp, position, quaternion (x, y, z, w)."""
    table = read_numbers(path, 8)
    if len(table) == 0:
        raise SequenceError(f"'{path}' holds no poses")
    zero = np.flatnonzero(np.linalg.norm(table[:, 4:8], axis=1) < 1e-6)
    if len(zero):
        raise SequenceError(
            f"'{path}' has a quaternion of length zero in entry {zero[0] + 1}; remove that line"
        )
    check_stamps(table[:, 0], path)
    return table


def write_tum(path, stamps, poses):
    """
    Write a trajectory in TUM format, beside the file first and then renamed.

    :param stamps: [N] seconds.
    :param poses: N [4,4] poses.
    """
    poses = np.asarray(poses, np.float64).reshape(-1, 4, 4)
    quaternions = rotations_to_quaternions(poses[:, :3, :3])
    lines = ['# timestamp tx ty tz qx qy qz qw']
    for stamp, position, quaternion in zip(stamps, poses[:, :3, 3], quaternions):
        lines.append(f'{stamp:.9f} ' + ' '.join(f'{v:.9f}' for v in (*position, *quaternion)))
    write_text(path, '\n'.join(lines) + '\n')


def read_kitti(path):
    """Read a trajectory in KITTI format as a list of [4,4] poses."""
    return read_kitti_poses(path)


def write_kitti(path, poses):
    """Write a trajectory in KITTI format (12 numbers a line), beside the file first and then renamed."""
    rows = [' '.join(f'{v:.9e}' for v in np.asarray(pose, np.float64)[:3].ravel()) for pose in poses]
    write_text(path, '\n'.join(rows) + '\n')


def write_text(path, text):
    """Write a text file so that it is there whole or not at all."""
    with whole_file(path, SequenceError) as beside:
        beside.write_text(text, encoding='utf-8')
