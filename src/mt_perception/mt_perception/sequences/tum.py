"""TUM RGB-D benchmark folders (Sturm et al. 2012)."""

from pathlib import Path

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import folder_camera
from mt_perception.sequences.files import check_stamps, read_depth, read_lines, read_rgb
from mt_perception.sequences.stored import StoredSequence
from mt_perception.sequences.trajectory_io import interpolate_poses, read_tum_table

SIZE = (640, 480)
DEPTH_UNIT = 1 / 5000  # metres
DEPTH_MAX_DIFFERENCE = 0.02  # seconds between a colour image and its depth image, as in TUM's associate.py
POSE_MAX_GAP = 0.2  # seconds between two ground-truth entries that are interpolated; they come at 100 Hz
# (fx, fy, cx, cy) and distortion of the benchmark's page "Intrinsic camera calibration"
INTRINSICS = {
    'freiburg1': ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    'freiburg2': ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    'freiburg3': ((535.4, 539.2, 320.1, 247.6), ()),
    'default': ((525.0, 525.0, 319.5, 239.5), ()),
}


class TumSequence(StoredSequence):
    """
    A folder with ``rgb.txt`` (stamp and file a line), and optionally ``depth.txt`` and ``groundtruth.txt``.

    The camera is that of the benchmark's set (freiburg1, 2 or 3 by the folder's name, else the default
    calibration), or that of a ``camera.yaml`` or ``calib.txt`` in the folder. Ground truth is
    interpolated to the stamps of the colour images; it is the pose of their optical frame already.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.name = folder.resolve().name
        self.stamps, self._files = _list(folder, 'rgb.txt')
        if not self._files:
            raise SequenceError(f"'{folder / 'rgb.txt'}' names no images")
        check_stamps(self.stamps, folder / 'rgb.txt')
        height, width = read_rgb(self._files[0]).shape[:2]
        self.camera = folder_camera(folder, (width, height)) or self._known_camera(folder, (width, height))
        self._depth = [None] * len(self._files)
        if (folder / 'depth.txt').is_file():
            depth_stamps, depth_files = _list(folder, 'depth.txt')
            check_stamps(depth_stamps, folder / 'depth.txt')
            if depth_files:
                nearest = np.abs(depth_stamps[None, :] - self.stamps[:, None])
                for i, j in enumerate(nearest.argmin(1)):
                    if nearest[i, j] <= DEPTH_MAX_DIFFERENCE:
                        self._depth[i] = depth_files[j]
        truth = folder / 'groundtruth.txt'
        if truth.is_file():
            table = read_tum_table(truth)
            self.poses = interpolate_poses(
                self.stamps, table[:, 0], table[:, 1:4], table[:, 4:8], POSE_MAX_GAP
            )

    def _known_camera(self, folder, size):
        if size != SIZE:
            raise SequenceError(
                f"'{folder}' has images of {size[0]}×{size[1]} pixels and no calibration; add a camera.yaml"
            )
        name = self.name.lower()
        known = next((k for k in INTRINSICS if k in name or k.replace('freiburg', 'fr') in name), 'default')
        (fx, fy, cx, cy), distortion = INTRINSICS[known]
        return Camera(*size, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.array(distortion))

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])

    def read_depth(self, i):
        """Return the depth image nearest in time, or None."""
        if self._depth[i] is None:
            return None
        return read_depth(self._depth[i], DEPTH_UNIT, invalid=(0,))


def _list(folder, name):
    """Read a list of stamps and files: stamps [N] seconds, list of N paths."""
    stamps, files = [], []
    for line in read_lines(folder / name):
        words = line.split(None, 1)
        try:
            stamps.append(float(words[0]))
            files.append(folder / words[1])
        except (ValueError, IndexError):
            raise SequenceError(
                f"'{folder / name}' has a line that is not 'stamp file': '{line[:60]}'"
            ) from None
    return np.array(stamps, np.float64), files
