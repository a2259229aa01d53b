"""One image's keypoints prepared for geometry."""

import numpy as np
from scipy.spatial import cKDTree

from mt_perception.odometry.geometry import inverse

# thresholds in pixels are stated for this many pixels, 640 × 480
NOMINAL_PIXELS = 640 * 480


class Frame:
    """
    Keypoints of one image with their rays and the map points they show.

    :ivar stamp: seconds.
    :ivar keypoints: :class:`mt_perception.types.Keypoints`; None once the frame has left the map.
    :ivar rays: [N,2] float64 normalised, undistorted image coordinates.
    :ivar unit: one nominal pixel in normalised units; thresholds in pixels are multiplied by it.
    :ivar point_ids: [N] int64 map point of each keypoint, -1 where none.
    :ivar world_to_camera: [4,4].
    :ivar covariance: [6,6] of the pose since the map started, along the world's axes, in units of the map.
    :ivar bounds: (smallest ray [2], largest ray [2]) that can be in the image.
    :ivar id: number of the keyframe, or None.
    :ivar movable: [N] bool, keypoints on things that move by themselves, see :mod:`movable`.
    :ivar global_descriptor: [G] of the image, unit length, or None.
    """

    # without a dictionary each: the trajectory keeps all keyframes
    __slots__ = (
        'stamp',
        'keypoints',
        'rays',
        'movable',
        'unit',
        'point_ids',
        'world_to_camera',
        'covariance',
        'bounds',
        'id',
        'global_descriptor',
        '_tree',
    )

    def __init__(self, stamp, keypoints, camera, movable=None, global_descriptor=None):
        """
        Undistort the keypoints.

        :param stamp: seconds.
        :param keypoints: :class:`mt_perception.types.Keypoints`.
        :param camera: :class:`mt_perception.camera.Camera` of the same image size.
        :param movable: [N] bool, None = none.
        :param global_descriptor: [G] or None.
        """
        movable = np.zeros(len(keypoints), bool) if movable is None else movable
        self.stamp = stamp
        rays = camera.normalize(keypoints.xy)
        valid = np.isfinite(rays).all(1)
        if not valid.all():
            keypoints, rays, movable = keypoints.select(valid), rays[valid], movable[valid]
        self.keypoints = keypoints
        self.rays = rays
        self.movable = movable
        scale = np.sqrt(camera.width * camera.height / NOMINAL_PIXELS)
        self.unit = scale * 2 / (camera.fx + camera.fy)
        self.point_ids = np.full(len(rays), -1, np.int64)
        self.world_to_camera = np.eye(4)
        self.covariance = np.zeros((6, 6))
        self.bounds = camera.ray_bounds
        self.id = None
        self.global_descriptor = global_descriptor
        self._tree = None

    @property
    def pose(self):
        """Camera-to-world [4,4]."""
        return inverse(self.world_to_camera)

    @property
    def tree(self):
        """Search tree of the rays."""
        if self._tree is None:
            self._tree = cKDTree(self.rays)
        return self._tree

    @property
    def descriptors(self):
        """[N,D] of the keypoints."""
        return self.keypoints.descriptors

    def comparable(self, other):
        """Whether the descriptors of two frames come from the same model (no keypoints fit everything)."""
        return (len(self.rays) == 0 or len(other.rays) == 0) or (
            self.keypoints.model_id == other.keypoints.model_id
            and self.descriptors.shape[1] == other.descriptors.shape[1]
        )

    def inside(self, rays):
        """Which rays [N,2] can fall into the image (False for NaN)."""
        low, high = self.bounds
        return ((rays >= low) & (rays <= high)).all(1)

    def release(self):
        """Forget everything but the pose."""
        self.keypoints = self.rays = self.point_ids = self._tree = None
        self.movable = self.global_descriptor = self.covariance = None
        self.world_to_camera = self.world_to_camera.copy()  # it may be a part of a larger array
