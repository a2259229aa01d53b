"""Edges of the pose graph between consecutive keyframes, from their poses and covariances."""

import numpy as np

from mt_perception.odometry.geometry import inverse, skew
from mt_perception.place_recognition.sim3_factors import Edge
from mt_perception.place_recognition.similarity import angle_of

ANY_VARIANCE = 1e6  # of a motion that nothing is known of
LEAST_SCALE = 1e-6  # standard deviation of a scale that does not drift, its logarithm
LEAST_LENGTH = 1e-4  # standard deviation of a step, in units of the map
VAGUE = 1e4  # trace of the covariance of a pose that is not known
ROUNDING = 1e-6  # share of such a covariance below which a difference means nothing


def odometry_edge(first, second, numbers, parameters):
    """
    Return the :class:`Edge` between two consecutive keyframes.

    Odometry's covariance is that of a pose since the start, and it grows by that of each step; the
    difference is that of the step. What accumulates unnoticed is added: shares of the step and of its turn.

    :param first: earlier :class:`Keyframe`.
    :param second: later one.
    :param numbers: their numbers (first, second) in the graph.
    :param parameters: :class:`PlaceParameters`.
    """
    p = parameters
    step = inverse(first.pose) @ second.pose
    covariance = np.zeros((7, 7))
    covariance[:6, :6] = step_covariance(first, second)
    length = np.linalg.norm(step[:3, 3])
    floor = np.concatenate(
        [
            np.full(3, np.radians(p.drift_angle_deg) + p.drift_share * angle_of(step)),
            np.full(3, p.drift_share * length + LEAST_LENGTH),
            [max(p.drift_scale, LEAST_SCALE)],
        ]
    )
    return Edge(*numbers, step, covariance + np.diag(floor**2))


def step_covariance(first, second):
    """
    Covariance [6,6] of (rotation, translation) of the step between two keyframes, in the later one's frame.

    Odometry's covariance grows by that of the step, after the lever between the two has been applied to it.
    One that has become smaller comes from another keyframe of odometry's map, and both count. One that has
    become huge, or is huge and has not come about by the lever, says that nothing connects the two: odometry
    was lost between them and has begun anew.
    """
    lever = np.eye(6)
    lever[:3, 3:] = -skew(second.pose[:3, 3] - first.pose[:3, 3])
    moved = lever @ first.covariance @ lever.T
    step = second.covariance - moved
    before, after, change = np.trace(moved), np.trace(second.covariance), np.trace(step)
    if max(before, after) > VAGUE:
        if before <= VAGUE or abs(change) > ROUNDING * before:
            return ANY_VARIANCE * np.eye(6)
    elif change < 0:
        step = second.covariance + moved
    turn = np.zeros((6, 6))
    turn[:3, 3:] = turn[3:, :3] = second.pose[:3, :3].T  # to the camera's axes, rotation first
    values, vectors = np.linalg.eigh(turn @ step @ turn.T)
    return (vectors * np.maximum(values, 0)) @ vectors.T
