"""Folders of images."""

from pathlib import Path

import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import folder_camera
from mt_perception.sequences.files import (
    check_count,
    check_stamps,
    list_images,
    read_kitti_poses,
    read_numbers,
    read_rgb,
)
from mt_perception.sequences.stored import StoredSequence

DEFAULT_FPS = 10.0


class ImagesSequence(StoredSequence):
    """
    A folder of images in the natural order of their names.

    Optional beside the images: ``camera.yaml`` or ``calib.txt`` (calibration), ``times.txt`` (seconds, one a
    line; else 10 Hz) and ``poses.txt`` (3×4 camera to world, one a line).
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.name = folder.resolve().name
        self._files = list_images(folder)
        if not self._files:
            raise SequenceError(f"'{folder}' holds no images")
        count = len(self._files)
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = folder_camera(folder, (width, height))
        self.stamps = np.arange(count) / DEFAULT_FPS
        times, poses = folder / 'times.txt', folder / 'poses.txt'
        if times.is_file():
            self.stamps = read_numbers(times, 1)[:, 0]
            check_count(len(self.stamps), count, times, 'times')
            check_stamps(self.stamps, times)
        if poses.is_file():
            self.poses = read_kitti_poses(poses)
            check_count(len(self.poses), count, poses, 'poses')

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])
