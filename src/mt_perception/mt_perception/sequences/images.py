"""Folders of images."""

from pathlib import Path

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import folder_camera
from mt_perception.sequences.files import folder_poses, folder_stamps, list_images, read_rgb
from mt_perception.sequences.stored import StoredSequence


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
        self.stamps = folder_stamps(folder / 'times.txt', count)
        self.poses = folder_poses(folder / 'poses.txt', count)

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])
