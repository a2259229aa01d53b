"""What visual odometry knows about a frame, as messages."""

from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Odometry

from mt_msgs.msg import VisualOdometryState
from mt_perception.nodes.conversions import pose_to_message
from mt_perception.nodes.frames import base_covariance, base_pose, velocity
from mt_perception.odometry import OdometryState

STATES = {
    OdometryState.INITIALIZING: VisualOdometryState.INITIALIZING,
    OdometryState.TRACKING: VisualOdometryState.TRACKING,
    OdometryState.LOST: VisualOdometryState.LOST,
}


def odometry_message(header, base_frame, now, previous, unknown):
    """
    Return nav_msgs/Odometry.

    :param header: with the odometry frame.
    :param base_frame: the frame that moves.
    :param now: :class:`BaseMotion` of the frame.
    :param previous: of the frame before, which the velocity is taken from; None when it is not known.
    :param unknown: variance of every axis of a velocity that is not known.
    """
    message = Odometry(header=header, child_frame_id=base_frame)
    message.pose.pose = pose_to_message(now.pose)
    message.pose.covariance = now.covariance.ravel()
    spread = unknown * np.eye(6)
    seconds = 0.0 if previous is None else now.stamp - previous.stamp
    if seconds > 0:
        linear, angular = velocity(previous.pose, now.pose, seconds)
        twist = message.twist.twist
        twist.linear.x, twist.linear.y, twist.linear.z = (float(v) for v in linear)
        twist.angular.x, twist.angular.y, twist.angular.z = (float(v) for v in angular)
        turn = np.kron(np.eye(2), now.pose[:3, :3].T)  # a velocity is given along the axes of the base
        spread = turn @ (now.local_covariance + previous.local_covariance) @ turn.T / seconds**2
        if np.isfinite(now.scale_sigma):
            spread[:3, :3] += now.scale_sigma**2 * linear[:, None] * linear
    message.twist.covariance = spread.ravel()
    return message


@dataclass
class BaseMotion:
    """
    The base at one frame.

    :param stamp: seconds.
    :param pose: [4,4] in the odometry frame.
    :param covariance: [6,6] of the pose, along the axes of the odometry frame.
    :param local_covariance: [6,6] without what has added up on the way.
    :param scale_sigma: see :class:`OdometryResult`.
    """

    stamp: float
    pose: np.ndarray
    covariance: np.ndarray
    local_covariance: np.ndarray
    scale_sigma: float

    @classmethod
    def of(cls, result, mount):
        """Carry an :class:`OdometryResult` over to the base; ``mount`` is [4,4] optical frame to base."""
        return cls(
            result.stamp,
            base_pose(result.pose, mount),
            base_covariance(result.covariance, result.pose, mount),
            base_covariance(result.local_covariance, result.pose, mount),
            result.scale_sigma,
        )


def state_message(header, result):
    """Return the :class:`OdometryResult` of a frame, but for its pose, as mt_msgs/VisualOdometryState."""
    return VisualOdometryState(
        header=header,
        state=STATES[result.state],
        metric=result.metric,
        scale_sigma=result.scale_sigma,
        is_keyframe=result.is_keyframe,
        matches=result.n_matches,
        inliers=result.n_inliers,
        movable=result.n_movable,
        segment=result.segment,
    )
