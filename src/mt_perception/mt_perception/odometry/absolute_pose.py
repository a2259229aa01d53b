"""The pose of a camera from points whose position is known (PnP): robust start, refinement, covariance."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.odometry.geometry import (
    inverse,
    orthonormal,
    project,
    robust_parameters,
    se3_exp,
    to_camera,
)

CHI2_2D = 5.991  # 95 % of a two-dimensional Gaussian


@dataclass
class PoseEstimate:
    """
    A camera pose with what supports it.

    :param world_to_camera: [4,4].
    :param inlier: [N] bool of the correspondences given.
    :param information: [6,6] J^T J / sigma^2 of the inliers, for the left perturbation (translation,
        rotation) of ``world_to_camera``.
    """

    world_to_camera: np.ndarray
    inlier: np.ndarray
    information: np.ndarray

    @property
    def n_inliers(self):
        """Return the number of inliers."""
        return int(self.inlier.sum())


def ransac(points, rays, threshold, iterations):
    """
    Pose without a guess, by OpenCV's USAC (P3P, MSAC score); the same input gives the same pose.

    Its own local optimisation stays off: :func:`refine` follows, and does it better in less time.

    :param points: [N,3].
    :param rays: [N,2].
    :param threshold: largest reprojection error of an inlier, normalised units.
    :param iterations: upper bound.
    :return: world_to_camera [4,4], or None.
    """
    if len(points) < 6:
        return None
    parameters = robust_parameters(threshold, iterations, 0.999, cv2.LOCAL_OPTIM_NULL)
    try:
        ok, _, rotation, translation, inliers = cv2.solvePnPRansac(
            np.ascontiguousarray(points),
            np.ascontiguousarray(rays),
            np.eye(3),
            np.zeros(4),
            params=parameters,
        )
    except cv2.error:
        return None
    if not ok or inliers is None or len(inliers) < 4:
        return None
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(rotation)[0]
    pose[:3, 3] = translation.ravel()
    return pose if np.isfinite(pose).all() else None


def pose_jacobian(camera_points):
    """Derivative [N,2,6] of the projection by the left perturbation (translation, rotation) of the camera."""
    inverse_z = 1 / camera_points[:, 2]
    u, v = camera_points[:, 0] * inverse_z, camera_points[:, 1] * inverse_z
    jacobian = np.zeros((len(camera_points), 2, 6))
    jacobian[:, 0, 0] = inverse_z
    jacobian[:, 0, 2] = -u * inverse_z
    jacobian[:, 0, 3] = -u * v
    jacobian[:, 0, 4] = 1 + u * u
    jacobian[:, 0, 5] = -v
    jacobian[:, 1, 1] = inverse_z
    jacobian[:, 1, 2] = -v * inverse_z
    jacobian[:, 1, 3] = -1 - v * v
    jacobian[:, 1, 4] = u * v
    jacobian[:, 1, 5] = u
    return jacobian


class Uncertainty:
    """
    How far each projection may lie off: keypoint noise, and more along one line for points of unsure depth.

    The covariance of a ray is Σ = σ² I + d dᵀ, where d is the projected displacement of the point by one
    sigma of its depth. Its whitening is (I − β d̂ d̂ᵀ) / σ with 1 − β = σ / √(σ² + |d|²).

    :param sigma: standard deviation of a ray coordinate, scalar or [N].
    :param displacement: [N,3] in the world, one sigma of each point's depth; None = all depths are sure.
    """

    def __init__(self, sigma, displacement=None):
        self.sigma = sigma
        self.displacement = displacement
        self.direction = None

    def update(self, world_to_camera, local):
        """Project the displacements at a pose; ``local`` are the points in its frame."""
        if self.displacement is None:
            return
        z = np.where(local[:, 2] > 1e-9, local[:, 2], np.inf)[:, None]
        moved = self.displacement @ world_to_camera[:3, :3].T
        d = (moved[:, :2] - local[:, :2] / z * moved[:, 2:]) / z
        length = np.linalg.norm(d, axis=1)
        beta = 1 - self.sigma / np.sqrt(self.sigma**2 + length**2)
        direction = d / np.maximum(length, 1e-12)[:, None]
        self.direction, self.scaled = direction, direction * beta[:, None]

    def whiten(self, values):
        """Whiten errors [N,2] or their derivatives [N,2,K]."""
        sigma = np.asarray(self.sigma).reshape(-1, *([1] * (values.ndim - 1)))
        if self.direction is None:
            return values / sigma
        if values.ndim == 2:
            along = (self.direction * values).sum(1, keepdims=True) * self.scaled
        else:
            along = self.scaled[:, :, None] * (self.direction[:, None] @ values)
        return (values - along) / sigma


def refine(points, rays, world_to_camera, sigma, displacement=None, iterations=12):
    """
    Motion-only bundle adjustment: Gauss–Newton with damping and Cauchy's kernel, narrowing to the noise.

    :param points: [N,3].
    :param rays: [N,2].
    :param world_to_camera: [4,4] start.
    :param sigma: standard deviation of a ray coordinate: a scalar or [N].
    :param displacement: [N,3] one sigma of each point's depth in the world, zero where it is sure; None =
        all are.
    :return: :class:`PoseEstimate`; its inliers pass the χ² test at 95 %.
    """
    pose = world_to_camera.copy()
    noise = Uncertainty(sigma, displacement)
    noise.update(pose, to_camera(pose, points))

    def residuals(transform):
        """Return camera points, whitened errors and their squares, infinite behind the camera."""
        local = to_camera(transform, points)
        error = noise.whiten(project(local) - rays)
        chi2 = (error**2).sum(1)
        return local, error, np.where(np.isfinite(chi2), chi2, np.inf)

    def cost(chi2, width):
        """Cauchy's loss; points behind the camera cost as much as far outliers."""
        return np.log1p(np.minimum(chi2, 1e8) / width).sum()

    def typical(chi2):
        finite = chi2[np.isfinite(chi2)]
        return float(np.median(finite)) if len(finite) else CHI2_2D

    local, error, chi2 = residuals(pose)
    width, damping = max(CHI2_2D, typical(chi2)), 1e-6
    for _ in range(iterations):
        valid = np.isfinite(chi2)
        if valid.sum() < 4:
            break
        jacobian = noise.whiten(pose_jacobian(np.where(valid[:, None], local, 1.0)))
        weights = np.where(valid, 1 / (1 + np.where(valid, chi2, 0) / width), 0.0)
        weighted = (jacobian * weights[:, None, None]).reshape(-1, 6)
        hessian = weighted.T @ jacobian.reshape(-1, 6)
        gradient = weighted.T @ np.where(valid[:, None], error, 0.0).ravel()
        before, step_taken = cost(chi2, width), False
        for _ in range(4):
            damped = hessian + damping * np.diag(np.diag(hessian)) + 1e-12 * np.eye(6)
            step = np.linalg.solve(damped, -gradient)
            candidate = se3_exp(step) @ pose
            state = residuals(candidate)
            if cost(state[2], width) <= before:
                pose, (local, error, chi2) = candidate, state
                damping, step_taken = max(damping * 0.1, 1e-9), True
                break
            damping = max(damping, 1e-6) * 100
        narrowed = max(CHI2_2D, min(width, 4 * typical(chi2)))
        done = not step_taken or (np.abs(step).max() < 1e-7 and narrowed == width)
        width = narrowed
        if done:
            break
    inlier = chi2 < CHI2_2D
    jacobian = noise.whiten(pose_jacobian(np.where(inlier[:, None], local, 1.0)))[inlier].reshape(-1, 6)
    return PoseEstimate(orthonormal(pose), inlier, jacobian.T @ jacobian)


def covariance(estimate, floor=1e-12):
    """
    Covariance [6,6] of the camera-to-world pose along the world's axes (position, rotation).

    To first order a left perturbation (rho, phi) of world_to_camera moves the camera's centre by -R_wc rho
    and turns the camera by -R_wc phi.
    """
    pose = inverse(estimate.world_to_camera)
    jacobian = np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = -pose[:3, :3]
    values, vectors = np.linalg.eigh(estimate.information)
    spread = (vectors / np.maximum(values, 1e-6)) @ vectors.T
    return jacobian @ spread @ jacobian.T + floor * np.eye(6)
