"""
Bundle adjustment of a window of keyframes and the points they see.

Levenberg–Marquardt on the reprojection error and, where depths are known, that of log depth, each with
Huber's kernel. The points are eliminated first (Schur complement; Triggs et al. 2000, Bundle Adjustment – A
Modern Synthesis, section 6), so only a dense system with six unknowns per moving camera is solved. Everything
is numpy arrays over all observations at once.
"""

from dataclasses import dataclass

import numpy as np

from mt_perception.odometry.absolute_pose import CHI2_2D, projection_jacobian
from mt_perception.odometry.blocks import LOWER, backward, cholesky, forward
from mt_perception.odometry.geometry import orthonormal, se3_exp


@dataclass
class Problem:
    """
    What is adjusted.

    :param cameras: [C,4,4] world-to-camera; the first ``n_moving`` move, the others are fixed.
    :param n_moving: number of moving cameras.
    :param points: [P,3].
    :param camera_index: [O] camera of each observation.
    :param point_index: [O] point of each observation, in ascending order, every point at least once.
    :param rays: [O,2] observed normalised image coordinates.
    :param sigma: [O] standard deviation of a ray coordinate.
    :param depth: [O] depth along the camera's axis in units of the points, NaN where unknown; None: nowhere.
    :param depth_sigma: standard deviation of its logarithm.
    """

    cameras: np.ndarray
    n_moving: int
    points: np.ndarray
    camera_index: np.ndarray
    point_index: np.ndarray
    rays: np.ndarray
    sigma: np.ndarray
    depth: np.ndarray | None = None
    depth_sigma: float = 0.0


@dataclass
class Adjusted:
    """
    The outcome.

    :param cameras: [C,4,4] world-to-camera.
    :param points: [P,3].
    :param chi2: [O] squared reprojection error of each observation in units of its variance, infinite behind
        the camera.
    :param cost_before: robust cost at the start.
    :param cost_after: robust cost at the end.
    """

    cameras: np.ndarray
    points: np.ndarray
    chi2: np.ndarray
    cost_before: float
    cost_after: float


class Observations:
    """
    The observations of a problem, camera by camera; coordinates lie in rows, one per axis.

    :ivar point: [O] point of each.
    :ivar parts: slice of the observations of each camera.
    """

    def __init__(self, problem):
        """:param problem: :class:`Problem`."""
        order = np.argsort(problem.camera_index, kind='stable')
        bounds = np.searchsorted(problem.camera_index[order], np.arange(len(problem.cameras) + 1))
        self.parts = [slice(first, last) for first, last in zip(bounds[:-1], bounds[1:])]
        self.point = problem.point_index[order]
        self._rays = problem.rays[order].T.copy()
        self._precision = 1 / problem.sigma[order]
        self._log_depth = None
        if problem.depth is not None:
            depth = problem.depth[order]
            with np.errstate(invalid='ignore'):
                known = depth > 0
            self._log_depth = np.log(np.where(known, depth, 1.0))
            self._depth_precision = known / problem.depth_sigma
        self._place = np.empty_like(order)  # of the problem's observations here
        self._place[order] = np.arange(len(order))
        self._first_of_point = np.searchsorted(problem.point_index, np.arange(len(problem.points)))

    def as_given(self, values):
        """Return values [O] in the problem's order."""
        return values[self._place]

    def sum_by_point(self, values):
        """Sum values [K,O] over the observations of each point: [K,P]."""
        return np.add.reduceat(values[:, self._place], self._first_of_point, axis=1)

    def errors(self, cameras, points):
        """
        Return points [3,O] in the cameras' frames, errors in sigmas and squares [1,O] or [2,O] of them.

        The errors are those of the ray coordinates and, where there are depths, of log depth: [2,O] or [3,O].
        The squares are those of the reprojection error, infinite behind the camera, and of log depth.
        """
        world, local = points[:, self.point], np.empty((3, len(self.point)))
        for camera, part in zip(cameras, self.parts):
            np.matmul(camera[:3, :3], world[:, part], out=local[:, part])
            local[:, part] += camera[:3, 3:]
        in_front = local[2] > 1e-6
        local[2] = np.where(in_front, local[2], 1.0)
        error = (local[:2] / local[2] - self._rays) * self._precision
        chi2 = np.where(in_front, error[0] ** 2 + error[1] ** 2, np.inf)[None]
        if self._log_depth is not None:
            off = (np.log(local[2]) - self._log_depth) * self._depth_precision
            error, chi2 = np.vstack([error, off]), np.vstack([chi2, off**2])
        return local, error, chi2

    def jacobians(self, cameras, local):
        """Return the derivatives of the E errors by the cameras [6,E,O] and by the points [3,E,O]."""
        projected, inverse_z = local[:2] / local[2], 1 / local[2]
        by_pose = projection_jacobian(projected, inverse_z)
        by_pose *= self._precision
        if self._log_depth is not None:
            zero = np.zeros_like(inverse_z)
            of_depth = np.stack([zero, zero, inverse_z, projected[1], -projected[0], zero])[:, None]
            by_pose = np.concatenate([by_pose, of_depth * self._depth_precision], axis=1)
        by_point = np.empty_like(by_pose[:3])
        for camera, part in zip(cameras, self.parts):
            moved = camera[:3, :3].T @ by_pose[:3, :, part].reshape(3, -1)
            by_point[:, :, part] = moved.reshape(3, by_pose.shape[1], -1)
        return by_pose, by_point


def huber(chi2, width):
    """
    Return Huber's cost and weights of squared errors, quadratic up to ``width``; far errors are capped.

    :param chi2: [1,O] of the reprojection or [2,O] with those of log depth.
    :return: cost and the weight [1,O] or [3,O] of each error.
    """
    bounded = np.minimum(chi2, 1e6)
    root = np.sqrt(np.maximum(bounded, width))
    cost = np.where(bounded <= width, bounded, 2 * np.sqrt(width) * root - width)
    weight = np.where(np.isfinite(chi2), np.sqrt(width) / root, 0.0)
    return float(cost.sum()), weight if len(weight) == 1 else weight[[0, 0, 1]]


class NormalEquations:
    """
    The Gauss–Newton system at one linearisation point, whose points are eliminated to solve it.

    With V = L Lᵀ the block of a point and W the blocks that couple it with the cameras, the cameras' system
    is reduced by Y Yᵀ, Y = W L⁻ᵀ. All points are factorised at once, by the formulas of a 3 × 3 Cholesky
    factor.
    """

    def __init__(self, observations, moving, by_pose, by_point, error, weight):
        """
        Sum the products of derivatives.

        :param observations: :class:`Observations`.
        :param moving: number of moving cameras.
        :param by_pose: [6,E,O] derivatives of the errors by the cameras.
        :param by_point: [3,E,O] by the points.
        :param error: [E,O].
        :param weight: [E,O] or [1,O].
        """
        self._observations, self._moving = observations, moving
        weighted = by_point * weight
        self._of_points = observations.sum_by_point(
            np.stack([_dot(weighted[i], by_point[j]) for i, j in LOWER] + [_dot(w, error) for w in weighted])
        )
        last = observations.parts[moving - 1].stop if moving else 0
        seen = by_pose[:, :, :last]
        self._coupling = _dot(seen[:, None], weighted[None, :, :, :last], axis=2)  # [6,3,O of moving cameras]
        self._of_cameras, self._gradient = np.zeros((moving, 6, 6)), np.zeros((moving, 6))
        scaled = seen * weight[:, :last]
        for k, part in enumerate(observations.parts[:moving]):
            block = scaled[:, :, part].reshape(6, -1)
            self._of_cameras[k] = block @ by_pose[:, :, part].reshape(6, -1).T
            self._gradient[k] = block @ error[:, part].ravel()

    def solve(self, damping):
        """
        Solve the damped equations.

        :param damping: share of each block's diagonal that is added to it.
        :return: (steps of the cameras [K,6], steps of the points [3,P]).
        """
        factor = self._factor(damping)
        ahead = forward(factor, self._of_points[6:])
        size = 6 * self._moving
        point = self._observations.point[: self._coupling.shape[2]]
        reduced = np.zeros((size, 3, ahead.shape[1]))
        columns = forward(factor[:, point], self._coupling.transpose(1, 0, 2))
        for k, part in enumerate(self._observations.parts[: self._moving]):
            reduced[6 * k : 6 * k + 6, :, point[part]] = columns[:, :, part].transpose(1, 0, 2)
        reduced = reduced.reshape(size, ahead.size)
        system = -(reduced @ reduced.T)
        right = reduced @ ahead.ravel() - self._gradient.ravel()
        for k, hessian in enumerate(self._of_cameras):
            block = slice(6 * k, 6 * k + 6)
            system[block, block] += hessian + np.diag(damping * np.diag(hessian) + 1e-9)
        steps = np.linalg.solve(system, right)
        points = -backward(factor, ahead + (steps @ reduced).reshape(ahead.shape))
        return steps.reshape(-1, 6), points

    def _factor(self, damping):
        """Return the damped Cholesky factors of the points' blocks, [6,P] in the order of ``LOWER``."""
        blocks = self._of_points[:6].copy()
        diagonal = [LOWER.index((i, i)) for i in range(3)]
        floor = 1e-9 * (blocks[diagonal].mean() + 1e-12)
        blocks[diagonal] += damping * blocks[diagonal] + floor
        return cholesky(blocks, floor)


def _dot(a, b, axis=0):
    """Scalar products of pairs of errors or their derivatives along ``axis``."""
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    return sum((x * y for x, y in zip(a[1:], b[1:])), start=a[0] * b[0])


def adjust(problem, iterations=8, width=CHI2_2D, tolerance=1e-3):
    """
    Minimise the robust reprojection error.

    :param problem: :class:`Problem`.
    :param iterations: upper bound of accepted and refused steps together.
    :param width: χ² up to which the cost is quadratic.
    :param tolerance: stop when the cost falls by a smaller share.
    :return: :class:`Adjusted`.
    """
    cameras, points, moving = problem.cameras.copy(), problem.points.T.copy(), problem.n_moving
    observations = Observations(problem)
    local, error, chi2 = observations.errors(cameras, points)
    cost, weight = huber(chi2, width)
    cost_before, damping, equations = cost, 1e-4, None
    for _ in range(iterations):
        if equations is None:
            derivatives = observations.jacobians(cameras, local)
            equations = NormalEquations(observations, moving, *derivatives, error, weight)
        step_cameras, step_points = equations.solve(damping)
        candidate = cameras.copy()
        for k in range(moving):
            candidate[k] = se3_exp(step_cameras[k]) @ cameras[k]
        candidate_points = points + step_points
        state = observations.errors(candidate, candidate_points)
        new_cost, new_weight = huber(state[2], width)
        if new_cost < cost:
            gain = (cost - new_cost) / max(cost, 1e-12)
            cameras, points, (local, error, chi2) = candidate, candidate_points, state
            cost, weight, damping, equations = new_cost, new_weight, max(damping * 0.1, 1e-8), None
            if gain < tolerance:
                break
        else:
            damping = damping * 10
    for k in range(moving):
        cameras[k] = orthonormal(cameras[k])
    return Adjusted(cameras, points.T.copy(), observations.as_given(chi2[0]), cost_before, cost)
