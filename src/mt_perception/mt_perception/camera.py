"""The pinhole camera with lens distortion, as sensor_msgs/CameraInfo describes it."""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from mt_perception.errors import CameraError

BORDER_SAMPLES = 9  # along each side of the image
DISTORTION_MODELS = ('', 'plumb_bob', 'rational_polynomial', 'equidistant')


@dataclass(frozen=True)
class Camera:
    """
    Intrinsics of one camera.

    Pixel coordinates have the centre of the top-left pixel at (0, 0); the optical frame is REP-103's:
    x right, y down, z forward.

    :param width: image width in pixels.
    :param height: image height in pixels.
    :param matrix: [3,3] float64 intrinsic matrix K in pixels.
    :param distortion: [n] float64 coefficients in OpenCV's order; empty when the image is rectified.
    :param model: name of the distortion model, one of ``DISTORTION_MODELS``.
    :raises CameraError: no positive focal length, or a distortion model OpenCV does not have.
    """

    width: int
    height: int
    matrix: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    model: str = 'plumb_bob'

    def __post_init__(self):
        """Check what would otherwise fail far from its cause."""
        object.__setattr__(self, 'matrix', np.asarray(self.matrix, np.float64).reshape(3, 3))
        object.__setattr__(self, 'distortion', np.asarray(self.distortion, np.float64).ravel())
        if not (np.isfinite(self.matrix).all() and self.fx > 0 and self.fy > 0):
            raise CameraError(
                f'camera matrix has focal lengths ({self.fx:g}, {self.fy:g}); '
                'the camera is not calibrated: publish a CameraInfo with K set'
            )
        if self.model not in DISTORTION_MODELS:
            raise CameraError(
                f"distortion model '{self.model}' is not one of {', '.join(DISTORTION_MODELS[1:])}"
            )

    @classmethod
    def from_focal(cls, width, height, fx, fy=None, cx=None, cy=None):
        """Rectified camera; the principal point defaults to the image centre."""
        cx = (width - 1) / 2 if cx is None else cx
        cy = (height - 1) / 2 if cy is None else cy
        return cls(width, height, np.array([[fx, 0, cx], [0, fx if fy is None else fy, cy], [0, 0, 1]]))

    @property
    def fx(self):
        """Focal length along x in pixels."""
        return float(self.matrix[0, 0])

    @property
    def fy(self):
        """Focal length along y in pixels."""
        return float(self.matrix[1, 1])

    @property
    def cx(self):
        """Principal point x in pixels."""
        return float(self.matrix[0, 2])

    @property
    def cy(self):
        """Principal point y in pixels."""
        return float(self.matrix[1, 2])

    @cached_property
    def ray_bounds(self):
        """Smallest and largest ray coordinates, [2] each, along the image's border."""
        x = np.linspace(0, self.width - 1, BORDER_SAMPLES)
        y = np.linspace(0, self.height - 1, BORDER_SAMPLES)
        border = [(u, v) for u in x for v in (0, self.height - 1)] + [
            (u, v) for u in (0, self.width - 1) for v in y
        ]
        rays = self.normalize(np.array(border))
        return np.nanmin(rays, axis=0), np.nanmax(rays, axis=0)

    def scaled(self, width, height):
        """Return the camera of the same image resized to ``width`` × ``height``, pixel centres kept right."""
        sx, sy = width / self.width, height / self.height
        matrix = self.matrix.copy()
        matrix[0] *= sx
        matrix[1] *= sy
        matrix[0, 2] += 0.5 * sx - 0.5
        matrix[1, 2] += 0.5 * sy - 0.5
        return Camera(width, height, matrix, self.distortion, self.model)

    def normalize(self, points):
        """
        Undistort pixels to normalised image coordinates (x/z, y/z).

        :param points: [N,2] pixels.
        :return: [N,2] float64.
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if len(points) == 0:
            return points.copy()
        if self.distortion.size == 0 or not self.distortion.any():
            return (points - self.matrix[:2, 2]) / np.array([self.fx, self.fy])
        if self.model == 'equidistant':
            out = cv2.fisheye.undistortPoints(points[:, None], self.matrix, self.distortion[:4])
        else:
            out = cv2.undistortPoints(points[:, None], self.matrix, self.distortion)
        return out.reshape(-1, 2)

    def project(self, points):
        """
        Project points of the optical frame, without distortion.

        :param points: [N,3] metres, z > 0.
        :return: [N,2] pixels.
        """
        points = np.asarray(points, np.float64).reshape(-1, 3)
        return points[:, :2] / points[:, 2:] * np.array([self.fx, self.fy]) + self.matrix[:2, 2]
