"""Metres: the scale over time from depth, a depth camera or the ground, and that it never makes a jump."""

from dataclasses import replace

import numpy as np
import pytest

from mt_perception.errors import MtError
from mt_perception.evaluation import trajectory as metrics
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry
from mt_perception.odometry.bundle_adjustment import Problem, adjust
from mt_perception.odometry.ground import Ground
from mt_perception.odometry.metric_scale import MetricScale, without_scale
from mt_perception.odometry.scale import ScaleEstimate
from mt_perception.odometry.scale_filter import HEIGHT_DRIFT, HEIGHT_SIGMA, ScaleFilter
from mt_perception.perception.sampling import with_depth
from mt_perception.types import Keypoints
from synthetic_world import Road, World, drive, pose_at

CLASSES = ['sky', 'building', 'pole', 'road']


class TestFilter:
    """The scale from keyframe to keyframe."""

    def test_a_constant_scale_is_the_mean_of_what_was_seen(self):
        """Without drift and without prior: mean and variance of the mean."""
        one = ScaleFilter(0.0, 1e6, 0.0)
        for i, value in enumerate([0.1, 0.3, 0.2]):
            one.step(float(i), value, 0.3)
        assert one.mean == pytest.approx(0.2, abs=1e-6)
        assert np.sqrt(one.variance) == pytest.approx(0.3 / np.sqrt(3), rel=1e-6)
        stamps, logs = one.smoothed()
        np.testing.assert_array_equal(stamps, [0, 1, 2])
        np.testing.assert_allclose(logs, 0.2, atol=1e-6)

    def test_smoothing_is_the_least_squares_solution(self):
        """A random walk with gaps: the smoother gives what solving all equations at once gives."""
        rng = np.random.default_rng(1)
        drift, prior = 0.1, 0.5
        values = [None if i % 3 == 1 else rng.normal(0, 0.3) for i in range(12)]
        sigmas = rng.uniform(0.2, 0.4, 12)
        one = ScaleFilter(0.2, prior, drift)
        information, vector = np.zeros((12, 12)), np.zeros(12)
        information[0, 0] += prior**-2
        vector[0] += 0.2 * prior**-2
        for i, value in enumerate(values):
            one.step(float(i), value, sigmas[i] if value is not None else None)
            if value is not None:
                information[i, i] += sigmas[i] ** -2
                vector[i] += value * sigmas[i] ** -2
            if i:
                information[i - 1 : i + 1, i - 1 : i + 1] += np.array([[1, -1], [-1, 1]]) * drift**-2
        np.testing.assert_allclose(one.smoothed()[1], np.linalg.solve(information, vector), atol=1e-9)
        assert one.variance == pytest.approx(np.linalg.inv(information)[-1, -1])

    def test_one_wild_value_counts_little(self):
        """Twenty times too large once, among values of 10 %: a shift of a few percent."""
        one, other = ScaleFilter(0.0, 1.0, 0.01), ScaleFilter(0.0, 1.0, 0.01)
        for i in range(20):
            for some in (one, other):
                some.step(i, 0.05 * (-1) ** i, 0.1)
        one.step(20.0, 3.0, 0.1)
        other.step(20.0, 0.0, 0.1)
        assert 0 < one.mean - other.mean < 0.03

    def test_old_history_can_be_forgotten(self):
        """What is left smooths as before."""
        one = ScaleFilter(0.0, 1.0, 0.1)
        for i in range(10):
            one.step(float(i), 0.1 * i, 0.1)
        whole = one.smoothed()
        one.forget(6.0)
        np.testing.assert_array_equal(one.smoothed(), np.array(whole)[:, 6:])
        one.forget(100.0)
        assert len(one.smoothed()[0]) == 1

    def test_heights_are_fused_as_least_squares_would(self):
        """Scale and height at every keyframe by one dense least squares, from values and heights that fit."""
        rng = np.random.default_rng(0)
        n, drift, sigma = 12, 0.1, 0.05
        scale, height = np.cumsum(rng.normal(0, 0.2 * drift, n)), np.log(1.5)
        noise = rng.normal(0, 0.3 * sigma, (2, n))
        values, heights = scale + noise[0], height - scale + noise[1]
        one = ScaleFilter(0.0, 1.0, drift)
        one.misfit = 0.0
        rows, right = [np.eye(2 * n)[0], np.eye(2 * n)[n] / HEIGHT_SIGMA], [0.0, 0.0]
        for i in range(n):
            seen = (i % 3 == 0, i % 2 == 0)
            one.step(
                float(i),
                *((values[i], sigma) if seen[0] else (None, None)),
                *((heights[i], sigma) if seen[1] else (None, None)),
            )
            own, its = np.eye(2 * n)[i], np.eye(2 * n)[n + i]
            if i:
                rows += [
                    (own - np.eye(2 * n)[i - 1]) / drift,
                    (its - np.eye(2 * n)[n + i - 1]) / HEIGHT_DRIFT,
                ]
                right += [0.0, 0.0]
            if seen[0]:
                rows, right = [*rows, own / sigma], [*right, values[i] / sigma]
            if seen[1]:
                rows, right = [*rows, (its - own) / sigma], [*right, heights[i] / sigma]
        solved = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
        np.testing.assert_allclose(one.smoothed()[1], solved[:n], atol=1e-9)
        spread = np.linalg.inv(np.array(rows).T @ np.array(rows))
        assert one.mean == pytest.approx(solved[n - 1]) and one.variance == pytest.approx(
            spread[n - 1, n - 1]
        )
        assert one.height == pytest.approx((solved[-1], spread[-1, -1]))

    def test_a_constant_height_holds_a_scale_that_drifts(self):
        """The map shrinks by a fifth over 40 keyframes while depth is off by 15 % in turns of eight."""
        log = np.linspace(0, 0.2, 40)
        depth = log + 0.15 * np.where(np.arange(40) // 8 % 2, 1, -1)

        def error(heights):
            one = ScaleFilter(0.0, 0.3, 0.03)
            for i in range(40):
                more = () if heights is None else (heights[i], 0.1)
                one.step(float(i), depth[i], 0.3, *more)
            return np.std(one.smoothed()[1] - log), one

        rng = np.random.default_rng(1)
        alone, _ = error(None)
        held, one = error(np.log(1.65) - log + rng.normal(0, 0.05, 40))
        assert held < 0.4 * alone and one.misfit < 1
        # a hand goes up and down, and tables are taken for the ground: that holds nothing
        in_hand, one = error(np.log(1.2) - log + 0.4 * rng.choice([-1, 1], 40))
        assert in_hand < 1.3 * alone and one.misfit > 5

    def test_the_next_map_knows_the_height(self):
        """A new map of unknown size whose camera is 0.825 units above the ground, after one at 1.65 m."""
        one = ScaleFilter(0.0, 0.01, 0.0)
        one.misfit = 0.0
        for i in range(20):
            one.step(float(i), 0.0, 0.01, np.log(1.65), 0.05)
        after = ScaleFilter(0.3, 3.0, 0.0, one)
        after.step(20.0, None, None, np.log(0.825), 0.05)
        assert after.mean == pytest.approx(np.log(2), abs=0.01) and np.sqrt(after.variance) < 0.06


def ground_points(rng, n, height, pitch, noise, width=3.0):
    """Points [n,3] on the ground as a camera sees it that looks ``pitch`` radians down; depths are noisy."""
    flat = np.stack([rng.uniform(-width, width, n), np.full(n, height), rng.uniform(5, 22, n)], 1)
    pose = pose_at(pitch=-pitch)
    return (flat @ pose[:3, :3]) * np.exp(rng.normal(0, noise, n))[:, None]


class TestGround:
    """The height above the ground."""

    @pytest.mark.parametrize('pitch', [0.0, 0.04, -0.04])
    def test_tilt_and_height_are_found(self, pitch):
        """Looking up or down by more than two degrees, five percent of depth noise: height within 1 %."""
        rng, ground, heights = np.random.default_rng(2), Ground(), []
        for _ in range(40):
            log, sigma = ground.height(ground_points(rng, 15, 1.65, pitch, 0.05))
            heights.append(log)
        assert np.exp(np.mean(heights[10:])) == pytest.approx(1.65, rel=0.01)
        assert 0.3 < np.std(heights[10:]) / sigma < 1.5
        expected = [0, np.cos(pitch), np.sin(pitch)]
        np.testing.assert_allclose(ground.normal, expected, atol=np.radians(0.3))

    def test_kerbs_do_not_matter(self):
        """A pavement 15 cm higher on one side, taken for the road: height within 2 % and no roll."""
        rng, ground, heights = np.random.default_rng(3), Ground(), []
        for _ in range(40):
            road, kerb = ground_points(rng, 15, 1.65, 0, 0.05), ground_points(rng, 10, 1.5, 0, 0.05)
            kerb[:, 0] = -rng.uniform(3.5, 6, 10)
            heights.append(ground.height(np.concatenate([road, kerb]))[0])
        assert np.exp(np.mean(heights)) == pytest.approx(1.65, rel=0.02)
        assert abs(ground.normal[0]) < np.radians(0.3)

    def test_the_course_tells_the_pitch(self):
        """A car that drives ahead moves along the ground, wherever its camera looks; curves do not count."""
        ground, step = Ground(), np.eye(4)
        step[:3, 3] = [0, -0.05, 1.0]  # looks 2.9° down
        for _ in range(30):
            ground.learn_course(step)
        np.testing.assert_allclose(ground.normal, [0, 0.99875, 0.0499], atol=0.01)
        turned, bent = Ground(), pose_at(yaw=0.1)
        bent[:3, 3] = [0, -0.3, 1.0]
        turned.learn_course(bent)
        np.testing.assert_array_equal(turned.normal, [0, 1, 0])

    def test_the_mount_tells_what_is_down(self):
        """A camera that looks down by 45°."""
        down = np.array([0, 1, 1]) / np.sqrt(2)
        rng, ground = np.random.default_rng(4), Ground(down)
        points = ground_points(rng, 200, 0.8, np.pi / 4, 0.0, 1.0)
        np.testing.assert_allclose(points @ down, 0.8)
        assert np.exp(ground.height(points)[0]) == pytest.approx(0.8, rel=1e-3)

    def test_few_points_say_nothing(self):
        """Three points, or points above the camera."""
        rng = np.random.default_rng(5)
        assert Ground().height(ground_points(rng, 3, 1.65, 0, 0)) is None
        assert Ground().height(-ground_points(rng, 30, 1.65, 0, 0)) is None
        assert Ground().height(np.zeros((0, 3))) is None


def scaled(rate=0.05, source='depth'):
    return MetricScale(OdometryParameters(scale_source=source, scale_rate=rate))


def test_a_change_of_scale_moves_nothing_at_once():
    """Half the size is learned while the camera moves: steps shrink slowly, positions never jump."""
    scale, handed = scaled(0.1), []
    scale.start_map(0.0, ScaleEstimate(1.0, 0.05, 50))
    assert scale.metric and scale.factor == 1 and scale.sigma < 0.3
    for i in range(100):
        position = np.array([0.0, 0.0, 1.0 * i])
        scale.follow(0.1 * i, position)
        handed.append(scale.points(position)[2])
        scale._filters[-1][1].step(0.1 * i, np.log(0.5), 0.1)
    steps = np.diff(handed)
    assert handed[0] == 0 and steps[0] == pytest.approx(1, abs=0.02)
    assert steps[-1] == pytest.approx(0.5, rel=0.01)
    np.testing.assert_allclose(steps[1:] / steps[:-1], 1, atol=0.011)
    assert scale.sigma == pytest.approx(0.1, rel=0.3), 'what all keyframes have in common stays'


def test_in_the_end_the_whole_path_has_its_scale():
    """The path as known in the end is half as long all the way, from the same start."""
    scale = scaled()
    scale.start_map(0.0, ScaleEstimate(1.0, 0.05, 50))
    for i in range(200):
        scale._filters[-1][1].step(0.1 * i, np.log(0.5), 0.05)
    stamps = np.linspace(0, 20, 21)
    poses = np.array([pose_at(z=2.0 + i) for i in range(21)])
    path = scale.path(stamps, poses)
    np.testing.assert_allclose(path[:, 2, 3], 2 + 0.5 * np.arange(21), rtol=0.01)
    np.testing.assert_array_equal(path[:, :3, :3], poses[:, :3, :3])


def test_a_map_of_unknown_size_becomes_metric_where_the_camera_is():
    """The first value takes effect at once; the position handed out stays, what comes after is in metres."""
    scale = scaled()
    scale.start_map(0.0, None)
    scale.follow(0.0, np.array([0, 0, 4.0]))
    assert not scale.metric and np.isinf(scale.sigma) and scale.points(np.array([0, 0, 4.0]))[2] == 4
    scale._filters[-1][1].step(0.0, np.log(3.0), 0.1)
    scale.metric = True
    scale._use(scale._filters[-1][1].mean)
    assert scale.points(np.array([0, 0, 4.0]))[2] == pytest.approx(4)
    assert scale.points(np.array([0, 0, 5.0]))[2] == pytest.approx(7, abs=0.05)


def test_the_next_map_goes_on_where_the_last_one_ended():
    """A new map in metres after one whose unit was half a metre: no jump."""
    scale = scaled()
    scale.start_map(0.0, None)
    scale._filters[-1][1].step(0.0, np.log(0.5), 0.1)
    scale.metric = True
    scale._use(np.log(0.5))
    scale._first_variance = 0.1**2
    there = np.array([0, 0, 10.0])
    scale.follow(1.0, there)
    before = scale.points(there)
    scale.start_map(2.0, ScaleEstimate(1.0, 0.05, 50))
    np.testing.assert_allclose(scale.points(there), before)
    np.testing.assert_allclose(scale.points(there + 1), before + 1)
    scale.start_map(3.0, None)
    np.testing.assert_allclose(scale.points(there + 1), before + 1)
    assert scale.metric and scale.sigma > 0.25, 'as large as the one before, more or less'


def test_without_a_source_nothing_is_changed():
    """Scale source none hands the map out as it is, to the last bit."""
    scale = scaled(source='none')
    scale.start_map(0.0, ScaleEstimate(2.0, 0.05, 50))
    scale.follow(0.0, np.ones(3))
    pose = pose_at(1, 2, 3, 0.1)
    np.testing.assert_array_equal(scale.outward(pose), pose)
    np.testing.assert_array_equal(scale.covariance(np.eye(6), pose), np.eye(6))
    assert not scale.metric


def test_an_uncertain_scale_makes_the_position_uncertain():
    """Ten percent of scale are a metre after ten metres, along the way."""
    scale = scaled()
    scale.start_map(0.0, ScaleEstimate(1.0, 0.0, 50))
    scale._filters[-1][1].step(0.0, 0.0, 1e-6)
    spread = scale.covariance(1e-4 * np.eye(6), pose_at(z=10))
    np.testing.assert_allclose(np.diag(spread), [1e-4, 1e-4, 1 + 1e-4, 1e-4, 1e-4, 1e-4], rtol=1e-3)
    rest = without_scale(spread, np.array([0, 0, 10.0]), scale.sigma)
    np.testing.assert_allclose(rest, 1e-4 * np.eye(6), atol=1e-12)
    np.testing.assert_array_equal(without_scale(spread, np.ones(3), np.inf), spread)


def follow(world, poses, class_names=(), change=None, image=None, **parameters):
    """Run over images at 10 Hz; ``change`` gets each image's number and keypoints."""
    vo = VisualOdometry(world.camera, NearestMatcher(), OdometryParameters(**parameters), class_names)
    results = []
    for i, pose in enumerate(poses):
        keypoints = world.image(pose, i, **(image or {}))
        results.append(vo.track(0.1 * i, change(i, keypoints) if change else keypoints))
    return vo, results


def scores(vo, poses):
    return metrics.evaluate(np.array(poses), np.array([pose for _, pose in vo.trajectory()]))[0]


def test_the_ground_and_the_camera_s_height_give_metres():
    """No depth at all: the road's class and 1.65 m; the map itself has another unit."""
    world, poses = Road(), drive(60)
    vo, results = follow(world, poses, CLASSES, scale_source='camera_height', camera_height=1.65)
    values = scores(vo, poses)
    assert results[-1].metric and results[-1].scale_sigma < 0.06
    assert values['scale_ratio'] == pytest.approx(1, abs=0.03)
    assert values['ate_rmse_m'] < 0.5
    double, _ = follow(world, poses, CLASSES, scale_source='camera_height', camera_height=3.3)
    assert scores(double, poses)['scale_ratio'] / values['scale_ratio'] == pytest.approx(2, rel=1e-3)
    tracked = [r for r in results if r.state == OdometryState.TRACKING]
    assert not results[0].metric and np.isinf(results[0].scale_sigma)
    first = next(i for i, r in enumerate(tracked) if r.metric)
    steps = np.linalg.norm(np.diff([r.pose[:3, 3] for r in tracked[first:]], axis=0), axis=1)
    assert steps.max() < 1.5 * 0.6, 'no jump once it is metric'


def test_without_the_ground_the_height_gives_nothing():
    """Classes unknown, or no road among them: not metric, and it says so."""
    world, poses = Road(), drive(20)
    for names in ((), ['a', 'b', 'c', 'd']):
        vo, results = follow(world, poses, names, scale_source='camera_height', camera_height=1.65)
        assert results[-1].state == OdometryState.TRACKING
        assert not results[-1].metric and np.isinf(results[-1].scale_sigma)


def test_depth_is_fused_over_the_drive():
    """Images err alike by 30 % in turns: the start's error is mended, without a jump in the speed."""
    world, poses = World(n_points=5000, high=(12, 2, 120)), drive(90)

    def change(i, keypoints):
        factor = 1.5 if i < 12 else 1.3 if i // 12 % 2 else 1 / 1.3
        return replace(keypoints, depth=keypoints.depth * np.float32(factor))

    vo, results = follow(world, poses, change=change, image={'depth_noise': 0.1})
    first, _ = follow(world, poses[:12], change=change, image={'depth_noise': 0.1})
    assert scores(first, poses[:12])['scale_ratio'] > 1.3
    assert scores(vo, poses)['scale_ratio'] == pytest.approx(1, abs=0.15)
    assert 0.05 < results[-1].scale_sigma < 0.4
    _, plain = follow(world, poses, change=change, image={'depth_noise': 0.1}, scale_source='none')
    first = next(i for i, r in enumerate(results) if r.state == OdometryState.TRACKING)
    steps = [
        np.linalg.norm(np.diff([r.pose[:3, 3] for r in some[first:]], axis=0), axis=1)
        for some in (results, plain)
    ]
    factor = steps[0] / steps[1]
    assert (np.abs(np.diff(factor)) < 0.01 * factor[1:]).all(), 'half a percent a frame, and rounding'


def test_a_depth_camera_gives_metres_within_a_percent():
    """Depth of one percent noise: the scale is right and its sigma says how well it is known."""
    world, poses = World(), drive(40)
    vo, results = follow(world, poses, image={'depth_noise': 0.01}, scale_source='rgbd')
    assert scores(vo, poses)['scale_ratio'] == pytest.approx(1, abs=0.01)
    assert results[-1].metric and results[-1].scale_sigma < 0.03


def test_a_depth_camera_keeps_the_path_from_drifting():
    """Keypoints are a pixel off: the depths in the adjustment take a third of the error away."""
    world, poses = World(), drive(60)
    errors = {}
    for source in ('rgbd', 'none'):
        vo, _ = follow(world, poses, image={'depth_noise': 0.01, 'noise_px': 1.0}, scale_source=source)
        errors[source] = scores(vo, poses)['ate_rmse_sim3_m']
    assert errors['rgbd'] < 0.7 * errors['none']


def test_adjustment_with_depths_finds_the_scale():
    """Everything 10 % too large but for the fixed camera; the depths, some of them wild, say how large."""
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -2, 4], [3, 2, 9], (80, 3))
    cameras = np.stack([np.linalg.inv(pose_at(0.3 * k, 0, 0.1 * k, 0.02 * k)) for k in range(4)])
    camera, point = (index.ravel() for index in np.meshgrid(np.arange(4), np.arange(80)))
    local = np.einsum('nij,nj->ni', cameras[camera, :3, :3], points[point]) + cameras[camera, :3, 3]
    depth = local[:, 2] * np.where(rng.random(320) < 0.1, 1.5, 1)
    depth[rng.random(320) < 0.3] = np.nan
    start, order = cameras.copy(), [1, 2, 3, 0]  # the camera at the origin is the fixed one
    start[:, :3, 3] *= 1.1
    problem = Problem(
        start[order], 3, points * 1.1, np.argsort(order)[camera], point,
        local[:, :2] / local[:, 2:], np.full(320, 1e-3), depth, 0.02,
    )  # fmt: skip
    done = adjust(problem, 30, tolerance=1e-9)
    error = np.linalg.norm(done.points - points, axis=1) / np.linalg.norm(points, axis=1)
    assert np.median(error) < 0.01 and error.max() < 0.04, 'it was 0.1'
    np.testing.assert_allclose(done.cameras[:3, :3, 3], cameras[1:, :3, 3], atol=0.01)
    without = adjust(replace(problem, depth=None), 30)
    np.testing.assert_allclose(without.points, points * 1.1, rtol=0.001)


def test_depth_images_are_read_at_the_keypoints():
    """A depth image of half the size, a hole in it, and none at all."""
    keypoints = Keypoints.create([[9.5, 5.5], [1.5, 1.5]], np.ones(2), np.eye(2), (20, 12))
    depth = np.arange(60, dtype=np.float32).reshape(6, 10) + 100
    # pixel (9.5, 5.5) of 20 × 12 is (4.5, 2.5) of 10 × 6: between 124, 125, 134 and 135
    assert with_depth(keypoints, depth).depth[0] == pytest.approx(129.5)
    depth[0:2, 0:2] = np.nan
    assert np.isnan(with_depth(keypoints, depth).depth[1])
    assert np.isnan(with_depth(keypoints, None).depth).all()


def test_parameters_that_contradict_each_other_are_refused():
    """One sentence with the parameter's name."""
    for wrong, name in (
        ({'scale_source': 'camera_height'}, 'camera_height'),
        ({'scale_source': 'lidar'}, 'scale_source'),
    ):
        with pytest.raises(MtError, match=f"'{name}'"):
            VisualOdometry(World().camera, NearestMatcher(), OdometryParameters(**wrong))
