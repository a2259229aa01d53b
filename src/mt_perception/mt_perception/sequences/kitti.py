"""KITTI odometry folders."""

from pathlib import Path

import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import camera_from_calib, kitti_projections
from mt_perception.sequences.files import folder_poses, folder_stamps, list_images, read_rgb
from mt_perception.sequences.stored import StoredSequence

IMAGE_FOLDERS = ('image_2', 'image_0', 'image_3', 'image_1')  # the first one there is; 2 and 3 are colour


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
        self.stamps = folder_stamps(folder / 'times.txt', count)
        poses = folder / 'poses.txt'
        if not poses.is_file() and folder.resolve().parent.name == 'sequences':
            poses = folder.resolve().parents[1] / 'poses' / f'{folder.resolve().name}.txt'
        self.poses = folder_poses(poses, count)
        if self.poses is not None:
            matrix = kitti_projections(calibration)[projection] if kitti_projections(calibration) else None
            if matrix is not None and matrix[:, 3].any():
                offset = np.eye(4)
                offset[:3, 3] = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
                self.poses = [pose @ offset for pose in self.poses]

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])
