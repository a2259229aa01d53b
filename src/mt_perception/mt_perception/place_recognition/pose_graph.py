"""
Poses that agree best with odometry and with loops, of which some may be wrong.

The poses are similarities, so that a drift of scale is spread over a loop like one of place and heading
(Strasdat, Montiel, Davison: Scale Drift-Aware Large Scale Monocular SLAM, RSS 2010). Wrong loops are told
from right ones three times: by what odometry's drift makes possible at all; by GTSAM's graduated
non-convexity with truncated least squares (Yang, Antonante, Tzoumas, Carlone: Graduated Non-Convexity for
Robust Spatial Perception, RA-L 2020), in which a wrong loop ends with no influence; and by the right loops
around them.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from mt_perception.place_recognition.sim3_factors import (
    SIZE,
    Edge,
    factor,
    graph_of,
    load_gtsam,
    poses_of,
    squared_errors,
    values_of,
)
from mt_perception.place_recognition.similarity import adjoint

GATE = 0.99999  # confidence with which odometry must rule a loop out


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
    held = held_of(poses, fixed)
    known = [factor(edge, poses, held) for edge in (*edges, *others)]
    closing = [factor(loop, poses, held) for loop in loops]
    values = values_of(poses, held)
    right = possible(edges, loops)
    values, right = sort_out(values, known, closing, right, confidence)
    while True:
        right &= supported(loops, right, support, window)
        values = minimize(values, known, closing, right)
        failing = right & (squared_errors(closing, values) >= bound_of(confidence))
        if not failing.any():
            return Optimized(poses_of(values, poses, held), right)
        right &= ~failing


def refine(poses, fixed, edges, loops, right, confidence=0.99, others=()):
    """
    As :func:`optimize`, from poses that are right already but for small corrections.

    :param right: [L] bool, which loops count.
    """
    held, right = held_of(poses, fixed), np.asarray(right, bool)
    known = [factor(edge, poses, held) for edge in (*edges, *others)]
    closing = [factor(loop, poses, held) for loop in loops]
    values = minimize(values_of(poses, held), known, closing, right)
    still = squared_errors(closing, values) < bound_of(confidence)
    return Optimized(poses_of(values, poses, held), right & still)


def agrees(poses, loops, confidence=0.99):
    """Which loops [L] poses agree with, as they are."""
    held, out = np.zeros(2, bool), []
    for loop in loops:
        pair = np.stack([poses[loop.first], poses[loop.second]])
        alone = factor(Edge(0, 1, loop.transform, loop.covariance), pair, held)
        out.append(squared_errors([alone], values_of(pair, held))[0])
    return np.array(out) < bound_of(confidence)


def held_of(poses, fixed):
    """Return [N] bool, which poses do not move, from their numbers."""
    out = np.zeros(len(poses), bool)
    out[list(fixed)] = True
    return out


def minimize(values, known, closing, right):
    """Least squares (Levenberg–Marquardt) with the loops that are ``right`` [L] bool; return gtsam.Values."""
    gtsam = load_gtsam()
    graph = graph_of([*known, *(one for one, counts in zip(closing, right) if counts)])
    return gtsam.LevenbergMarquardtOptimizer(graph, values, gtsam.LevenbergMarquardtParams()).optimize()


def sort_out(values, known, closing, open_, confidence):
    """
    Graduated non-convexity over the loops in question, unless all of them agree.

    :param values: gtsam.Values to start from.
    :param known: factors that are right.
    :param closing: factors of the loops.
    :param open_: [L] bool, which loops are in question; the others are wrong.
    :param confidence: of the χ² test of a right loop.
    :return: (gtsam.Values, which loops are right [L] bool).
    """
    together = minimize(values, known, closing, open_)
    if (squared_errors(closing, together)[open_] < bound_of(confidence)).all():
        return together, open_.copy()
    gtsam = load_gtsam()
    rows = np.flatnonzero(open_)
    parameters = gtsam.GncLMParams(gtsam.LevenbergMarquardtParams())
    parameters.setKnownInliers(list(range(len(known))))
    graph = graph_of([*known, *(closing[row] for row in rows)])
    solver = gtsam.GncLMOptimizer(graph, values, parameters)
    solver.setInlierCostThresholdsAtProbability(confidence)
    values = solver.optimize()
    right = np.zeros(len(closing), bool)
    right[rows] = np.asarray(solver.getWeights())[len(known) :] > 0.5
    return values, right


def supported(loops, right, support, window):
    """Which loops [L] have enough right ones around both ends, supported themselves; see :func:`optimize`."""
    ends = np.array([(loop.first, loop.second) for loop in loops]).reshape(-1, 2)
    out = np.array(right, bool)
    while True:
        before = out.copy()
        for k in np.flatnonzero(before):
            near = before & (np.abs(ends - ends[k]) <= (2 * window, window)).all(1)
            out[k] = len(np.unique(ends[near, 1])) >= support
        if (out == before).all():
            return out


def bound_of(confidence):
    """Largest squared error of a right loop."""
    return float(2 * gammaincinv(SIZE / 2, confidence))  # of χ² with seven degrees of freedom


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
            pose[edge.first], covariance[edge.first] = np.eye(4), np.zeros((SIZE, SIZE))
            root[edge.first] = edge.first
        pose[edge.second] = pose[edge.first] @ edge.transform
        move = adjoint(pose[edge.second])
        covariance[edge.second] = covariance[edge.first] + move @ edge.covariance @ move.T
        root[edge.second] = root[edge.first]
    out = np.ones(len(loops), bool)
    for k, loop in enumerate(loops):
        a, b = loop.first, loop.second
        if a not in root or root[a] != root.get(b):
            continue
        back = np.linalg.inv(adjoint(pose[b]))
        drift = back @ (covariance[b] - covariance[a]) @ back.T
        edge = Edge(0, 1, loop.transform, drift + loop.covariance)
        out[k] = agrees([pose[a], pose[b]], [edge], GATE)[0]
    return out
