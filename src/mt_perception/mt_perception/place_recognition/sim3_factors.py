"""
Similarities and what is known of them, for GTSAM, which solves the pose graph.

GTSAM's Similarity3 translates before it scales: its [[R, t], [0, 1/s]] is [[s R, s t], [0, 1]] here. Its
tangent vectors are (rotation, translation, logarithm of the scale), its perturbations on the right, as
everywhere here. Its wheels come without TBB: one thread, and the same input gives the same output.
"""

from dataclasses import dataclass

import numpy as np

from mt_perception.errors import MtError
from mt_perception.place_recognition.similarity import adjoint, invert, scale_of

SIZE = 7  # unknowns of a pose


@dataclass
class Edge:
    """
    What is known of one pose relative to another.

    :param first: number of the pose in whose frame it is.
    :param second: number of the other pose.
    :param transform: [4,4] similarity from the frame of the second to that of the first.
    :param covariance: [7,7] of (rotation, translation, logarithm of the scale), a perturbation on the right.
    """

    first: int
    second: int
    transform: np.ndarray
    covariance: np.ndarray

    def turned_around(self):
        """Return the same with first and second exchanged."""
        move = adjoint(self.transform)
        return Edge(self.second, self.first, invert(self.transform), move @ self.covariance @ move.T)


def load_gtsam():
    """
    Return the module gtsam, which takes half a second to load.

    :raises MtError: it is not installed.
    """
    try:
        import gtsam
    except ImportError as error:
        raise MtError(
            f'place recognition needs GTSAM for its pose graph ({error}): pip install -r '
            "mt_perception's requirements.txt, which names the version"
        ) from None
    return gtsam


def to_gtsam(transform):
    """Return a similarity [4,4] as gtsam.Similarity3."""
    gtsam, scale = load_gtsam(), scale_of(transform)
    return gtsam.Similarity3(gtsam.Rot3(transform[:3, :3] / scale), transform[:3, 3] / scale, scale)


def from_gtsam(value):
    """Return a gtsam.Similarity3 as [4,4]."""
    out = np.eye(4)
    out[:3, :3] = value.scale() * value.rotation().matrix()
    out[:3, 3] = value.scale() * value.translation()
    return out


def factor(edge, poses, held):
    """
    Return an :class:`Edge` as a factor whose error is its squared Mahalanobis distance, halved.

    One from a pose that is held is a prior of the other pose, so held poses are no unknowns.

    :param poses: [N,4,4] similarities.
    :param held: [N] bool.
    """
    gtsam = load_gtsam()
    if held[edge.second]:
        edge = edge.turned_around()
    noise = gtsam.noiseModel.Gaussian.Covariance((edge.covariance + edge.covariance.T) / 2)
    if held[edge.first]:
        return gtsam.PriorFactorSimilarity3(edge.second, to_gtsam(poses[edge.first] @ edge.transform), noise)
    return gtsam.BetweenFactorSimilarity3(edge.first, edge.second, to_gtsam(edge.transform), noise)


def values_of(poses, held):
    """Return the poses [N,4,4] that are not ``held`` [N] bool as gtsam.Values."""
    out = load_gtsam().Values()
    for number in np.flatnonzero(~held):
        out.insert(int(number), to_gtsam(poses[number]))
    return out


def poses_of(values, poses, held):
    """Return ``poses`` [N,4,4] with those that are not ``held`` [N] bool from gtsam.Values."""
    out = np.array(poses, np.float64)
    for number in np.flatnonzero(~held):
        out[number] = from_gtsam(values.atSimilarity3(int(number)))
    return out


def graph_of(factors):
    """Return factors as gtsam.NonlinearFactorGraph."""
    out = load_gtsam().NonlinearFactorGraph()
    for one in factors:
        out.add(one)
    return out


def squared_errors(factors, values):
    """Return the squared Mahalanobis distance [F] of each factor."""
    return np.array([2 * one.error(values) for one in factors])
