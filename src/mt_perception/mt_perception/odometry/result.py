"""What visual odometry says about one frame."""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class OdometryState(Enum):
    """Whether the pose can be used."""

    INITIALIZING = 'initializing'
    TRACKING = 'tracking'
    LOST = 'lost'


@dataclass
class ReferenceMatches:
    """
    The current frame's matches to its reference keyframe, for display.

    :param stamp: stamp of the reference keyframe in seconds.
    :param reference_xy: [M,2] float32 pixels in the reference keyframe.
    :param xy: [M,2] float32 pixels in the current frame.
    :param inlier: [M] bool: agrees with the pose found.
    """

    stamp: float = float('nan')
    reference_xy: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    xy: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    inlier: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass
class OdometryResult:
    """
    The outcome of one call of ``track``.

    :param stamp: seconds, of the frame.
    :param state: :class:`OdometryState`; the pose is held from the last good frame unless it is ``TRACKING``.
    :param pose: [4,4] float64 camera (optical frame) to odometry world, whose origin is the first camera.
    :param covariance: [6,6] float64 of (x, y, z, rotation about x, y, z), both along the world's axes, in
        metres (or map units when not ``metric``) and radians, as in geometry_msgs/PoseWithCovariance.
    :param local_covariance: [6,6] the same of the pose within the map around it, without what has added up on
        the way there; errors of frames that follow each other differ by it.
    :param is_keyframe: this frame became a keyframe.
    :param n_matches: map points matched to keypoints of this frame.
    :param n_inliers: those that agree with the pose.
    :param n_keypoints: of the frame that are used.
    :param n_movable: those of them on things that move by themselves.
    :param metric: positions are in metres.
    :param scale_sigma: standard deviation of the logarithm of their scale; infinite when not ``metric``.
    :param segment: counts maps: it grows when tracking starts anew after a loss.
    :param matches: to the reference keyframe, for display.
    :param timings_ms: milliseconds per stage, and ``total``.
    """

    stamp: float
    state: OdometryState
    pose: np.ndarray
    covariance: np.ndarray
    local_covariance: np.ndarray
    is_keyframe: bool = False
    n_matches: int = 0
    n_inliers: int = 0
    n_keypoints: int = 0
    n_movable: int = 0
    metric: bool = False
    scale_sigma: float = float('inf')
    segment: int = 0
    matches: ReferenceMatches = field(default_factory=ReferenceMatches)
    timings_ms: dict = field(default_factory=dict)
