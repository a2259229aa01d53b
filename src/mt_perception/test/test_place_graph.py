"""The pose graph: right against GTSAM where that is installed, and not to be bent by wrong loops."""

import numpy as np
import pytest

from mt_perception.evaluation.trajectory import position_errors, rmse, transform, umeyama
from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.place_recognition.pose_graph import Edge, agrees, optimize, possible, refine
from mt_perception.place_recognition.sim3_least_squares import (
    Edges,
    errors,
    jacobians,
    minimize,
    perturbations,
    rotation_vectors,
    rotations_of,
)
from mt_perception.place_recognition.similarity import rigid, scale_of, similarity

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


def test_rotation_vectors_are_exact_up_to_half_a_turn():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (50, 3))
    vectors *= (rng.uniform(0, np.pi - 1e-3, 50) / np.linalg.norm(vectors, axis=1))[:, None]
    vectors[0], vectors[1] = 0, [1e-9, 0, 0]
    np.testing.assert_allclose(rotation_vectors(rotations_of(vectors)), vectors, atol=1e-9)
    half = rotation_vectors(rotations_of(np.array([[0, np.pi, 0]])))
    np.testing.assert_allclose(np.abs(half), [[0, np.pi, 0]], atol=1e-6)


def test_jacobians_are_the_derivatives(ring):
    """Against differences, at edges with large errors."""
    edges = Edges.of([ring.edges[0], *ring.wrong(3)])
    poses, h = ring.poses, 1e-6
    error, rest, backward = errors(poses, edges)
    by_first, by_second = jacobians(rest, backward, edges.whitening)
    for side, derivative in ((edges.first, by_first), (edges.second, by_second)):
        for e, number in enumerate(side):
            for k in range(7):
                step = np.zeros((1, 7))
                step[0, k] = h
                moved = poses.copy()
                moved[number] = poses[number] @ perturbations(step)[0]
                difference = (errors(moved, edges)[0][e] - error[e]) / h
                np.testing.assert_allclose(derivative[e][:, k], difference, rtol=1e-3, atol=1e-2)


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
    assert ring.error(alone.poses) < 1.05 * ring.error(ring.poses)


def test_wrong_loops_that_agree_with_each_other(ring):
    """Ten neighbouring keyframes that all claim the same wrong place, as along two equal facades."""
    shift = se3_exp(np.array([0.5, 0, 1.0, 0, 0.05, 0]))
    wrong = [Edge(k, k + 30, shift, np.diag(LOOP**2)) for k in range(10)]
    result = optimize(ring.poses, [0], ring.edges, ring.loops + wrong)
    assert result.right[: len(ring.loops)].all() and not result.right[len(ring.loops) :].any()


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


def test_equal_to_gtsam(ring):
    """The least-squares solution is that of GTSAM; its similarities scale after they translate."""
    gtsam = pytest.importorskip('gtsam', reason='GTSAM is not installed')

    def given(value):
        scale = scale_of(value)
        return gtsam.Similarity3(gtsam.Rot3(value[:3, :3] / scale), value[:3, 3] / scale, scale)

    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    for number, pose in enumerate(ring.poses):
        values.insert(number, given(pose))
    held = gtsam.noiseModel.Isotropic.Sigma(7, 1e-6)
    graph.add(gtsam.PriorFactorSimilarity3(0, given(ring.poses[0]), held))
    for edge in ring.edges + ring.loops:
        noise = gtsam.noiseModel.Gaussian.Covariance(edge.covariance)
        graph.add(gtsam.BetweenFactorSimilarity3(edge.first, edge.second, given(edge.transform), noise))
    solved = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
    theirs = []
    for number in range(N):
        value, out = solved.atSimilarity3(number), np.eye(4)
        out[:3, :3] = value.scale() * value.rotation().matrix()
        out[:3, 3] = value.scale() * value.translation()
        theirs.append(out)
    fixed = np.arange(N) == 0
    all_edges = Edges.of(ring.edges + ring.loops)
    ours, _ = minimize(ring.poses, fixed, all_edges, np.ones(len(all_edges)), iterations=50, tolerance=1e-9)
    np.testing.assert_allclose(ours, theirs, atol=0.02)  # of a ring of 120 m
