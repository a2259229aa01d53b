"""The pose graph: right against SciPy, and not to be bent by wrong loops."""

import sys

import numpy as np
import pytest
from scipy.linalg import expm, logm
from scipy.optimize import least_squares

from mt_perception.errors import MtError
from mt_perception.evaluation.trajectory import position_errors, rmse, transform, umeyama
from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition.pose_graph import agrees, optimize, possible, refine, supported
from mt_perception.place_recognition.sim3_factors import (
    Edge,
    factor,
    from_gtsam,
    load_gtsam,
    squared_errors,
    to_gtsam,
    values_of,
)
from mt_perception.place_recognition.similarity import invert, rigid, scale_of, similarity

DRIFT = np.concatenate([np.full(3, np.radians(0.2)), np.full(3, 0.04), [0.01]])
LOOP = np.concatenate([np.full(3, np.radians(0.3)), np.full(3, 0.15), [0.02]])
LAP, N = 60, 72


def disturbance(rng, sigma):
    x = rng.normal(0, 1, 7) * sigma
    return similarity(se3_exp(np.concatenate([x[3:6], x[:3]])), np.exp(x[6]))


class Ring:
    """A drive around a ring of 60 m radius and a fifth of it again, with odometry and right loops."""

    def __init__(self, seed=0):
        rng = self.rng = np.random.default_rng(seed)
        self.truth = np.array([self.place(2 * np.pi * k / LAP) for k in range(N)])
        self.edges = []
        poses = [self.truth[0]]
        for k in range(N - 1):
            step = inverse(self.truth[k]) @ self.truth[k + 1] @ disturbance(rng, 2 * DRIFT)
            self.edges.append(Edge(k, k + 1, step, np.diag((2 * DRIFT) ** 2)))
            poses.append(poses[-1] @ step)
        self.poses = np.array(poses)
        self.loops = [self.loop(k - LAP, k) for k in range(LAP + 2, N, 3)]

    @staticmethod
    def place(angle):
        out = np.eye(4)
        c, s = np.cos(angle), np.sin(angle)
        out[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        out[:3, 3] = [60 * (1 - c), 0, 60 * s]
        return out

    def loop(self, first, second):
        exact = inverse(self.truth[first]) @ self.truth[second]
        return Edge(first, second, exact @ disturbance(self.rng, LOOP), np.diag(LOOP**2))

    def wrong(self, count):
        """Loops between random poses that claim to be the same place, as look-alike places do."""
        out = []
        while len(out) < count:
            first, second = sorted(self.rng.choice(N, 2, replace=False))
            if second - first < 10:
                continue
            near = se3_exp(np.concatenate([self.rng.normal(0, 2, 3), self.rng.normal(0, 0.1, 3)]))
            scaled = similarity(near, np.exp(self.rng.normal(0, 0.05)))
            out.append(Edge(int(first), int(second), scaled, np.diag(LOOP**2)))
        return out

    def error(self, poses):
        found = np.array([rigid(pose) for pose in poses])
        fit = umeyama(found[:, :3, 3], self.truth[:, :3, 3], with_scale=True)
        return rmse(position_errors(self.truth, transform(found, *fit)))


@pytest.fixture(scope='module')
def ring():
    return Ring()


def logarithm(transform):
    """(Rotation, translation, logarithm of the scale) [7] of a similarity, by the matrix logarithm."""
    log = logm(transform).real
    return np.array([log[2, 1], log[0, 2], log[1, 0], *log[:3, 3], np.trace(log) / 3])


def exponential(x):
    """Similarity [4,4] of a tangent vector [7], by the matrix exponential."""
    w, u, scale = x[:3], x[3:6], x[6]
    generator = np.zeros((4, 4))
    generator[:3, :3] = [[scale, -w[2], w[1]], [w[2], scale, -w[0]], [-w[1], w[0], scale]]
    generator[:3, 3] = u
    return expm(generator)


def a_covariance(rng):
    """Of no special form."""
    root = rng.normal(0, 1, (7, 7)) * LOOP[:, None]
    return root @ root.T + np.diag(LOOP**2)


def test_similarities_are_gtsam_s():
    """There and back, and as a map of points."""
    value = exponential(np.array([0.3, -0.2, 0.5, 1, -2, 3, 0.4]))
    theirs = to_gtsam(value)
    np.testing.assert_allclose(from_gtsam(theirs), value, atol=1e-12)
    point = np.array([0.5, -1, 2])
    np.testing.assert_allclose(theirs.transformFrom(point), value[:3, :3] @ point + value[:3, 3])


def test_error_of_a_factor():
    """The squared Mahalanobis distance, by the matrix logarithm; the same whichever pose is held."""
    rng = np.random.default_rng(1)
    poses = np.stack([exponential(rng.normal(0, 0.5, 7)) for _ in range(2)])
    off = rng.normal(0, 0.3, 7)
    transform = invert(poses[0]) @ poses[1] @ exponential(-off)
    edge = Edge(0, 1, transform, a_covariance(rng))
    expected = off @ np.linalg.solve(edge.covariance, off)
    np.testing.assert_allclose(logarithm(invert(transform) @ invert(poses[0]) @ poses[1]), off, atol=1e-9)
    for held in ([False, False], [True, False], [False, True]):
        held = np.array(held)
        found = squared_errors([factor(edge, poses, held)], values_of(poses, held))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    turned = edge.turned_around()
    error = logarithm(invert(turned.transform) @ invert(poses[1]) @ poses[0])
    np.testing.assert_allclose(error @ np.linalg.solve(turned.covariance, error), expected, rtol=1e-6)


def test_solution_is_scipy_s():
    """Three poses, the first held, and a loop: the minimum that a general least-squares solver finds."""
    rng = np.random.default_rng(3)
    truth = [exponential(np.array([0, 0.4 * k, 0, 0, 0, 3.0 * k, 0.05 * k])) for k in range(3)]
    pairs = [(0, 1), (1, 2), (0, 2)]
    edges = [
        Edge(a, b, invert(truth[a]) @ truth[b] @ exponential(rng.normal(0, 1, 7) * LOOP), a_covariance(rng))
        for a, b in pairs
    ]
    whitening = [np.linalg.inv(np.linalg.cholesky(edge.covariance)) for edge in edges]
    poses = np.stack(truth)

    def moved(x):
        return [truth[0], *(truth[k + 1] @ exponential(x[7 * k : 7 * k + 7]) for k in range(2))]

    def residuals(x):
        at = moved(x)
        return np.concatenate(
            [
                white @ logarithm(invert(edge.transform) @ invert(at[edge.first]) @ at[edge.second])
                for edge, white in zip(edges, whitening)
            ]
        )

    expected = moved(least_squares(residuals, np.zeros(14)).x)
    result = optimize(poses, [0], edges[:2], edges[2:])
    assert result.right.all()
    # GTSAM's derivatives leave out a factor that is 1 where an error is 0
    np.testing.assert_allclose(result.poses, expected, atol=0.1 * LOOP.max())
    assert np.abs(result.poses - poses).max() > 0.5 * LOOP.max(), 'something was to be done'


def test_missing_gtsam_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gtsam', None)
    with pytest.raises(MtError, match='needs GTSAM for its pose graph.*pip install'):
        load_gtsam()


def test_loops_correct_place_heading_and_scale(ring):
    """The error falls to less than a third, and the scale returns to what it was."""
    result = optimize(ring.poses, [0], ring.edges, ring.loops)
    assert result.right.all()
    assert ring.error(result.poses) < 0.3 * ring.error(ring.poses)
    drifted, mended = (abs(np.log(scale_of(poses[LAP + 2]))) for poses in (ring.poses, result.poses))
    assert mended < 0.02 < drifted
    np.testing.assert_array_equal(result.poses[0], ring.poses[0])


@pytest.mark.parametrize('seed', [0, 2])
def test_a_hundred_wrong_loops_leave_the_map_as_it_was(seed):
    """Less than 5 % more error, beside right loops and without any."""
    ring = Ring(seed)
    wrong = ring.wrong(100)
    good = optimize(ring.poses, [0], ring.edges, ring.loops)
    both = optimize(ring.poses, [0], ring.edges, ring.loops + wrong, support=2)
    assert both.right[: len(ring.loops)].all()
    assert ring.error(both.poses) < 1.05 * ring.error(good.poses)
    alone = optimize(ring.poses, [0], ring.edges, wrong, support=2)
    assert not alone.right.any()
    np.testing.assert_allclose(alone.poses, ring.poses, atol=1e-3)


def test_wrong_loops_that_agree_with_each_other(ring):
    """Ten neighbouring keyframes that all claim the same wrong place, as along two equal facades."""
    shift = se3_exp(np.array([0.5, 0, 1.0, 0, 0.05, 0]))
    wrong = [Edge(k, k + 30, shift, np.diag(LOOP**2)) for k in range(10)]
    result = optimize(ring.poses, [0], ring.edges, ring.loops + wrong)
    assert result.right[: len(ring.loops)].all() and not result.right[len(ring.loops) :].any()


def test_support_needs_support():
    """The middle one of three loops has two around it, but the outer ones have only one each: none counts."""
    loops = [Edge(k, 40 + k, np.eye(4), np.eye(7)) for k in (0, 6, 12)]
    three = np.ones(3, bool)
    np.testing.assert_array_equal(supported(loops, three, 2, 8), three)
    assert not supported(loops, three, 3, 8).any()
    np.testing.assert_array_equal(supported(loops, three, 3, 12), three)
    np.testing.assert_array_equal(supported(loops, ~three, 1, 8), ~three)


def test_what_odometry_rules_out(ring):
    """The way between two poses, with its drift; where odometry says nothing, everything is possible."""
    assert possible(ring.edges, ring.loops).all()
    far = Edge(0, 30, np.eye(4), np.diag(LOOP**2))  # half way round, 120 m off
    assert not possible(ring.edges, [far])[0]
    torn = list(ring.edges)
    torn[15] = Edge(15, 16, ring.edges[15].transform, np.eye(7) * 1e6)
    assert possible(torn, [far])[0]
    assert possible(ring.edges[:10] + ring.edges[20:], [far])[0], 'two chains'


def test_refining_keeps_the_decision(ring):
    """From a solution, with one more loop, refining gives what solving anew gives."""
    first = optimize(ring.poses, [0], ring.edges, ring.loops[:-1])
    again = optimize(first.poses, [0], ring.edges, ring.loops)
    right = [*first.right, True]
    refined = refine(first.poses, [0], ring.edges, ring.loops, right)
    np.testing.assert_allclose(refined.poses, again.poses, atol=1e-3)
    assert refined.right.all()
    wrong = ring.wrong(1)
    assert agrees(again.poses, ring.loops).all() and not agrees(again.poses, wrong).any()


def test_poses_that_rest_do_not_move(ring):
    """With both ends held, what is between them is spread."""
    poses = ring.poses.copy()
    poses[-1] = ring.truth[-1]
    result = optimize(poses, [0, N - 1], ring.edges, [])
    np.testing.assert_array_equal(result.poses[[0, -1]], poses[[0, -1]])
    assert ring.error(result.poses) < 0.4 * ring.error(ring.poses)
