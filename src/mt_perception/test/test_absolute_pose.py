"""Refinement of a pose: compared with SciPy's minimiser of the same loss, and with the covariance in full."""

import numpy as np
import pytest
from scipy.optimize import minimize

from mt_perception.odometry.absolute_pose import CHI2_2D, refine
from mt_perception.odometry.geometry import project, se3_exp, se3_log, to_camera

SIGMA = 1e-3
TRUTH = se3_exp(np.array([0.3, -0.1, 0.2, 0.05, -0.1, 0.02]))


def scene(n=150, outliers=30, depth_sigma=0.0, seed=0):
    """Points [n,3], their noisy rays [n,2], of which the first ``outliers`` are wrong, and displacements."""
    random = np.random.default_rng(seed)
    points = random.uniform((-4, -2, 4), (4, 2, 15), (n, 3))
    displacement = points * np.where(np.arange(n) % 2, depth_sigma, 0.0)[:, None]
    moved = points + displacement * random.normal(size=(n, 1))
    rays = project(to_camera(TRUTH, moved)) + random.normal(0, SIGMA, (n, 2))
    rays[:outliers] += random.normal(0, 0.05, (outliers, 2))
    return points, rays, displacement


def full_covariances(points, displacement, pose):
    """Covariance of each ray [N,2,2]: keypoint noise and the projected displacement."""
    local, moved = to_camera(pose, points), displacement @ pose[:3, :3].T
    z = local[:, 2:]
    d = (moved[:, :2] - local[:, :2] / z * moved[:, 2:]) / z
    return SIGMA**2 * np.eye(2) + d[:, :, None] * d[:, None]


@pytest.mark.parametrize('depth_sigma', [0.0, 0.1])
def test_it_finds_the_minimum_of_cauchys_loss(depth_sigma):
    points, rays, displacement = scene(depth_sigma=depth_sigma)
    start = se3_exp(np.array([0.02, 0.01, -0.02, 0.01, 0.0, -0.01])) @ TRUTH
    found = refine(points, rays, start, SIGMA, displacement)
    weights = np.linalg.inv(full_covariances(points, displacement, start))  # as uncertain as at the start

    def loss(twist):
        error = project(to_camera(se3_exp(twist) @ found.world_to_camera, points)) - rays
        return np.log1p(np.einsum('ni,nij,nj->n', error, weights, error) / CHI2_2D).sum()

    scale = np.sqrt(np.diag(np.linalg.inv(found.information)))  # standard deviations: what counts
    best = minimize(lambda x: loss(x * scale), np.zeros(6), method='BFGS', options={'gtol': 1e-9})
    assert np.abs(best.x).max() < 5e-3
    assert np.linalg.norm(se3_log(found.world_to_camera @ np.linalg.inv(TRUTH)) / scale) < 5


def test_wrong_rays_are_no_inliers_and_right_ones_are():
    points, rays, _ = scene()
    inlier = refine(points, rays, TRUTH, SIGMA).inlier
    assert inlier[:30].sum() <= 1
    assert inlier[30:].mean() > 0.9  # 95 % by the test's definition


def test_the_information_is_that_of_the_covariances_in_full():
    points, rays, displacement = scene(outliers=0, depth_sigma=0.05)
    found = refine(points, rays, TRUTH, SIGMA, displacement)
    weights = np.linalg.inv(full_covariances(points, displacement, TRUTH))
    expected, h = np.zeros((6, 6)), 1e-6
    columns = [
        (
            project(to_camera(se3_exp(h * axis) @ found.world_to_camera, points))
            - project(to_camera(se3_exp(-h * axis) @ found.world_to_camera, points))
        )
        / (2 * h)
        for axis in np.eye(6)
    ]
    jacobian = np.stack(columns, 2)[found.inlier]  # [N,2,6]
    expected = np.einsum('nia,nij,njb->ab', jacobian, weights[found.inlier], jacobian)
    np.testing.assert_allclose(found.information, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_points_behind_the_camera_are_outliers():
    points, rays, _ = scene(outliers=0)
    points[:20, 2] *= -1
    found = refine(points, rays, TRUTH, SIGMA)
    assert not found.inlier[:20].any() and found.inlier[20:].mean() > 0.9
    assert np.isfinite(found.information).all()
