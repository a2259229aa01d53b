"""Visual odometry from keypoints, free of ROS and deterministic."""

from mt_perception.odometry.parameters import OdometryParameters
from mt_perception.odometry.result import OdometryResult, OdometryState, ReferenceMatches
from mt_perception.odometry.visual_odometry import VisualOdometry

__all__ = ['OdometryParameters', 'OdometryResult', 'OdometryState', 'ReferenceMatches', 'VisualOdometry']
