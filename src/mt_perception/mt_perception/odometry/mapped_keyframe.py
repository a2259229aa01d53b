"""Keyframes for others than odometry itself: keypoints with the depth that the map gives them."""

from dataclasses import dataclass, replace

import numpy as np

from mt_perception.odometry.geometry import to_camera
from mt_perception.types import Keypoints


@dataclass
class MappedKeyframe:
    """
    A keyframe as the map knows it.

    :param id: counts keyframes; it grows.
    :param stamp: seconds.
    :param keypoints: :class:`Keypoints` whose depth is that of their map points, in the unit of the
        poses handed out, NaN where a keypoint shows none or one of unsure depth.
    :param metric: that unit is the metre.
    """

    id: int
    stamp: float
    keypoints: Keypoints
    metric: bool


def mapped_keyframe(frame, local_map, factor, metric):
    """Return a keyframe of a :class:`LocalMap` as :class:`MappedKeyframe`; ``factor``: units per map unit."""
    depth = np.full(len(frame.rays), np.nan, np.float32)
    rows = np.flatnonzero(frame.point_ids >= 0)
    rows = rows[local_map.depth_sigma[frame.point_ids[rows]] == 0]
    points = to_camera(frame.world_to_camera, local_map.position[frame.point_ids[rows]])
    depth[rows] = np.where(points[:, 2] > 0, factor * points[:, 2], np.nan)
    return MappedKeyframe(frame.id, frame.stamp, replace(frame.keypoints, depth=depth), metric)
