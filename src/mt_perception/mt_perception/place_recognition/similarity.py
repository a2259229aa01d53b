"""
Similarity transforms of space, Sim(3), as [4,4] matrices [[s R, t], [0, 1]].

A monocular map has no scale of its own, so its scale drifts; a pose then carries the size of one of its units
(Strasdat, Montiel, Davison: Scale Drift-Aware Large Scale Monocular SLAM, RSS 2010). Products and
inverses are those of the matrices.
"""

import numpy as np

from mt_perception.odometry.geometry import inverse, se3_exp, se3_log, skew


def similarity(pose, scale):
    """Return the similarity with the rotation and translation of ``pose`` [4,4] and a scale."""
    out = np.array(pose, np.float64)
    out[:3, :3] *= scale
    return out


def scale_of(transform):
    """Return the scale of a similarity [4,4]."""
    return float(np.cbrt(np.linalg.det(transform[:3, :3])))


def rigid(transform):
    """Return rotation and translation of a similarity as a pose [4,4]."""
    out = np.array(transform, np.float64)
    out[:3, :3] /= scale_of(transform)
    return out


def invert(transform):
    """Invert a similarity [4,4]."""
    scale = scale_of(transform)
    turn = transform[:3, :3].T / scale**2
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn, -turn @ transform[:3, 3]
    return out


def interpolate(first, second, share):
    """
    Return what lies between two similarities: ``share`` 0 is the first, 1 the second.

    Screw motion of the rigid parts, geometric mean of the scales.
    """
    start, end = rigid(first), rigid(second)
    between = start @ se3_exp(share * se3_log(inverse(start) @ end))
    return similarity(between, scale_of(first) ** (1 - share) * scale_of(second) ** share)


def angle_of(transform):
    """Return the angle in radians that a similarity [4,4] turns by."""
    rotation = transform[:3, :3] / scale_of(transform)
    axis = rotation - rotation.T
    sine = np.linalg.norm([axis[2, 1], axis[0, 2], axis[1, 0]])
    return float(np.arctan2(sine, np.trace(rotation) - 1))


def adjoint(transform):
    """
    Return the adjoint [7,7] of a similarity for (rotation, translation, logarithm of the scale).

    S exp(x) = exp(Ad x) S, so a perturbation x of S on the right is one of its inverse on the right by −Ad x
    (Eade, Lie Groups for 2D and 3D Transformations, section 6).
    """
    scale = scale_of(transform)
    rotation, t = transform[:3, :3] / scale, transform[:3, 3]
    out = np.zeros((7, 7))
    out[:3, :3] = rotation
    out[3:6, :3] = skew(t) @ rotation
    out[3:6, 3:6] = scale * rotation
    out[3:6, 6] = -t
    out[6, 6] = 1
    return out
