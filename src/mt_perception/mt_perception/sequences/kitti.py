"""KITTI odometry folders."""

from pathlib import Path

import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import camera_from_calib, kitti_projections
from mt_perception.sequences.files import (
    check_count,
    check_stamps,
    list_images,
    read_kitti_poses,
    read_numbers,
    read_rgb,
)
from mt_perception.sequences.stored import StoredSequence

IMAGE_FOLDERS = ('image_2', 'image_0', 'image_3', 'image_1')  # the first one there is; 2 and 3 are colour
DEFAULT_FPS = 10.0


class KittiSequence(StoredSequence):
    """
    A folder with ``image_0/`` or ``image_2/``, ``calib.txt``, and optionally ``times.txt`` and ``poses.txt``.

    In the benchmark's own layout, ``sequences/00`` beside ``poses/00.txt``, the poses are found there.

    ``poses.txt`` holds the poses of camera 0; those of the camera whose images are read follow from
    the offset in its projection matrix.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.name = folder.name
        images = next(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())
        self._files = list_images(images)
        if not self._files:
            raise SequenceError(f"'{images}' holds no images (png or jpg)")
        count = len(self._files)
        calibration = folder / 'calib.txt'
        if not calibration.is_file():
            raise SequenceError(f"'{calibration}' is missing; a KITTI odometry folder needs its calibration")
        height, width = read_rgb(self._files[0]).shape[:2]
        projection = f'P{images.name[-1]}'
        self.camera = camera_from_calib(calibration, (width, height), projection)
        times = folder / 'times.txt'
        if times.is_file():
            self.stamps = read_numbers(times, 1)[:, 0]
            check_count(len(self.stamps), count, times, 'times')
            check_stamps(self.stamps, times)
        else:
            self.stamps = np.arange(count) / DEFAULT_FPS
        poses = folder / 'poses.txt'
        if not poses.is_file() and folder.resolve().parent.name == 'sequences':
            poses = folder.resolve().parents[1] / 'poses' / f'{folder.resolve().name}.txt'
        self.poses = None
        if poses.is_file():
            self.poses = read_kitti_poses(poses)
            check_count(len(self.poses), count, poses, 'poses')
            matrix = kitti_projections(calibration)[projection] if kitti_projections(calibration) else None
            if matrix is not None and matrix[:, 3].any():
                offset = np.eye(4)
                offset[:3, 3] = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
                self.poses = [pose @ offset for pose in self.poses]

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])
