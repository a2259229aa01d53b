"""RGB-D folders in the layout of 7-Scenes."""

import re
from pathlib import Path

import cv2
import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import folder_camera, read_yaml
from mt_perception.sequences.files import (
    check_count,
    check_rotations,
    check_stamps,
    natural_key,
    read_depth,
    read_numbers,
    read_rgb,
)
from mt_perception.sequences.stored import StoredSequence

FPS = 30.0
MILLIMETRE = 0.001
# 7-Scenes' Kinect at 640×480 (Shotton et al. 2013). The depth image is not registered to the colour image;
# these values are a fit by edge alignment, not a calibration.
KINECT_SIZE = (640, 480)
COLOR_FOCAL = 525.0
DEPTH_FOCAL = 585.0
PRINCIPAL_POINT = (320.0, 240.0)
DEPTH_TO_COLOR = (-0.025, 0.0, 0.0)  # metres: a point of the depth camera in the colour camera


class RgbdSequence(StoredSequence):
    """
    A folder with ``frame-XXXXXX.color.jpg`` (or png), ``.depth.png`` (16-bit mm) and ``.pose.txt`` (4×4).

    Poses are camera to world. Without a calibration the images are a Kinect's as in 7-Scenes, whose depth
    is registered to the colour image here. A ``camera.yaml`` or ``calib.txt`` in the folder replaces the
    colour camera; the depth is then taken as registered already, unless camera.yaml has
    ``depth_camera: {fx, fy, cx, cy}``
    and ``depth_to_color: [x, y, z]``. Stamps are the frame numbers at 30 Hz, or those of a ``times.txt``.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.name = folder.name
        self._color = sorted(
            (
                f
                for f in folder.glob('frame-*.color.*')
                if re.fullmatch(r'frame-\d+\.color\.(jpg|png)', f.name)
            ),
            key=natural_key,
        )
        if not self._color:
            raise SequenceError(f"'{folder}' has no frame-XXXXXX.color.jpg or .png with a number as XXXXXX")
        self.stamps = np.array([int(f.name.split('.')[0][len('frame-') :]) for f in self._color]) / FPS
        times = folder / 'times.txt'
        if times.is_file():
            self.stamps = read_numbers(times, 1)[:, 0]
            check_count(len(self.stamps), len(self._color), times, 'times')
            check_stamps(self.stamps, times)
        stems = [str(f)[: -len('.color.jpg')] for f in self._color]
        self._depth = [Path(stem + '.depth.png') for stem in stems]
        self._has_depth = any(f.is_file() for f in self._depth)
        poses = [Path(stem + '.pose.txt') for stem in stems]
        self.poses = [self._pose(f) for f in poses] if any(f.is_file() for f in poses) else None
        height, width = read_rgb(self._color[0]).shape[:2]
        self._depth_camera = None
        self.camera = folder_camera(folder, (width, height))
        if self.camera is None:
            if (width, height) != KINECT_SIZE:
                raise SequenceError(
                    f"'{folder}' has images of {width}×{height} pixels and no calibration; "
                    'add a camera.yaml (only 640×480 Kinect images are known without)'
                )
            self.camera = Camera.from_focal(*KINECT_SIZE, COLOR_FOCAL, COLOR_FOCAL, *PRINCIPAL_POINT)
            self._depth_camera = Camera.from_focal(*KINECT_SIZE, DEPTH_FOCAL, DEPTH_FOCAL, *PRINCIPAL_POINT)
            self._offset = np.array(DEPTH_TO_COLOR)
        elif (folder / 'camera.yaml').is_file():
            self._read_depth_camera(folder / 'camera.yaml', (width, height))

    def _read_depth_camera(self, path, size):
        content = read_yaml(path)
        if content.get('depth_camera') is None:
            return
        depth = content['depth_camera']
        try:
            values = [float(depth[k]) for k in ('fx', 'fy', 'cx', 'cy')]
            self._offset = np.array(content.get('depth_to_color', (0, 0, 0)), float).reshape(3)
        except (KeyError, TypeError, ValueError):
            raise SequenceError(
                f"'{path}': depth_camera needs the numbers fx, fy, cx, cy and depth_to_color three numbers"
            ) from None
        size = (int(depth.get('width', size[0])), int(depth.get('height', size[1])))
        self._depth_camera = Camera.from_focal(*size, *values)

    @staticmethod
    def _pose(path):
        if not path.is_file():
            return None
        values = read_numbers(path, 4)
        if values.shape != (4, 4):
            raise SequenceError(f"'{path}' is not a 4×4 matrix")
        return check_rotations([values], path)[0]

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._color[i])

    def read_depth(self, i):
        """Return depth ``i`` in the colour image, or None when the folder has no depth."""
        if not self._has_depth:
            return None
        depth = read_depth(self._depth[i], MILLIMETRE)
        if self._depth_camera is None:
            if depth.shape != (self.camera.height, self.camera.width):
                raise SequenceError(
                    f"'{self._depth[i]}' is {depth.shape[1]}×{depth.shape[0]} pixels, its colour image "
                    f'{self.camera.width}×{self.camera.height}; registered depth needs the same size'
                )
            return depth
        if depth.shape != (self._depth_camera.height, self._depth_camera.width):
            raise SequenceError(
                f"'{self._depth[i]}' is {depth.shape[1]}×{depth.shape[0]} pixels, the depth camera "
                f'{self._depth_camera.width}×{self._depth_camera.height}'
            )
        return register_depth(depth, self._depth_camera, self.camera, self._offset)


def register_depth(depth, depth_camera, camera, offset):
    """
    Carry depth over to another camera with the same orientation, by a z-buffered splat.

    Every depth pixel is moved to the nearest pixel of the other image; where several meet, the
    nearest surface stays. A coarser source leaves pixel-wide gaps: those are filled with the nearest of
    the eight neighbours.

    :param depth: [h,w] float32 metres, NaN where unknown.
    :param offset: [3] metres: a point of the depth camera in the other camera.
    :return: [H,W] float32 metres in the other image, NaN where unknown.
    """
    v, u = np.nonzero(depth > 0)
    z = depth[v, u]
    x = (u - np.float32(depth_camera.cx)) / np.float32(depth_camera.fx) * z + np.float32(offset[0])
    y = (v - np.float32(depth_camera.cy)) / np.float32(depth_camera.fy) * z + np.float32(offset[1])
    z = z + np.float32(offset[2])
    column = np.rint(x / z * np.float32(camera.fx) + np.float32(camera.cx)).astype(np.int32)
    row = np.rint(y / z * np.float32(camera.fy) + np.float32(camera.cy)).astype(np.int32)
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height) & (z > 0)
    target = row[inside] * camera.width + column[inside]
    z = z[inside]
    # Far to near, so that of equal targets the nearest stays; 16-bit keys sort by radix, ten times as quick.
    order = np.argsort((65535 - np.minimum(z * 1000, 65535)).astype(np.uint16), kind='stable')
    out = np.full(camera.height * camera.width, np.nan, np.float32)
    out[target[order]] = z[order]
    out = out.reshape(camera.height, camera.width)
    if camera.fx <= depth_camera.fx and camera.fy <= depth_camera.fy:
        return out
    nearest = cv2.erode(np.where(np.isnan(out), np.inf, out).astype(np.float32), np.ones((3, 3), np.uint8))
    filled = np.where(np.isnan(out), nearest, out)
    filled[np.isinf(filled)] = np.nan
    return filled
