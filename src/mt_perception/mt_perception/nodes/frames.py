"""Frames and poses: the optical frame of a camera, the base of a robot, and paths of poses."""

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from std_msgs.msg import Header

from mt_perception.nodes.conversions import pose_to_message, stamp_from_seconds
from mt_perception.sequences.trajectory_io import rotations_to_quaternions

# Optical frame (x right, y down, z forward) into a body frame (x forward, y left, z up), REP 103.
OPTICAL_TO_BASE = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def base_pose(camera_pose, mount):
    """
    Return the pose of the base in the odometry frame, where it starts as the identity.

    :param camera_pose: [4,4] camera to its first optical frame.
    :param mount: [4,4] optical frame to base.
    """
    return mount @ camera_pose @ np.linalg.inv(mount)


def base_covariance(covariance, camera_pose, mount):
    """
    Turn the covariance of a camera pose into that of the base pose.

    :param covariance: [6,6] of (x, y, z, rotation about x, y, z) along the axes of the first optical frame.
    :param camera_pose: [4,4] camera to its first optical frame.
    :param mount: [4,4] optical frame to base.
    :return: [6,6] along the axes of the odometry frame.
    """
    base_origin = -mount[:3, :3].T @ mount[:3, 3]  # in the optical frame
    x, y, z = camera_pose[:3, :3] @ base_origin
    lever = np.eye(6)
    lever[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = mount[:3, :3]
    jacobian = turn @ lever
    return jacobian @ covariance @ jacobian.T


def velocity(previous, pose, seconds):
    """
    Return (linear [3] in m/s, angular [3] in rad/s) between two poses, in the moving frame.

    :param previous: [4,4] earlier pose.
    :param pose: [4,4] later pose.
    :param seconds: time between them; not positive gives zeros.
    """
    if seconds <= 0:
        return np.zeros(3), np.zeros(3)
    step = np.linalg.inv(previous) @ pose
    return step[:3, 3] / seconds, rotation_vector(step[:3, :3]) / seconds


def rotation_vector(rotation):
    """Return axis times angle (radians, at most π) of a [3,3] rotation."""
    x, y, z, w = rotations_to_quaternions(rotation[None])[0]
    axis = np.array([x, y, z])
    sine = np.linalg.norm(axis)
    return 2 * axis if sine < 1e-12 else axis / sine * 2 * np.arctan2(sine, w)


def path_from_poses(poses, frame_id):
    """
    Return nav_msgs/Path.

    :param poses: list of (seconds, [4,4]).
    :param frame_id: frame the poses are given in.
    """
    path = Path(header=Header(frame_id=frame_id))
    for seconds, pose in poses:
        stamped = PoseStamped(header=Header(frame_id=frame_id, stamp=stamp_from_seconds(seconds)))
        stamped.pose = pose_to_message(pose)
        path.poses.append(stamped)
    if path.poses:
        path.header.stamp = path.poses[-1].header.stamp
    return path
