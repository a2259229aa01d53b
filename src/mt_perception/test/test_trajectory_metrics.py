"""Trajectory metrics against hand-made cases and against evo, the field's own evaluator."""

import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import trajectory as tm


def rotation_about(axis, angle):
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def winding_path(n=120, step=1.0, seed=0):
    """[n,4,4] poses along a winding road; ``step`` metres a frame."""
    rng = np.random.default_rng(seed)
    pose, poses = np.eye(4), []
    for i in range(n):
        poses.append(pose.copy())
        move = np.eye(4)
        move[:3, :3] = rotation_about([0.1, 1, 0.05], 0.03 * np.sin(i / 15) + rng.normal(0, 0.002))
        move[:3, 3] = [0, 0, step]
        pose = pose @ move
    return np.array(poses)


def disturbed(poses, seed=1):
    """The same path with small errors at every frame."""
    rng = np.random.default_rng(seed)
    out = poses.copy()
    for pose in out:
        pose[:3, :3] = rotation_about(rng.normal(size=3), rng.normal(0, 0.01)) @ pose[:3, :3]
        pose[:3, 3] += rng.normal(0, 0.1, 3)
    return out


def test_umeyama_recovers_the_similarity_it_was_given():
    """A known rotation, shift and scale come back; reflections are never returned."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 3))
    rotation = rotation_about([1, 2, 3], 2.5)
    target = 1.7 * source @ rotation.T + [1, -2, 3]
    r, t, s = tm.umeyama(source, target, with_scale=True)
    np.testing.assert_allclose(r, rotation, atol=1e-12)
    np.testing.assert_allclose(t, [1, -2, 3], atol=1e-12)
    assert s == pytest.approx(1.7)
    r, _, s = tm.umeyama(source, source * [1, 1, -1], with_scale=False)
    assert np.linalg.det(r) == pytest.approx(1) and s == 1.0


@pytest.mark.parametrize('points', [np.zeros((5, 3)), np.outer(np.arange(5), [1, 2, 3]), np.eye(3)[:2]])
def test_umeyama_refuses_what_does_not_fix_a_rotation(points):
    """A camera that stands still or drives on a ruler has no unique alignment: say so."""
    with pytest.raises(EvaluationError):
        tm.umeyama(points, points, with_scale=True)


def test_metrics_do_not_depend_on_where_the_estimate_starts_and_scale_ratio_is_estimate_over_truth():
    """A perfect path, moved, turned and half as large: no error left, scale_ratio 0.5."""
    truth = winding_path()
    estimate = tm.transform(truth, rotation_about([0, 1, 0], 1.0), np.array([5.0, 6, 7]), 0.5)
    metrics, aligned = tm.evaluate(truth, estimate)
    assert metrics['scale_ratio'] == pytest.approx(0.5)
    assert metrics['ate_rmse_sim3_m'] == pytest.approx(0, abs=1e-9)
    assert metrics['ate_rmse_m'] > 1
    assert metrics['t_rel_percent'] == pytest.approx(0, abs=1e-6)
    assert metrics['rpe_rot_deg'] == pytest.approx(0, abs=1e-6)
    assert metrics['path_length_m'] == pytest.approx(119)
    np.testing.assert_allclose(aligned, truth, atol=1e-9)


def test_kitti_errors_of_a_known_drift():
    """Driving straight with 1 % too long steps is 1 % t_rel; a turn of 0.01°/m is 1°/100 m."""
    n = 301
    truth, long, turning = np.tile(np.eye(4), (3, n, 1, 1))
    truth[:, 2, 3] = np.arange(n)
    long[:, 2, 3] = np.arange(n) * 1.01
    for i in range(n):
        turning[i, :3, :3] = rotation_about([0, 1, 0], np.radians(0.01) * i)
        turning[i, 2, 3] = i
    t_rel, r_rel = tm.kitti_errors(truth, long)
    # a 100 m sub-path ends at the first frame beyond 100 m, here 101 m
    expected = np.mean([(101 * 0.01 / 100)] * 20 + [201 * 0.01 / 200] * 10) * 100
    assert t_rel == pytest.approx(expected) and r_rel == pytest.approx(0, abs=1e-9)
    assert tm.kitti_errors(truth, turning)[1] == pytest.approx(1.0, rel=0.01)
    assert tm.kitti_errors(truth[:100], long[:100]) == (None, None)


def test_association_takes_the_nearest_stamp_once():
    """Jittered stamps pair up, far ones do not, and no pose is used twice."""
    pairs = tm.associate([0.0, 0.1, 0.2, 0.3], [0.004, 0.098, 0.25, 0.301, 0.4])
    assert pairs.tolist() == [[0, 0], [1, 1], [3, 3]]
    assert tm.associate([0.0, 0.004], [0.003]).tolist() == [[1, 0]]
    assert tm.associate([0.0], []).shape == (0, 2)
    assert tm.associate([1.0], [1.0]).tolist() == [[0, 0]]


def test_equals_evo():
    """ATE (SE(3), Sim(3)) and RPE are evo's numbers to the last digits."""
    pytest.importorskip('evo')
    from evo.core import metrics as evo_metrics
    from evo.core.trajectory import PosePath3D

    truth = winding_path(300, 0.8)
    estimate = tm.transform(disturbed(truth), rotation_about([1, 1, 0], 0.7), np.array([1.0, 2, 3]), 0.6)
    ours, _ = tm.evaluate(truth, estimate)

    def ape(scale):
        """evo_ape -va [-s]."""
        path = PosePath3D(poses_se3=list(estimate.copy()))
        _, _, s = path.align(PosePath3D(poses_se3=list(truth)), correct_scale=scale)
        metric = evo_metrics.APE(evo_metrics.PoseRelation.translation_part)
        metric.process_data((PosePath3D(poses_se3=list(truth)), path))
        return metric.get_statistic(evo_metrics.StatisticsType.rmse), s, path

    assert ours['ate_rmse_m'] == pytest.approx(ape(False)[0], rel=1e-9)
    value, scale, path = ape(True)
    assert ours['ate_rmse_sim3_m'] == pytest.approx(value, rel=1e-9)
    assert ours['scale_ratio'] == pytest.approx(1 / scale, rel=1e-9)
    for relation, key in (
        (evo_metrics.PoseRelation.translation_part, 'rpe_trans_m'),
        (evo_metrics.PoseRelation.rotation_angle_deg, 'rpe_rot_deg'),
    ):
        metric = evo_metrics.RPE(relation, delta=1, delta_unit=evo_metrics.Unit.frames, all_pairs=True)
        metric.process_data((PosePath3D(poses_se3=list(truth)), path))
        assert ours[key] == pytest.approx(metric.get_statistic(evo_metrics.StatisticsType.rmse), rel=1e-6)
