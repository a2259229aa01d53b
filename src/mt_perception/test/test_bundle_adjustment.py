"""Bundle adjustment: compared with SciPy's least squares on the same problem, and with outliers."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from mt_perception.odometry.bundle_adjustment import Problem, adjust
from mt_perception.odometry.geometry import inverse, project, se3_exp, to_camera

SIGMA = 1e-3


def make_problem(noise=0.3, moved=0.01, n_points=60, n_cameras=5, n_moving=3, seed=0):
    """
    Cameras that pass in front of points; each sees about two thirds of them.

    :param noise: of the observations, in sigmas: small enough that no error leaves the quadratic part.
    :param moved: standard deviation of what the start is off by.
    :return: (:class:`Problem`, true cameras [C,4,4]).
    """
    random = np.random.default_rng(seed)
    points = random.uniform((-4, -2, 5), (4, 2, 15), (n_points, 3))
    poses = [se3_exp(np.r_[0.4 * k, 0.05 * k, 0.1 * k, random.normal(0, 0.05, 3)]) for k in range(n_cameras)]
    cameras = np.array([inverse(pose) for pose in poses])
    seen = random.random((n_points, n_cameras)) < 2 / 3
    seen[:, :2] = True
    point, camera = np.nonzero(seen)
    rays = np.array([project(to_camera(cameras[c], points[p : p + 1]))[0] for p, c in zip(point, camera)])
    start = cameras.copy()
    for k in range(n_moving):
        start[k] = se3_exp(random.normal(0, moved, 6)) @ cameras[k]
    problem = Problem(
        start,
        n_moving,
        points + random.normal(0, 5 * moved, points.shape),
        camera,
        point,
        rays + random.normal(0, noise * SIGMA, rays.shape),
        random.uniform(0.5, 2, len(point)) * SIGMA,
    )
    return problem, cameras


def errors_in_sigmas(problem, cameras, points):
    """Errors of all observations, [2 O]."""
    seen_by = cameras[problem.camera_index]
    local = np.einsum('oij,oj->oi', seen_by[:, :3, :3], points[problem.point_index]) + seen_by[:, :3, 3]
    return ((project(local) - problem.rays) / problem.sigma[:, None]).ravel()


@pytest.mark.parametrize('n_moving', [3, 1, 0])
def test_it_finds_the_least_squares_solution(n_moving):
    problem, _ = make_problem(n_moving=n_moving, n_points=20)
    found = adjust(problem, iterations=50, tolerance=0)

    def apply(x):
        cameras = problem.cameras.copy()
        for k in range(n_moving):
            cameras[k] = se3_exp(x[6 * k : 6 * k + 6]) @ problem.cameras[k]
        return cameras, problem.points + x[6 * n_moving :].reshape(-1, 3)

    best = least_squares(
        lambda x: errors_in_sigmas(problem, *apply(x)),
        np.zeros(6 * n_moving + problem.points.size),
        x_scale='jac',
        ftol=1e-14,
        xtol=1e-14,
        gtol=1e-14,
    )
    cameras, points = apply(best.x)
    assert 2 * best.cost == pytest.approx(found.cost_after, rel=1e-9)
    np.testing.assert_allclose(found.cameras, cameras, atol=1e-6)
    np.testing.assert_allclose(found.points, points, atol=1e-4)
    assert found.cost_after < found.cost_before


def test_the_squared_errors_are_those_of_the_observations_as_given():
    problem, _ = make_problem()
    found = adjust(problem)
    errors = errors_in_sigmas(problem, found.cameras, found.points).reshape(-1, 2)
    np.testing.assert_allclose(found.chi2, (errors**2).sum(1), rtol=1e-6, atol=1e-9)


def test_fixed_cameras_stay_and_moving_ones_find_their_place():
    problem, truth = make_problem(noise=0)
    found = adjust(problem, iterations=30, tolerance=0)
    np.testing.assert_array_equal(found.cameras[problem.n_moving :], problem.cameras[problem.n_moving :])
    np.testing.assert_allclose(found.cameras, truth, atol=1e-7)


def test_wrong_observations_hardly_count():
    problem, truth = make_problem(noise=0, moved=0.001)
    wrong = np.arange(0, len(problem.rays), 12)
    problem.rays[wrong] += np.random.default_rng(1).normal(0, 50 * SIGMA, (len(wrong), 2))

    def off(adjusted):
        return np.linalg.norm(adjusted.cameras[:, :3, 3] - truth[:, :3, 3], axis=1).max()

    robust = adjust(problem, iterations=100, tolerance=0)
    squares = adjust(problem, iterations=100, tolerance=0, width=1e9)
    assert off(robust) < 0.1 * off(squares)


def test_points_behind_a_camera_do_not_break_it():
    problem, _ = make_problem()
    problem.points[5] = (0, 0, -3)
    found = adjust(problem)
    assert np.isfinite(found.points).all() and np.isfinite(found.cameras).all()
    behind = problem.point_index == 5
    assert np.isinf(found.chi2[behind]).all() or found.points[5, 2] > 0
