"""Visual odometry on synthetic worlds whose truth is known exactly."""

import numpy as np
import pytest

from mt_perception.evaluation import trajectory as metrics
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry
from mt_perception.odometry.metric_scale import without_scale
from mt_perception.place_recognition import Keyframe
from mt_perception.place_recognition.odometry_edges import step_covariance
from synthetic_world import World, drive, pose_at

TRACKING, LOST = OdometryState.TRACKING, OdometryState.LOST


def odometry(world, **parameters):
    return VisualOdometry(world.camera, NearestMatcher(), OdometryParameters(**parameters))


def follow(world, poses, vo=None, first=0, **image):
    """Run over images at 10 Hz; return (odometry, results)."""
    vo = vo or odometry(world)
    results = [vo.track((first + i) * 0.1, world.image(p, first + i, **image)) for i, p in enumerate(poses)]
    return vo, results


def trajectory_of(vo):
    return np.array([pose for _, pose in vo.trajectory()])


@pytest.fixture(scope='module')
def driven():
    """One drive of 60 frames with noise and outliers, shared by the tests that only look at it."""
    world, poses = World(), drive(60)
    vo, results = follow(world, poses, depth_noise=0.1)
    return world, np.array(poses), vo, results


def test_a_drive_is_followed_accurately(driven):
    """Half a pixel of noise and 30 % wrong keypoints leave less than 1 % drift over 35 m."""
    _, poses, vo, results = driven
    values, _ = metrics.evaluate(poses, trajectory_of(vo))
    assert values['path_length_m'] > 34
    assert values['ate_rmse_sim3_m'] < 0.15
    assert values['rpe_rot_deg'] < 0.1
    assert all(r.state == TRACKING for r in results[8:])
    assert vo.tracked() == [True] * 60


def test_results_are_of_python_s_types(driven):
    """Messages are strict: their bool is no numpy.bool."""
    _, _, _, results = driven
    assert any(r.is_keyframe for r in results[10:])
    for field, kind in (('is_keyframe', bool), ('metric', bool), ('n_matches', int), ('n_inliers', int)):
        assert {type(getattr(r, field)) for r in results} == {kind}, field


def test_depth_at_the_keypoints_makes_it_metric(driven):
    """Ten percent of depth noise averages out: metres within 3 %; depth times two is a map times two."""
    world, poses, vo, results = driven
    values, _ = metrics.evaluate(poses, trajectory_of(vo))
    assert results[-1].metric and values['scale_ratio'] == pytest.approx(1, abs=0.03)
    double, _ = follow(world, poses[:20], depth_noise=0.1, depth_scale=2.0)
    values, _ = metrics.evaluate(poses[:20], trajectory_of(double))
    assert double.metric and values['scale_ratio'] == pytest.approx(2, rel=0.05)


def test_without_depth_it_says_that_it_is_not_metric():
    """Neither unknown depth nor scale_source none may claim metres."""
    world, poses = World(), drive(12)
    vo, results = follow(world, poses)
    assert results[-1].state == TRACKING and not results[-1].metric
    assert np.median(np.linalg.norm(vo.map_points(), axis=1)) < 5  # the unit is the first median depth
    vo, results = follow(world, poses, odometry(world, scale_source='none'), depth_noise=0.1)
    assert results[-1].state == TRACKING and not results[-1].metric


def test_two_runs_are_equal_to_the_last_bit(driven):
    """The same images give the same poses, covariances and map."""
    world, poses, vo, results = driven
    again, results_again = follow(world, poses, depth_noise=0.1)
    np.testing.assert_array_equal(trajectory_of(vo), trajectory_of(again))
    np.testing.assert_array_equal(vo.map_points(), again.map_points())
    for a, b in zip(results, results_again):
        np.testing.assert_array_equal(a.pose, b.pose)
        np.testing.assert_array_equal(a.covariance, b.covariance)


def test_reset_forgets_everything(driven):
    """After a reset the same images give what a new odometry gives."""
    world, poses, _, _ = driven
    vo, _ = follow(world, poses[:15], depth_noise=0.1)
    once = trajectory_of(vo)
    vo.reset()
    assert vo.trajectory() == [] and len(vo.map_points()) == 0 and vo.state == OdometryState.INITIALIZING
    follow(world, poses[:15], vo, depth_noise=0.1)
    np.testing.assert_array_equal(trajectory_of(vo), once)


def test_frames_before_the_start_are_located_afterwards(driven):
    """The first frames are reported at the origin; the trajectory has their true positions later."""
    _, poses, vo, results = driven
    waiting = [i for i, r in enumerate(results) if r.state == OdometryState.INITIALIZING]
    assert waiting and waiting[0] == 0
    np.testing.assert_array_equal(results[0].pose, np.eye(4))
    for i in waiting:
        np.testing.assert_array_equal(results[i].pose[:3, 3], 0)
        expected = np.linalg.inv(poses[0]) @ poses[i]
        np.testing.assert_allclose(vo.trajectory()[i][1][:3, 3], expected[:3, 3], atol=0.1)


def test_standing_still_does_not_drift(driven):
    """Twenty seconds at one place after a drive: less than a centimetre and a tenth of a degree."""
    world, poses, _, _ = driven
    vo, _ = follow(world, poses[:25], depth_noise=0.1)
    _, results = follow(world, [poses[24]] * 200, vo, first=25, depth_noise=0.1)
    still = np.array([r.pose for r in results[5:]])
    assert all(r.state == TRACKING for r in results)
    moved = np.linalg.norm(still[:, :3, 3] - still[:20, :3, 3].mean(0), axis=1)
    turned = np.degrees(metrics.rotation_angles(still[0, :3, :3].T @ still[:, :3, :3]))
    assert np.linalg.norm(still[-20:, :3, 3].mean(0) - still[:20, :3, 3].mean(0)) < 0.01
    assert moved.max() < 0.05 and np.median(turned) < 0.1
    assert sum(r.is_keyframe for r in results) <= 2


def test_standing_still_at_the_start_waits():
    """Without motion there is no map; the pose stays at the origin."""
    world = World()
    _, results = follow(world, [pose_at()] * 40)
    assert all(r.state == OdometryState.INITIALIZING for r in results)
    last = results[-1].pose
    assert (
        np.linalg.norm(last[:3, 3]) == 0 and np.degrees(metrics.rotation_angles(last[None, :3, :3])[0]) < 0.1
    )


def test_pure_rotation_at_the_start_gives_the_turn_and_no_map():
    """A turning camera that does not move cannot triangulate; its attitude is known all the same."""
    world = World(n_points=8000, low=(-30, -10, -30), high=(30, 10, 30))
    angles = np.radians(np.linspace(0, 50, 51))
    vo, results = follow(world, [pose_at(yaw=a) for a in angles])
    assert all(r.state == OdometryState.INITIALIZING for r in results)
    error = metrics.rotation_angles(
        results[-1].pose[None, :3, :3].transpose(0, 2, 1) @ pose_at(yaw=angles[-1])[:3, :3]
    )
    assert np.degrees(error[0]) < 1.5
    assert np.linalg.norm(results[-1].pose[:3, 3]) == 0


@pytest.mark.parametrize('depth_noise', [None, 0.1])
def test_turning_on_the_spot_is_followed_into_the_unknown(depth_noise):
    """Eighty degrees where a robot stands: nothing new can be triangulated, yet it knows where it looks."""
    world = World(n_points=9000, low=(-40, -6, -40), high=(40, 4, 60))
    poses = drive(25)
    x, y, z = poses[-1][:3, 3]
    yaw = 0.12 * np.cos(24 / 12)
    poses = poses + [pose_at(x, y, z, yaw + np.radians(2 * i)) for i in range(1, 41)]
    vo, results = follow(world, poses, depth_noise=depth_noise)
    assert all(r.state == TRACKING for r in results[25:])
    aligned = metrics.evaluate(np.array(poses), trajectory_of(vo))[1]
    assert metrics.position_errors(poses, aligned).max() < 0.5
    turn = aligned[24, :3, :3].T @ aligned[-1, :3, :3]
    assert np.degrees(metrics.rotation_angles(turn[None])[0]) == pytest.approx(80, abs=1.5)


def test_lost_is_said_and_the_same_map_is_found_again(driven):
    """A covered lens: state LOST, held pose, huge covariance; back at the same place the old map goes on."""
    world, poses, _, _ = driven
    vo, before = follow(world, poses[:30], depth_noise=0.1)
    held = before[-1].pose
    for i in range(4):
        result = vo.track(3.0 + 0.1 * i, world.empty())
        assert result.state == LOST and result.n_inliers == 0
        np.testing.assert_allclose(result.pose, held, atol=1e-9)
        assert (np.diag(result.covariance) >= 1e5).all()
    _, after = follow(world, poses[30:45], vo, first=34, depth_noise=0.1)
    assert after[0].state == TRACKING and after[-1].segment == 0
    scored = np.array(vo.tracked())
    assert scored.sum() == 45 and not scored[30:34].any()
    values, _ = metrics.evaluate(poses[:45], trajectory_of(vo)[scored])
    assert values['ate_rmse_sim3_m'] < 0.15


def test_lost_for_good_starts_a_new_map_at_the_last_pose():
    """Carried elsewhere in the dark: a new map begins at the last pose known, metric again."""
    world, elsewhere = World(0), World(7)
    vo, before = follow(world, drive(25), depth_noise=0.1)
    for i in range(8):
        vo.track(2.5 + 0.1 * i, world.empty())
    there = drive(25)
    _, after = follow(elsewhere, there, vo, first=33, depth_noise=0.1)
    assert after[-1].state == TRACKING and after[-1].segment > 0 and after[-1].metric
    tracked = np.array(vo.tracked())[33:]
    poses = trajectory_of(vo)[33:]
    np.testing.assert_allclose(poses[tracked][0][:3, 3], before[-1].pose[:3, 3], atol=0.7)
    values, _ = metrics.evaluate(np.array(there)[tracked], poses[tracked])
    assert values['ate_rmse_sim3_m'] < 0.15 and values['scale_ratio'] == pytest.approx(1, abs=0.06)
    # where the new map lies is not known, but steps within it are
    found = [r for r in after if r.state == TRACKING]
    assert all(np.diag(r.covariance).min() > 1e5 for r in found)
    views = [Keyframe(r.stamp, r.pose, unscaled_covariance(r), None) for r in (before[-1], *found[-2:])]
    assert np.diag(step_covariance(*views[1:])).max() < 0.01
    assert np.diag(step_covariance(*views[:2])).min() > 1e5


def unscaled_covariance(result):
    return without_scale(result.covariance, result.pose[:3, 3], result.scale_sigma)


def test_covariance_is_about_the_true_error(driven):
    """Position errors lie within a few of the sigmas claimed, and the sigmas are not absurdly wide."""
    world, poses, _, results = driven
    vo, unscaled = follow(world, poses, odometry(world, scale_source='none'))
    values, aligned = metrics.evaluate(poses, trajectory_of(vo))
    error = metrics.position_errors(poses, aligned) * values['scale_ratio']  # in units of the map
    sigma = np.array([np.sqrt(np.trace(r.covariance[:3, :3])) for r in unscaled])
    tracking = np.array([r.state == TRACKING for r in unscaled])
    assert 0.3 < np.sqrt(np.mean(error[tracking] ** 2)) / np.sqrt(np.mean(sigma[tracking] ** 2)) < 5
    for result in results:
        np.testing.assert_allclose(result.covariance, result.covariance.T, atol=1e-9)
        assert (np.linalg.eigvalsh(result.covariance) >= -1e-9).all()


def test_repeated_and_late_frames_change_nothing(driven):
    """A stamp seen before, or a little older, returns the last result; time that starts anew starts anew."""
    world, poses, _, _ = driven
    vo, results = follow(world, poses[:15], depth_noise=0.1)
    n = len(vo.trajectory())
    assert vo.track(1.4, world.image(poses[14], 14)) is results[-1]
    assert vo.track(1.2, world.image(poses[12], 12)) is results[-1]
    assert len(vo.trajectory()) == n
    result = vo.track(0.05, world.image(poses[0], 0))
    assert result.state == OdometryState.INITIALIZING and len(vo.trajectory()) == 1
    np.testing.assert_array_equal(result.pose, np.eye(4))


def test_dropped_frames_are_bridged(driven):
    """Every other second of images missing in part: the stamps tell the motion model how far to predict."""
    world, poses, _, _ = driven
    kept = [i for i in range(60) if i % 10 < 7]
    vo = odometry(world)
    results = [vo.track(i * 0.1, world.image(poses[i], i, depth_noise=0.1)) for i in kept]
    assert all(r.state == TRACKING for r in results[8:])
    values, _ = metrics.evaluate(poses[kept], trajectory_of(vo))
    assert values['ate_rmse_sim3_m'] < 0.25


@pytest.mark.parametrize('n', [0, 1, 5, 30])
def test_too_few_keypoints_never_break_it(n):
    """No, one or few keypoints from the first frame on: it waits, whatever comes."""
    world = World()
    vo = odometry(world)
    for i, pose in enumerate(drive(8)):
        result = vo.track(i * 0.1, world.image(pose, i, max_keypoints=n))
        assert result.state == OdometryState.INITIALIZING and np.isfinite(result.pose).all()


def test_another_image_size_is_the_same_camera(driven):
    """Half-size images in the middle of a drive: the camera is scaled along."""
    world, poses, _, _ = driven
    vo, _ = follow(world, poses[:15], depth_noise=0.1)
    half = world.camera.scaled(320, 240)
    _, results = follow(world, poses[15:30], vo, first=15, camera=half, noise_px=0.25)
    assert all(r.state == TRACKING for r in results)
    values, _ = metrics.evaluate(poses[:30], trajectory_of(vo))
    assert values['ate_rmse_sim3_m'] < 0.15


def test_another_network_starts_a_new_map(driven):
    """Descriptors of two networks are never compared."""
    world, poses, _, _ = driven
    vo, _ = follow(world, poses[:15], depth_noise=0.1)
    for i in range(15, 30):
        keypoints = world.image(poses[i], i)
        keypoints.model_id = 'other'
        result = vo.track(i * 0.1, keypoints)
    assert result.segment == 1 and result.state == TRACKING


def test_memory_stays_bounded():
    """A long drive keeps only the local map."""
    world = World(n_points=8000, high=(12, 2, 200))
    vo = odometry(world, map_keyframes=6, window=4, target_points=60)
    sizes = []
    for i, pose in enumerate(drive(150, step=1.2)):
        vo.track(i * 0.1, world.image(pose, i, max_keypoints=80))
        sizes.append(len(vo.map_points()))
    assert vo.state == TRACKING and vo.segment == 0
    assert max(sizes[75:]) < 2 * max(sizes[:75])
    assert len(vo._map.keyframes) == 6 and len(vo._map.alive) <= 8192


def test_matches_for_display_join_the_right_pixels(driven):
    """Reference and current pixels of inliers fit each other under the poses found."""
    _, _, _, results = driven
    shown = results[-1].matches
    assert shown.inlier.sum() > 50 and shown.reference_xy.shape == shown.xy.shape
    assert shown.stamp < results[-1].stamp
    flow = np.linalg.norm(shown.xy - shown.reference_xy, axis=1)
    assert np.median(flow[shown.inlier]) < 60


def test_timings_name_every_stage(driven):
    """Stages of a frame add up to no more than its total."""
    _, _, _, results = driven
    timings = results[-1].timings_ms
    assert {'match', 'locate', 'total'} <= set(timings)
    for result in results:
        assert (
            sum(v for k, v in result.timings_ms.items() if k != 'total') <= result.timings_ms['total'] + 1e-6
        )


class CountingMatcher(NearestMatcher):
    """Stands for a matcher that is worth asking; ``calls`` counts how often it was."""

    name = 'lightglue'
    calls = 0

    def match(self, first, second):
        self.calls += 1
        return super().match(first, second)


def counted(world, poses, **parameters):
    matcher = CountingMatcher()
    vo = VisualOdometry(world.camera, matcher, OdometryParameters(**parameters))
    started = None
    for i, pose in enumerate(poses):
        result = vo.track(i * 0.1, world.image(pose, i, depth_noise=0.1))
        if started is None and result.state == TRACKING:
            started = matcher.calls
    return started, matcher.calls - started


def test_the_matcher_is_asked_where_nearest_neighbours_do_not_suffice():
    """Once there is a map an easy drive needs the matcher no more; with a high bar every frame does."""
    world, poses = World(), drive(25)
    start, later = counted(world, poses)
    assert start > 0 and later == 0
    start, later = counted(world, poses, nearest_min_inliers=100000)
    assert later == 24 - start


def test_work_on_the_map_can_wait_until_the_pose_is_out(driven):
    """Whoever calls finish gets the same poses; a keyframe's work lies there, not before its pose."""
    world, poses, _, results = driven
    vo, waited = odometry(world), []
    for i, pose in enumerate(poses):
        result = vo.track(i * 0.1, world.image(pose, i, depth_noise=0.1))
        assert 'mapping' not in result.timings_ms
        vo.finish()
        vo.finish()
        assert result.is_keyframe or 'mapping' not in result.timings_ms
        waited.append(result)
    assert sum('mapping' in r.timings_ms for r in waited) >= 3
    np.testing.assert_array_equal([r.pose for r in waited], [r.pose for r in results])
