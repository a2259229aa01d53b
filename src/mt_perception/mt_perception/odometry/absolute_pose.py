"""The pose of a camera from points whose position is known (PnP): robust start, refinement, covariance."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.odometry.geometry import (
    inverse,
    median,
    orthonormal,
    robust_parameters,
    se3_exp,
    to_camera,
)

CHI2_2D = 5.991  # 95 % of a two-dimensional Gaussian
CONVERGED = 1e-3  # sigmas of the pose that the last step may have
MOST_CURVATURE = 0.5  # of an error's part of the Hessian that the loss' curvature may take away
TINY = 1e-12


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


def projection_jacobian(projected, inverse_z):
    """
    Derivative [6,2,N] of the projection by the left perturbation (translation, rotation) of the camera.

    Coordinates lie in rows, one per axis: numpy is faster then.

    :param projected: [2,N] rays of the points.
    :param inverse_z: [N] of the points in the camera's frame.
    """
    u, v = projected
    out = np.zeros((6, 2, len(u)))
    out[0, 0] = out[1, 1] = inverse_z
    np.multiply(projected, -inverse_z, out=out[2])
    out[4, 1] = u * v
    out[3, 0] = -out[4, 1]
    out[3, 1] = -1 - v * v
    out[4, 0] = 1 + u * u
    out[5, 0], out[5, 1] = -v, u
    return out


class RayNoise:
    """
    How far each projection may lie off: keypoint noise, and more along one line for points of unsure depth.

    The covariance of a ray is Σ = σ² I + d dᵀ, where d is the projected displacement of the point by one
    sigma of its depth. Its whitening is (I − β d̂ d̂ᵀ) / σ with 1 − β = σ / √(σ² + |d|²).
    """

    def __init__(self, sigma, displacement, world_to_camera, points):
        """
        Project the displacements at a pose.

        :param sigma: standard deviation of a ray coordinate, scalar or [N].
        :param displacement: [N,3] in the world, one sigma of each point's depth; None = all depths are sure.
        :param world_to_camera: [4,4].
        :param points: [N,3].
        """
        self.precision = 1 / sigma
        self.direction = None
        if displacement is None or not displacement.any():
            return
        local = to_camera(world_to_camera, points)
        z = np.where(local[:, 2] > 1e-9, local[:, 2], np.inf)[:, None]
        moved = displacement @ world_to_camera[:3, :3].T
        d = (moved[:, :2] - local[:, :2] / z * moved[:, 2:]) / z
        length = np.linalg.norm(d, axis=1)
        beta = 1 - sigma / np.sqrt(sigma**2 + length**2)
        self.direction = (d / np.maximum(length, 1e-12)[:, None]).T.copy()
        self.scaled = self.direction * beta

    def whiten(self, values):
        """Whiten errors [2,N] or their derivatives [6,2,N] in place, and return them."""
        if self.direction is not None:
            along = self.direction[0] * values[..., 0, :] + self.direction[1] * values[..., 1, :]
            values -= self.scaled * along[..., None, :]
        values *= self.precision
        return values


class Residuals:
    """
    Whitened reprojection errors at a pose. Coordinates lie in rows, one per axis: numpy is faster then.

    :ivar error: [2,N] in sigmas.
    :ivar chi2: [N] their squares, infinite behind the camera.
    """

    def __init__(self, world_to_camera, points, rays, noise):
        """:param points: [3,N]. :param rays: [2,N]. :param noise: :class:`RayNoise`."""
        local = world_to_camera[:3, :3] @ points + world_to_camera[:3, 3:]
        self._inverse_z = 1 / np.where(local[2] > 1e-9, local[2], np.nan)
        self._projected = local[:2] * self._inverse_z
        self._noise = noise
        self.error = noise.whiten(self._projected - rays)
        chi2 = self.error[0] ** 2 + self.error[1] ** 2
        self.chi2 = np.where(np.isfinite(chi2), chi2, np.inf)

    def jacobian(self):
        """Whitened derivative [6,2,N] by the left perturbation of the camera, 0 for points behind it."""
        out = projection_jacobian(self._projected, self._inverse_z)
        self._noise.whiten(out)
        behind = np.isinf(self.chi2)
        if behind.any():
            out[:, :, behind] = 0
        return out

    def normal_equations(self, width):
        """
        Return Hessian [6,6] and gradient [6] of Cauchy's loss of a ``width``.

        The Hessian has the loss' own curvature (Triggs et al. 2000, Bundle Adjustment – A Modern Synthesis,
        section 4.3), so that a step leaves a small part of the error instead of a third. It is bounded:
        outliers must not turn the step round.
        """
        jacobian = self.jacobian()
        weights = 1 / (1 + self.chi2 / width)
        error = np.where(weights > 0, self.error, 0.0)
        weighted = jacobian * weights
        along = weighted[:, 0] * error[0] + weighted[:, 1] * error[1]  # [6,N], of each error's square
        curvature = np.minimum(2 / width, MOST_CURVATURE / (weights * np.minimum(self.chi2, 1e8) + TINY))
        hessian = weighted.reshape(6, -1) @ jacobian.reshape(6, -1).T - (along * curvature) @ along.T
        return hessian, along.sum(1)

    def cost(self, width):
        """Cauchy's loss; points behind the camera cost as much as far outliers."""
        return np.log1p(np.minimum(self.chi2, 1e8) / width).sum()

    def typical(self):
        """Return the median of the squared errors in front of the camera."""
        finite = self.chi2[np.isfinite(self.chi2)]
        return median(finite) if len(finite) else CHI2_2D


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
    noise = RayNoise(sigma, displacement, pose, points)
    points, rays = np.ascontiguousarray(points.T), np.ascontiguousarray(rays.T)
    now = Residuals(pose, points, rays, noise)
    width, damping = max(CHI2_2D, now.typical()), 1e-6
    for _ in range(iterations):
        if np.isfinite(now.chi2).sum() < 4:
            break
        hessian, gradient = now.normal_equations(width)
        before, step_taken = now.cost(width), False
        for _ in range(4):
            damped = hessian.copy()
            damped.flat[::7] += damping * hessian.flat[::7] + TINY
            step = np.linalg.solve(damped, -gradient)
            candidate = se3_exp(step) @ pose
            then = Residuals(candidate, points, rays, noise)
            if then.cost(width) <= before:
                pose, now = candidate, then
                damping, step_taken = max(damping * 0.1, 1e-9), True
                break
            damping = max(damping, 1e-6) * 100
        narrowed = width if width == CHI2_2D else max(CHI2_2D, min(width, 4 * now.typical()))
        done = not step_taken or (narrowed == width and step @ hessian @ step < CONVERGED**2)
        width = narrowed
        if done:
            break
    inlier = now.chi2 < CHI2_2D
    jacobian = now.jacobian()[:, :, inlier].reshape(6, -1)
    return PoseEstimate(orthonormal(pose), inlier, jacobian @ jacobian.T)


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
