"""Video files."""

import threading
from pathlib import Path

import cv2
import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import camera_from_calib, camera_from_yaml
from mt_perception.sequences.stored import StoredSequence

SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.mjpeg', '.ts')
TAIL = 12  # frames before the promised end where counting the real frames starts


class VideoSequence(StoredSequence):
    """
    A video file; its calibration may stand beside it as ``NAME.yaml``, ``NAME.calib.txt`` or ``camera.yaml``.

    Going forward is quick; a jump decodes from the key frame before.
    """

    def __init__(self, path):
        path = Path(path)
        self._path = path
        self.name = path.stem
        self._lock = threading.Lock()
        self._next = 0
        self._capture = self._open()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        if not (np.isfinite(fps) and fps > 0):
            raise SequenceError(f"video '{path}' does not say its frame rate; convert it, e.g. with ffmpeg")
        count = self._count()
        if count == 0:
            raise SequenceError(f"video '{path}' holds no frame that can be decoded; it is empty or cut off")
        self.stamps = np.arange(count) / fps
        first = self.read_image(0)
        self.camera = self._calibration((first.shape[1], first.shape[0]))

    def _open(self):
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SequenceError(
                f"'{self._path}' is no video OpenCV can read; it is damaged or of another format"
            )
        return capture

    def _calibration(self, size):
        for path in (self._path.with_suffix('.yaml'), self._path.parent / 'camera.yaml'):
            if path.is_file():
                return camera_from_yaml(path, size)
        path = self._path.with_suffix('.calib.txt')
        return camera_from_calib(path, size) if path.is_file() else None

    def _count(self):
        """Return the number of frames; containers promise one or two that do not come."""
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        start = max(0, promised - TAIL)
        count = start
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, start)
        while self._capture.grab():
            count += 1
        if start > 0 and count == start:  # the seek went past the end: count from the start
            self._capture.release()
            self._capture = self._open()
            count = 0
            while self._capture.grab():
                count += 1
        self._capture.release()
        self._capture = self._open()
        self._next = 0
        return count

    def _seek(self, i):
        """Make ``i`` the next frame, or start again where the codec cannot seek exactly."""
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, i)
        if round(self._capture.get(cv2.CAP_PROP_POS_FRAMES)) == i:
            self._next = i
            return
        self._capture.release()
        self._capture = self._open()
        self._next = 0

    def read_image(self, i):
        """Return image ``i``."""
        with self._lock:
            if not self._next <= i <= self._next + TAIL:
                self._seek(i)
            while self._next < i:
                if not self._capture.grab():
                    raise SequenceError(f"frame {self._next} of video '{self._path}' cannot be decoded")
                self._next += 1
            good, image = self._capture.read()
            self._next += 1
        if not good or image is None:
            raise SequenceError(f"frame {i} of video '{self._path}' cannot be decoded; the file is damaged")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
