"""
Geometry of points and poses, vectorised.

Names: ``pose`` is camera-to-world, ``world_to_camera`` its inverse, both [4,4]; ``rays`` are normalised image
coordinates (x/z, y/z) [N,2].
"""

import math

import cv2
import numpy as np

WIDE_ANGLE = 0.1  # radians between two frames that a rotation is still found over


def robust_parameters(threshold, iterations=1000, confidence=0.9999, local=cv2.LOCAL_OPTIM_INNER_LO):
    """
    OpenCV's USAC settings with a fixed random state and one thread.

    :param threshold: largest error of an inlier, normalised units.
    :param iterations: upper bound.
    :param local: its own local optimisation.
    """
    parameters = cv2.UsacParams()
    parameters.threshold = threshold
    parameters.maxIterations = iterations
    parameters.confidence = confidence
    parameters.randomGeneratorState = 1
    parameters.isParallel = False
    parameters.sampler = cv2.SAMPLING_UNIFORM
    parameters.score = cv2.SCORE_METHOD_MSAC
    parameters.loMethod = local
    return parameters


def se3_exp(twist):
    """
    Exponential map of SE(3) (Barfoot, State Estimation for Robotics, eq. 7.85).

    :param twist: [6] translation part, then rotation part.
    :return: [4,4].
    """
    rho, phi = twist[:3], twist[3:]
    angle = math.sqrt(phi @ phi)
    k = skew(phi)
    if angle < 1e-7:
        a, b, c = 1.0, 0.5, 1 / 6
    else:
        a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2
        c = (1 - a) / angle**2
    square = k @ k
    out = np.eye(4)
    out[:3, :3] += a * k + b * square
    out[:3, 3] = rho + (b * k + c * square) @ rho
    return out


def se3_log(transform):
    """Return the twist [6] whose exponential ``transform`` is."""
    phi = cv2.Rodrigues(transform[:3, :3])[0].ravel()
    angle = np.linalg.norm(phi)
    k = skew(phi)
    if angle < 1e-7:
        inverse = np.eye(3) - 0.5 * k
    else:
        half = angle / 2
        inverse = np.eye(3) - 0.5 * k + (1 - half / np.tan(half)) / angle**2 * k @ k
    return np.concatenate([inverse @ transform[:3, 3], phi])


def skew(v):
    """Return the matrix of the cross product with ``v``."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def median(values):
    """Return the median of [N] finite numbers, N > 0; ``np.median`` takes ten times as long for a few."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    ordered = np.partition(values, (middle - 1, middle))
    return float(ordered[middle - 1] + ordered[middle]) / 2


def inverse(transform):
    """Invert a rigid transform [4,4]."""
    out = np.eye(4)
    out[:3, :3] = transform[:3, :3].T
    out[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return out


def orthonormal(transform):
    """Return ``transform`` with the nearest rotation, to stop rounding from adding up."""
    u, _, vt = np.linalg.svd(transform[:3, :3])
    out = transform.copy()
    out[:3, :3] = u @ vt
    return out


def to_camera(world_to_camera, points):
    """Move points [N,3] into the camera's frame."""
    return points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]


def project(camera_points):
    """Rays of points in the camera's frame; NaN for points that are not in front."""
    z = np.where(camera_points[:, 2] > 1e-9, camera_points[:, 2], np.nan)
    return camera_points[:, :2] / z[:, None]


def bearings(rays):
    """Unit vectors [N,3] of rays [N,2]."""
    out = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def triangulate(rays_a, rays_b, a, b):
    """
    Intersect rays of two views, linear least squares.

    :param rays_a: [N,2].
    :param rays_b: [N,2].
    :param a: [4,4] world-to-camera of the first view.
    :param b: [4,4] world-to-camera of the second view.
    :return: (points [N,3] in the world, angle [N] between the two rays in radians).
    """
    rows, values = [], []
    for rays, view in ((rays_a, a), (rays_b, b)):
        for axis in range(2):
            rows.append(rays[:, axis : axis + 1] * view[2, :3] - view[axis, :3])
            values.append(view[axis, 3] - rays[:, axis] * view[2, 3])
    rows, values = np.stack(rows, 1), np.stack(values, 1)
    normal = np.einsum('nki,nkj->nij', rows, rows)
    right = np.einsum('nki,nk->ni', rows, values)
    scale = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    points = np.linalg.solve(normal + 1e-12 * scale * np.eye(3), right[..., None])[..., 0]
    in_world_a, in_world_b = bearings(rays_a) @ a[:3, :3], bearings(rays_b) @ b[:3, :3]
    cross = np.linalg.norm(np.cross(in_world_a, in_world_b), axis=1)
    return points, np.arctan2(cross, (in_world_a * in_world_b).sum(1))


def reprojection_errors(points, rays, world_to_camera):
    """Distance [N] between rays and projected points, in normalised units; infinite behind the camera."""
    error = np.linalg.norm(project(to_camera(world_to_camera, points)) - rays, axis=1)
    return np.where(np.isfinite(error), error, np.inf)


def ray_angles(points, center_a, center_b):
    """Angle [N] in radians under which two camera centres are seen from each point."""
    to_a, to_b = center_a - points, center_b - points
    cross = np.linalg.norm(np.cross(to_a, to_b), axis=1)
    return np.arctan2(cross, (to_a * to_b).sum(1))


def rotation_between(rays_a, rays_b, sigma, guess, rounds=10):
    """
    Rotation that turns the first bearings onto the second where many pairs are wrong.

    Wahba's problem, solved by SVD and reweighted with Cauchy's kernel, whose width falls from
    ``WIDE_ANGLE`` to the noise; so a guess within about that angle is needed.

    :param rays_a: [N,2].
    :param rays_b: [N,2].
    :param sigma: standard deviation of a bearing in radians.
    :param guess: [3,3] rotation.
    :return: (rotation [3,3], residuals [N] in radians): ``bearing_b ≈ rotation · bearing_a``.
    """
    a, b = bearings(rays_a), bearings(rays_b)
    rotation, width = guess, WIDE_ANGLE
    for _ in range(rounds):
        residual = np.linalg.norm(b - a @ rotation.T, axis=1)
        weights = 1 / (1 + (residual / width) ** 2) ** 2
        u, _, vt = np.linalg.svd((b * weights[:, None]).T @ a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        width = max(2 * sigma, width / 2)
    return rotation, np.linalg.norm(b - a @ rotation.T, axis=1)
