"""Reading the files a sequence is made of; every failure names the file and says what to do."""

import re
from pathlib import Path

import cv2
import numpy as np

from mt_perception.errors import ImageError, SequenceError
from mt_perception.perception.images import decode_compressed

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')

DEFAULT_FPS = 10.0


def natural_key(path):
    """Sort key that puts ``frame10`` after ``frame9``."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r'(\d+)', Path(path).name)]


def list_images(folder):
    """Return the image files of a folder in natural order of their names."""
    return sorted(
        (
            f
            for f in Path(folder).iterdir()
            if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith('.')
        ),
        key=natural_key,
    )


def read_bytes(path):
    """Return the content of a file that has to be there."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SequenceError(
            f"'{path}' cannot be read ({error.strerror}); the sequence is incomplete"
        ) from None


def read_rgb(path):
    """
    Read an image as [H,W,3] uint8 RGB; gray ones are repeated, 16-bit ones scaled.

    :raises SequenceError: missing, empty, cut off or not an image.
    """
    try:
        return decode_compressed(read_bytes(path))
    except ImageError:
        raise SequenceError(
            f"'{path}' is not a readable image (empty, cut off or another format); copy it again"
        ) from None


def read_depth(path, scale, invalid=(0, 65535)):
    """
    Read a 16-bit depth image.

    :param scale: metres per unit.
    :param invalid: values that mean unknown.
    :return: [H,W] float32 metres, NaN where unknown.
    :raises SequenceError: missing, damaged or not 16-bit gray.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if raw is None:
        raise SequenceError(f"'{path}' is not a readable depth image (empty or cut off); copy it again")
    if raw.ndim != 2 or raw.dtype != np.uint16:
        raise SequenceError(f"'{path}' is not a 16-bit gray image; depth images have to be 16-bit PNG")
    depth = raw.astype(np.float32) * np.float32(scale)
    for value in invalid:
        depth[raw == value] = np.nan
    return depth


def read_lines(path):
    """Return the lines of a text file that are neither empty nor comments."""
    text = read_bytes(path).decode('utf-8', errors='replace')
    return [line for line in (raw.strip() for raw in text.splitlines()) if line and not line.startswith('#')]


def read_numbers(path, columns, separator=None):
    """
    Read a table of numbers.

    :param columns: allowed numbers of columns.
    :return: [N,columns] float64.
    :raises SequenceError: a line with another number of values, or one that is not a finite number.
    """
    columns = (columns,) if isinstance(columns, int) else columns
    rows = []
    for line_number, line in enumerate(read_lines(path), 1):
        words = [word for word in line.split(separator) if word.strip()]
        if len(words) not in columns or (rows and len(words) != len(rows[0])):
            wanted = ' or '.join(str(c) for c in columns)
            raise SequenceError(
                f"'{path}' has {len(words)} values in entry {line_number}, not {wanted}: '{line[:60]}'"
            )
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            raise SequenceError(f"'{path}' has no numbers in entry {line_number}: '{line[:60]}'") from None
    table = np.array(rows, np.float64) if rows else np.zeros((0, columns[0]))
    bad = np.flatnonzero(~np.isfinite(table).all(1)) if len(table) else []
    if len(bad):
        raise SequenceError(
            f"'{path}' has NaN or infinite values in entry {bad[0] + 1}; remove or repair that line"
        )
    return table


def check_count(count, expected, path, what):
    """Raise a SequenceError unless ``path`` has one entry per image."""
    if count != expected:
        raise SequenceError(
            f"'{path}' has {count} {what} but the sequence has {expected} images; it needs one per image"
        )


def check_stamps(stamps, path):
    """Raise a SequenceError unless stamps increase strictly."""
    wrong = np.flatnonzero(np.diff(stamps) <= 0)
    if len(wrong):
        i = wrong[0]
        raise SequenceError(
            f"the time stamps of '{path}' do not increase: entry {i + 2} ({stamps[i + 1]:.6f} s) follows "
            f'{stamps[i]:.6f} s; sort or repair the file'
        )


def read_kitti_poses(path):
    """Read 3×4 matrices, one a line, as a list of [4,4] poses."""
    table = read_numbers(path, (12, 16))
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3] = table[:, :12].reshape(-1, 3, 4)
    return check_rotations(list(poses), path)


def folder_stamps(path, count):
    """
    Read the stamps of ``count`` images, one a line; where there is no such file they are 10 Hz.

    :return: [count] float64 seconds.
    """
    if not path.is_file():
        return np.arange(count) / DEFAULT_FPS
    stamps = read_numbers(path, 1)[:, 0]
    check_count(len(stamps), count, path, 'times')
    check_stamps(stamps, path)
    return stamps


def folder_poses(path, count):
    """Read the poses of ``count`` images with :func:`read_kitti_poses`; None where there is no such file."""
    if not path.is_file():
        return None
    poses = read_kitti_poses(path)
    check_count(len(poses), count, path, 'poses')
    return poses


def check_rotations(poses, path):
    """Return the poses; raise a SequenceError when one has no rotation matrix (to within 1 %)."""
    for i, pose in enumerate(poses):
        if pose is not None and np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 0.01:
            raise SequenceError(
                f"pose {i + 1} of '{path}' is no rigid motion: its 3×3 part is no rotation; repair the file"
            )
    return poses
