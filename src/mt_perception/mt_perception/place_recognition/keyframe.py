"""Images that a map remembers: keypoints, descriptors, and where they were taken."""

from dataclasses import dataclass, field, replace

import numpy as np

from mt_perception.camera import Camera
from mt_perception.odometry.frame import NOMINAL_PIXELS
from mt_perception.types import Keypoints

STEPS = 127  # of an 8-bit descriptor element


def pack_descriptors(descriptors):
    """
    Return unit descriptors [N,D] as int8, the largest element of each at full scale.

    No scale is kept: unit length is restored by :func:`unpack_descriptors`. The cosine of two descriptors of
    64 elements changes by about 0.0001.
    """
    descriptors = np.asarray(descriptors, np.float32)
    largest = np.abs(descriptors).max(axis=1, keepdims=True, initial=1e-12)
    return np.rint(descriptors * (STEPS / largest)).astype(np.int8)


def unpack_descriptors(packed):
    """Return int8 descriptors [N,D] as float32 of unit length."""
    values = packed.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


@dataclass
class View:
    """
    What is compared of one image, in little memory.

    :param stamp: seconds.
    :param frame_id: the camera's optical frame.
    :param camera: :class:`mt_perception.camera.Camera` of the image.
    :param model_id: which network made the descriptors.
    :param global_descriptor: [G] float32, unit length.
    :param xy: [N,2] float32 pixels.
    :param scores: [N] float16.
    :param packed: [N,D] int8 descriptors, see :func:`pack_descriptors`.
    :param depth: [N] float32 along the optical axis in the unit of the map, NaN where unknown.
    :ivar rays: [N,2] float64 normalised, undistorted image coordinates.
    """

    stamp: float
    frame_id: str
    camera: Camera
    model_id: str
    global_descriptor: np.ndarray
    xy: np.ndarray
    scores: np.ndarray
    packed: np.ndarray
    depth: np.ndarray
    rays: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        """Undistort the keypoints."""
        self.rays = self.camera.normalize(self.xy)

    @classmethod
    def create(cls, stamp, keypoints, camera, global_descriptor, frame_id=''):
        """
        Pack what perception says about an image.

        :param keypoints: :class:`mt_perception.types.Keypoints`; their depth in the unit of the map.
        :param camera: :class:`Camera` of the same image size.
        :param global_descriptor: [G].
        """
        usable = np.isfinite(camera.normalize(keypoints.xy)).all(1)
        keypoints = keypoints if usable.all() else keypoints.select(usable)
        return cls(
            float(stamp),
            frame_id,
            camera,
            keypoints.model_id,
            np.asarray(global_descriptor, np.float32).ravel(),
            keypoints.xy,
            keypoints.scores.astype(np.float16),
            pack_descriptors(keypoints.descriptors),
            np.where(keypoints.depth > 0, keypoints.depth, np.nan).astype(np.float32),
        )

    def __len__(self):
        """Return the number of keypoints."""
        return len(self.xy)

    @property
    def unit(self):
        """One pixel of an image of 640 × 480 in normalised units."""
        camera = self.camera
        return np.sqrt(camera.width * camera.height / NOMINAL_PIXELS) * 2 / (camera.fx + camera.fy)

    @property
    def keypoints(self):
        """:class:`mt_perception.types.Keypoints`, for a matcher."""
        return Keypoints.create(
            self.xy,
            self.scores.astype(np.float32),
            unpack_descriptors(self.packed),
            (self.camera.width, self.camera.height),
            depth=self.depth,
            model_id=self.model_id,
        )

    def scaled(self, factor):
        """Return the view with its depths in another unit."""
        return replace(self, depth=self.depth * np.float32(factor))

    def points(self, rows):
        """Positions [M,3] of keypoints ``rows`` in the camera's frame, NaN where their depth is unknown."""
        rays = np.concatenate([self.rays[rows], np.ones((len(self.rays[rows]), 1))], 1)
        return rays * self.depth[rows, None].astype(np.float64)


@dataclass
class Keyframe:
    """
    An image with the pose that odometry, or a saved map, gave to it.

    :param stamp: seconds.
    :param pose: [4,4] camera to world. Of odometry, whose unit and origin may drift, or of a saved map.
    :param covariance: [6,6] of (x, y, z, rotation about x, y, z) of that pose, along the world's axes.
    :param view: :class:`View`; None once its keypoints are no longer needed.
    :param metric: the unit of pose and depth is the metre.
    :param fixed: of a saved map: its pose does not change any more.
    :param frame_id: the camera's optical frame; that of the view if there is one.
    """

    stamp: float
    pose: np.ndarray
    covariance: np.ndarray
    view: View | None
    metric: bool = False
    fixed: bool = False
    frame_id: str = ''

    def __post_init__(self):
        """Remember what is needed when the view has gone."""
        if self.view is not None:
            self.frame_id = self.view.frame_id
