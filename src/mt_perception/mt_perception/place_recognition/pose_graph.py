"""
Poses that agree best with odometry and with loops, of which some may be wrong.

The poses are similarities, so that a drift of scale is spread over a loop like one of place and heading
(Strasdat, Montiel, Davison: Scale Drift-Aware Large Scale Monocular SLAM, RSS 2010). Wrong loops are told
from right ones twice: by what odometry's drift makes possible at all, and by graduated non-convexity with
truncated least squares (Yang, Antonante, Tzoumas, Carlone: Graduated Non-Convexity for Robust Spatial
Perception, RA-L 2020), in which a wrong loop ends with no influence.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from mt_perception.place_recognition.sim3_least_squares import Edges, errors, minimize
from mt_perception.place_recognition.similarity import adjoint

GROWTH = 1.4  # of the control parameter from round to round, as in the paper
ROUNDS = 60
ROUND_ITERATIONS = 3
GATE = 0.99999  # confidence with which odometry must rule a loop out


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


@dataclass
class Optimized:
    """
    The outcome.

    :param poses: [N,4,4] similarities.
    :param right: [L] bool, which loops count.
    """

    poses: np.ndarray
    right: np.ndarray


def optimize(poses, fixed, edges, loops, confidence=0.99, support=1, window=8, others=()):
    """
    Move poses so that edges and as many loops as fit agree.

    :param poses: [N,4,4] similarities to start from.
    :param fixed: numbers of poses that do not move, at least one.
    :param edges: list of :class:`Edge` that are right: odometry's, each from a pose to the next.
    :param loops: list of :class:`Edge` that may be wrong.
    :param confidence: of the χ² test that a right loop passes.
    :param support: loops of different second poses, itself counted, that a right loop has around it.
    :param window: poses away at which one still supports another.
    :param others: list of :class:`Edge` that are right, too, but no part of odometry.
    :return: :class:`Optimized`.
    """
    held = np.zeros(len(poses), bool)
    held[list(fixed)] = True
    everything, bound = Edges.of([*edges, *others, *loops]), bound_of(confidence)
    first = len(everything) - len(loops)
    solution, right = sort_out(poses, held, everything, possible(edges, loops), bound)
    weights = np.ones(len(everything))
    while True:
        right &= supported(loops, right, support, window)
        weights[first:] = right
        solution, squares = minimize(solution, held, everything, weights)
        failing = right & (squares[first:] >= bound)
        if not failing.any():
            return Optimized(solution, right)
        right &= ~failing


def sort_out(poses, held, everything, open_, bound):
    """
    Graduated non-convexity (algorithm 1 of the paper): from the least-squares problem to the truncated one.

    :param held: [N] bool, which poses do not move.
    :param everything: :class:`Edges`; loops are the last.
    :param open_: [L] bool, which loops are in question; the others are wrong.
    :param bound: largest squared error of a right loop.
    :return: (poses [N,4,4], which loops are right [L] bool).
    """
    n = len(everything) - len(open_)
    weights = np.ones(len(everything))
    weights[n:] = open_
    poses, squares = minimize(poses, held, everything, weights)
    largest = squares[n:][open_].max(initial=0.0)
    if largest <= bound:
        return poses, open_.copy()
    control = bound / (2 * largest - bound)
    for _ in range(ROUNDS):
        weights[n:] = np.where(open_, truncated_weights(squares[n:], bound, control), 0.0)
        poses, squares = minimize(poses, held, everything, weights, ROUND_ITERATIONS)
        if np.isin(weights[n:], (0.0, 1.0)).all():
            break
        control *= GROWTH
    return poses, weights[n:] > 0.5


def supported(loops, right, support, window):
    """Which loops [L] have enough right ones around them at both ends, see :func:`optimize`."""
    ends = np.array([(loop.first, loop.second) for loop in loops]).reshape(-1, 2)
    out = np.array(right, bool)
    for k in np.flatnonzero(right):
        near = right & (np.abs(ends - ends[k]) <= (2 * window, window)).all(1)
        out[k] = len(np.unique(ends[near, 1])) >= support
    return out


def refine(poses, fixed, edges, loops, right, confidence=0.99, others=()):
    """
    As :func:`optimize`, from poses that are right already but for small corrections.

    :param right: [L] bool, which loops count.
    """
    edges = [*edges, *others]
    held = np.zeros(len(poses), bool)
    held[list(fixed)] = True
    weights = np.concatenate([np.ones(len(edges)), np.asarray(right, np.float64)])
    solution, squares = minimize(poses, held, Edges.of([*edges, *loops]), weights)
    return Optimized(solution, np.asarray(right, bool) & (squares[len(edges) :] < bound_of(confidence)))


def agrees(poses, loops, confidence=0.99):
    """Which loops [L] poses agree with, as they are."""
    squares = (errors(np.asarray(poses), Edges.of(loops))[0] ** 2).sum(1)
    return squares < bound_of(confidence)


def bound_of(confidence):
    """Largest squared error of a right loop."""
    return float(2 * gammaincinv(3.5, confidence))  # of χ² with seven degrees of freedom


def truncated_weights(squares, bound, control):
    """Weights [L] of squared errors for the truncated quadratic at a control parameter (eq. 14)."""
    root = np.sqrt(bound * control * (control + 1) / np.maximum(squares, 1e-12)) - control
    return np.where(
        squares >= (control + 1) / control * bound,
        0.0,
        np.where(squares <= control / (control + 1) * bound, 1.0, np.clip(root, 0, 1)),
    )


def possible(edges, loops):
    """
    Which loops odometry does not rule out, [L] bool.

    The covariance of a pose relative to an earlier one is the sum over the edges between them, each carried
    over to the later pose; a loop that lies farther from odometry than that and its own covariance make
    possible is wrong. Loops between poses that no edges connect are all possible.

    :param edges: list of :class:`Edge` that form chains, each in order.
    """
    pose, covariance, root = {}, {}, {}  # since the start of the chain, in its frame
    for edge in edges:
        if edge.first not in pose:
            pose[edge.first], covariance[edge.first] = np.eye(4), np.zeros((7, 7))
            root[edge.first] = edge.first
        pose[edge.second] = pose[edge.first] @ edge.transform
        move = adjoint(pose[edge.second])
        covariance[edge.second] = covariance[edge.first] + move @ edge.covariance @ move.T
        root[edge.second] = root[edge.first]
    out = np.ones(len(loops), bool)
    bound = bound_of(GATE)
    for k, loop in enumerate(loops):
        a, b = loop.first, loop.second
        if a not in root or root[a] != root.get(b):
            continue
        back = np.linalg.inv(adjoint(pose[b]))
        drift = back @ (covariance[b] - covariance[a]) @ back.T
        edge = Edges.of([Edge(0, 1, loop.transform, drift + loop.covariance)])
        out[k] = (errors(np.stack([pose[a], pose[b]]), edge)[0] ** 2).sum() < bound
    return out
