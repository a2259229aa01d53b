"""
Bundle adjustment of a window of keyframes and the points they see.

Levenberg–Marquardt on the reprojection error with Huber's kernel. The points are eliminated first (Schur
complement; Triggs et al. 2000, Bundle Adjustment – A Modern Synthesis, section 6), so only a dense system
with six unknowns per moving camera is solved. Everything is numpy arrays over all observations at once.
"""

from dataclasses import dataclass

import numpy as np

from mt_perception.odometry.absolute_pose import CHI2_2D, pose_jacobian
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
    """

    cameras: np.ndarray
    n_moving: int
    points: np.ndarray
    camera_index: np.ndarray
    point_index: np.ndarray
    rays: np.ndarray
    sigma: np.ndarray


@dataclass
class Adjusted:
    """
    The outcome.

    :param cameras: [C,4,4] world-to-camera.
    :param points: [P,3].
    :param chi2: [O] squared error of each observation in units of its variance, infinite behind the camera.
    :param cost_before: robust cost at the start.
    :param cost_after: robust cost at the end.
    """

    cameras: np.ndarray
    points: np.ndarray
    chi2: np.ndarray
    cost_before: float
    cost_after: float


def residuals(problem, cameras, points):
    """Return camera-frame points [O,3], errors in sigmas [O,2] and their squares [O]."""
    poses = cameras[problem.camera_index]
    local = np.einsum('oij,oj->oi', poses[:, :3, :3], points[problem.point_index]) + poses[:, :3, 3]
    in_front = local[:, 2] > 1e-6
    z = np.where(in_front, local[:, 2], 1.0)
    error = (local[:, :2] / z[:, None] - problem.rays) / problem.sigma[:, None]
    return local, error, np.where(in_front, (error**2).sum(1), np.inf)


def huber(chi2, width):
    """Return Huber's cost and weights of squared errors, quadratic up to ``width``; far errors are capped."""
    bounded = np.minimum(chi2, 1e6)
    root = np.sqrt(np.maximum(bounded, width))
    cost = np.where(bounded <= width, bounded, 2 * np.sqrt(width) * root - width)
    weight = np.where(np.isfinite(chi2), np.sqrt(width) / root, 0.0)
    return float(cost.sum()), weight


def adjust(problem, iterations=8, width=CHI2_2D, tolerance=1e-3):
    """
    Minimise the robust reprojection error.

    :param problem: :class:`Problem`.
    :param iterations: upper bound of accepted and refused steps together.
    :param width: χ² up to which the cost is quadratic.
    :param tolerance: stop when the cost falls by a smaller share.
    :return: :class:`Adjusted`.
    """
    cameras, points = problem.cameras.copy(), problem.points.copy()
    moving, n_points = problem.n_moving, len(points)
    starts = np.searchsorted(problem.point_index, np.arange(n_points))
    on_moving = np.flatnonzero(problem.camera_index < moving)
    camera_of = problem.camera_index[on_moving]
    order = on_moving[np.argsort(camera_of, kind='stable')]
    bounds = np.searchsorted(problem.camera_index[order], np.arange(moving + 1))

    local, error, chi2 = residuals(problem, cameras, points)
    cost, weight = huber(chi2, width)
    cost_before, damping, fresh = cost, 1e-4, True
    for _ in range(iterations):
        if fresh:
            safe = local.copy()
            safe[:, 2] = np.where(np.isfinite(chi2), local[:, 2], 1.0)
            by_pose = pose_jacobian(safe) / problem.sigma[:, None, None]
            by_point = by_pose[:, :, :3] @ cameras[problem.camera_index, :3, :3]
            weighted = by_point * weight[:, None, None]
            point_hessian = np.add.reduceat(np.einsum('oki,okj->oij', weighted, by_point), starts)
            point_gradient = np.add.reduceat(np.einsum('oki,ok->oi', weighted, error), starts)
            pose_hessian, pose_gradient = np.zeros((moving, 6, 6)), np.zeros((moving, 6))
            for k in range(moving):
                index = order[bounds[k] : bounds[k + 1]]
                flat = by_pose[index].reshape(-1, 6)
                scaled = (by_pose[index] * weight[index, None, None]).reshape(-1, 6)
                pose_hessian[k] = scaled.T @ flat
                pose_gradient[k] = scaled.T @ error[index].ravel()
            coupling = np.zeros((n_points, moving, 6, 3))
            coupling[problem.point_index[on_moving], camera_of] = np.einsum(
                'oki,okj->oij', by_pose[on_moving], weighted[on_moving]
            )
            coupling = coupling.reshape(n_points, moving * 6, 3)
        step_poses, step_points = solve(
            pose_hessian, pose_gradient, point_hessian, point_gradient, coupling, damping
        )
        candidate = cameras.copy()
        for k in range(moving):
            candidate[k] = se3_exp(step_poses[k]) @ cameras[k]
        candidate_points = points + step_points
        state = residuals(problem, candidate, candidate_points)
        new_cost, new_weight = huber(state[2], width)
        fresh = new_cost < cost
        if fresh:
            gain = (cost - new_cost) / max(cost, 1e-12)
            cameras, points, (local, error, chi2) = candidate, candidate_points, state
            cost, weight, damping = new_cost, new_weight, max(damping * 0.1, 1e-8)
            if gain < tolerance:
                break
        else:
            damping = damping * 10
    for k in range(moving):
        cameras[k] = orthonormal(cameras[k])
    return Adjusted(cameras, points, chi2, cost_before, cost)


def solve(pose_hessian, pose_gradient, point_hessian, point_gradient, coupling, damping):
    """
    Solve the damped normal equations by eliminating the points.

    :return: (steps of the cameras [K,6], steps of the points [P,3]).
    """
    moving, n_points = len(pose_hessian), len(point_hessian)
    diagonal = np.einsum('pii->pi', point_hessian)
    damped = point_hessian + 0.0
    floor = 1e-9 * (diagonal.mean() + 1e-12)
    np.einsum('pii->pi', damped)[...] += damping * diagonal + floor
    inverted = np.linalg.inv(damped)
    if moving == 0:
        return np.zeros((0, 6)), -np.einsum('pij,pj->pi', inverted, point_gradient)
    eliminated = coupling @ inverted
    size = moving * 6
    flat = np.ascontiguousarray(eliminated.transpose(1, 0, 2)).reshape(size, n_points * 3)
    system = -flat @ np.ascontiguousarray(coupling.transpose(0, 2, 1)).reshape(n_points * 3, size)
    right = -pose_gradient.ravel() + flat @ point_gradient.ravel()
    for k in range(moving):
        block = slice(6 * k, 6 * k + 6)
        system[block, block] += pose_hessian[k]
        system[block, block] += damping * np.diag(np.diag(pose_hessian[k])) + 1e-9 * np.eye(6)
    poses = np.linalg.solve(system, right)
    points = -np.einsum('pij,pj->pi', inverted, point_gradient + np.einsum('psk,s->pk', coupling, poses))
    return poses.reshape(moving, 6), points
