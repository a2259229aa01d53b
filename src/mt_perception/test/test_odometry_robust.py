"""What happens to a camera on a robot: rest, darkness, dirt, jumps of time and light, and long days."""

from dataclasses import replace

import numpy as np
import pytest

from mt_perception.evaluation import trajectory as metrics
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry
from mt_perception.odometry.absolute_pose import PoseEstimate
from mt_perception.odometry.geometry import inverse, se3_exp
from mt_perception.odometry.standstill import Standstill
from mt_perception.types import Keypoints
from synthetic_world import DESCRIPTOR_DIM, World, drive, pose_at

TRACKING, LOST, INITIALIZING = OdometryState.TRACKING, OdometryState.LOST, OdometryState.INITIALIZING


def odometry(world, **parameters):
    return VisualOdometry(world.camera, NearestMatcher(), OdometryParameters(**parameters))


def follow(vo, world, poses, first=0, hz=10.0, **image):
    """Run over images; ``first`` is the number of the first, which its stamp and its noise come from."""
    image = {'depth_noise': 0.1, **image}
    return [vo.track((first + i) / hz, world.image(pose, first + i, **image)) for i, pose in enumerate(poses)]


def ate(vo, poses, which=slice(None)):
    estimate = np.array([pose for _, pose in vo.trajectory()])
    return metrics.evaluate(np.array(poses)[which], estimate[which])[0]['ate_rmse_sim3_m']


def garbage(number, n=300):
    """Keypoints of noise: a covered lens at high gain."""
    rng = np.random.default_rng((9, number))
    descriptors = rng.normal(size=(n, DESCRIPTOR_DIM))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Keypoints.create(
        rng.uniform(0, (639, 479), (n, 2)), np.ones(n), descriptors, (640, 480), model_id='world'
    )


def positions(results):
    return np.array([r.pose[:3, 3] for r in results])


def angle(one, other):
    return np.degrees(metrics.rotation_angles((one[:3, :3].T @ other[:3, :3])[None])[0])


def sigma(result):
    """Standard deviation of a position within the map, metres."""
    return np.sqrt(np.trace(result.local_covariance[:3, :3]))


# ---------------------------------------------------------------- turning on the spot


def test_a_turn_on_the_spot_leaves_the_drive_before_it_as_it_was():
    """After 24 m a full circle in place: steps along the drive keep their length to half a percent."""
    world, poses = World(low=(-30, -2, -30), high=(30, 2, 60), n_points=6000), drive(40)
    x, y, z = poses[-1][:3, 3]
    yaw = np.arctan2(poses[-1][0, 2], poses[-1][2, 2])
    vo = odometry(world, scale_source='none')
    results = follow(vo, world, poses)
    before = np.array([pose for _, pose in vo.trajectory()])[5:40, :3, 3]
    turn = [pose_at(x, y, z, yaw + np.radians(3 * i)) for i in range(1, 121)]
    results += follow(vo, world, turn, first=40)
    after = np.array([pose for _, pose in vo.trajectory()])[5:40, :3, 3]
    assert all(r.state == TRACKING for r in results[20:])
    lengths = [np.linalg.norm(path[5:] - path[:-5], axis=1) for path in (before, after)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=0.005)


# ---------------------------------------------------------------- rest


def test_a_minute_of_rest_moves_nothing():
    """After a drive 60 s in one place: every single pose within 1 cm and 0.1° of the first at rest."""
    world, poses = World(), drive(25)
    vo = odometry(world)
    follow(vo, world, poses)
    results = follow(vo, world, [poses[-1]] * 300, first=125, hz=5.0)  # 25 s to 85 s
    rest = results[5:]
    assert all(r.state == TRACKING for r in results)
    assert np.linalg.norm(positions(rest) - rest[0].pose[:3, 3], axis=1).max() < 0.01
    assert max(angle(rest[0].pose, r.pose) for r in rest) < 0.1
    assert not any(r.is_keyframe for r in rest)


def test_driving_off_again_is_noticed_at_once():
    """After rest the motion goes on: within three frames the pose is where it is."""
    world, poses = World(), drive(50)
    stops = poses[:25] + [poses[24]] * 20 + poses[25:]
    vo = odometry(world)
    results = follow(vo, world, stops)
    assert np.linalg.norm(results[44].pose[:3, 3] - results[40].pose[:3, 3]) == 0
    moved = np.linalg.norm(results[47].pose[:3, 3] - results[44].pose[:3, 3])
    scale = metrics.evaluate(np.array(stops), np.array([p for _, p in vo.trajectory()]))[0]['scale_ratio']
    assert moved == pytest.approx(scale * 1.8, abs=0.1)
    assert ate(vo, stops) < 0.15


def estimate(pose, sigma=0.01):
    return PoseEstimate(pose, np.ones(50, bool), np.eye(6) / sigma**2)


def test_rest_is_told_from_slow_motion():
    """Noise of 1 cm: at rest the mean is held; 5 cm a second is motion, and never more than 3 cm behind."""
    rng = np.random.default_rng(0)
    still = Standstill(0.5)
    poses = [still.settle(0.1 * i, estimate(se3_exp(rng.normal(0, 0.01, 6)))) for i in range(100)]
    held = [p for p in poses if p is still.held]
    assert len(held) > 85 and np.abs(held[-1][:3, 3]).max() < 0.012

    still, behind = Standstill(0.5), []
    for i in range(100):
        true = np.array([0, 0, 0.005 * i, 0, 0, 0])
        pose = still.settle(0.1 * i, estimate(se3_exp(true + rng.normal(0, 0.01, 6))))
        behind.append(abs(pose[2, 3] - true[2]))
    assert max(behind) < 0.05 and np.median(behind) < 0.03

    never = Standstill(0.0)
    one = estimate(se3_exp(rng.normal(0, 0.01, 6)))
    assert all(never.settle(0.1 * i, one) is one.world_to_camera for i in range(20))


def test_slow_motion_is_followed():
    """Two centimetres a frame, ten seconds: no staircase coarser than the noise."""
    world = World()
    poses = drive(20)
    x, y, z = poses[-1][:3, 3]
    yaw = 0.12 * np.cos(19 / 12)
    slow = [pose_at(x, y, z + 0.02 * i, yaw) for i in range(1, 101)]
    vo = odometry(world)
    follow(vo, world, poses + slow)
    estimate_ = np.array([pose for _, pose in vo.trajectory()])
    aligned = metrics.evaluate(np.array(poses + slow), estimate_)[1]
    errors = metrics.position_errors(np.array(poses + slow), aligned)[20:]
    assert np.abs(np.diff(errors)).max() < 0.08 and errors.max() < 0.15


def test_a_frozen_camera_is_rest():
    """The same image again and again under new stamps, then where the robot really is by then."""
    world, poses = World(), drive(40)
    vo = odometry(world)
    follow(vo, world, poses[:25])
    same = world.image(poses[24], 24, depth_noise=0.1)
    frozen = [vo.track(2.5 + 0.1 * i, same) for i in range(10)]
    assert np.linalg.norm(positions(frozen[-3:]) - frozen[-1].pose[:3, 3], axis=1).max() == 0
    after = follow(vo, world, poses[30:], first=35)
    assert all(r.state == TRACKING for r in after) and after[-1].segment == 0


def test_every_image_twice():
    """A camera at half the rate of its stamps: the motion model alternates, tracking does not mind."""
    world, poses = World(), drive(40)
    vo, twice = odometry(world), []
    for i, pose in enumerate(poses):
        image = world.image(pose, i, depth_noise=0.1)
        twice += [vo.track(0.1 * i, image), vo.track(0.1 * i + 0.05, image)]
    assert all(r.state == TRACKING for r in twice[20:])
    assert ate(vo, [p for p in poses for _ in range(2)]) < 0.15


# ---------------------------------------------------------------- darkness and dirt


@pytest.mark.parametrize('noise', [False, True])
def test_a_second_of_darkness(noise):
    """No keypoints, or only noise, for 1 s on the move: the first images with light continue the old map."""
    world, poses = World(), drive(55)
    vo = odometry(world)
    follow(vo, world, poses[:30])
    dark = [vo.track(3.0 + 0.1 * i, garbage(i) if noise else world.empty()) for i in range(10)]
    assert all(r.state == LOST and np.diag(r.covariance).min() >= 1e5 for r in dark)
    assert np.linalg.norm(positions(dark) - dark[0].pose[:3, 3], axis=1).max() < 1e-9
    after = follow(vo, world, poses[40:], first=40)
    found = next(i for i, r in enumerate(after) if r.state == TRACKING)
    assert found <= 9 and after[-1].segment == 0, 'tracking within 1 s of light, in the same map'
    lit = np.r_[0:30, 40 + found : 55]
    assert ate(vo, poses, lit) < 0.3


def test_darkness_and_back_where_it_was_before():
    """Carried back in the dark to a place of two seconds before: the old map knows it at once."""
    world, poses = World(), drive(40)
    vo = odometry(world)
    before = follow(vo, world, poses)
    for i in range(10):
        vo.track(4.0 + 0.1 * i, world.empty())
    after = follow(vo, world, poses[18:24], first=50)
    assert after[0].state == TRACKING and after[-1].segment == 0
    np.testing.assert_allclose(positions(after), positions(before[18:24]), atol=0.25)


def test_the_global_descriptor_finds_the_place():
    """With global descriptors the keyframe to look at is the one that looks alike, not the newest."""
    world, poses = World(), drive(40)
    vo = odometry(world, relocalize_keyframes=1)

    def describe(i):
        angle_ = 0.07 * i
        return np.array([np.cos(angle_), np.sin(angle_)], np.float32)

    for i, pose in enumerate(poses):
        vo.track(0.1 * i, world.image(pose, i, depth_noise=0.1), describe(i))
    asked = []
    vo._match = lambda keyframe, frame, matcher=None: asked.append(keyframe.stamp) or np.zeros((0, 2), int)
    vo.track(4.0, world.image(poses[18], 40), describe(39))
    asked.clear()
    vo.track(4.1, world.image(poses[18], 41), describe(18))
    assert asked[1] == pytest.approx(1.8, abs=0.25)


def test_half_the_lens_is_covered():
    """Dirt on the left half from one frame on: fewer points, the same drive, a larger covariance."""
    world, poses = World(), drive(50)
    vo = odometry(world)
    follow(vo, world, poses[:25])
    results = []
    for i in range(25, 50):
        keypoints = world.image(poses[i], i, depth_noise=0.1)
        results.append(vo.track(0.1 * i, keypoints.select(keypoints.xy[:, 0] > 320)))
    assert all(r.state == TRACKING for r in results)
    assert ate(vo, poses) < 0.25


def test_blur_makes_it_unsure_not_wrong():
    """Half a second of two pixels of noise and a third of the keypoints: tracked, with a wider covariance."""
    world, poses = World(), drive(50)
    vo = odometry(world)
    sharp = follow(vo, world, poses[:30])
    blurred = follow(vo, world, poses[30:35], first=30, noise_px=2.0, max_keypoints=100)
    after = follow(vo, world, poses[35:], first=35)
    assert all(r.state == TRACKING for r in blurred + after)
    assert sigma(blurred[-1]) > 1.3 * sigma(sharp[-1])
    assert ate(vo, poses) < 0.3


def test_a_jump_of_exposure():
    """Descriptors that all change at once, by a third of their length: tracked on, nothing lost."""
    world, poses = World(), drive(50)
    shift = np.random.default_rng(5).normal(0, 0.06, DESCRIPTOR_DIM)

    def change(keypoints):
        descriptors = keypoints.descriptors + shift.astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        return replace(keypoints, descriptors=descriptors)

    vo = odometry(world)
    results = []
    for i, pose in enumerate(poses):
        keypoints = world.image(pose, i, depth_noise=0.1)
        results.append(vo.track(0.1 * i, change(keypoints) if i % 20 >= 10 else keypoints))
    assert all(r.state == TRACKING for r in results[10:])
    assert ate(vo, poses) < 0.15


def test_few_keypoints_make_a_large_covariance():
    """Low texture: a quarter of the points makes each pose less sure, and the numbers say so."""
    world, poses = World(), drive(40)
    many, few = odometry(world, scale_source='none'), odometry(world, scale_source='none')
    follow(many, world, poses[:25])
    follow(few, world, poses[:25])
    rich = follow(many, world, poses[25:30], first=25)
    poor = follow(few, world, poses[25:30], first=25, max_keypoints=60)
    assert all(r.state == TRACKING for r in poor)
    for a, b in zip(rich, poor):
        assert sigma(b) > 1.3 * sigma(a)
        assert np.trace(b.covariance[:3, :3]) > np.trace(a.covariance[:3, :3])


def test_keypoints_that_are_not_numbers():
    """NaN pixels are as good as not there."""
    world, poses = World(), drive(30)
    with_nan, without = odometry(world), odometry(world)
    for i, pose in enumerate(poses):
        keypoints = world.image(pose, i, depth_noise=0.1)
        number = np.arange(len(keypoints)) % 7 > 0
        keypoints.xy[~number] = np.nan
        a, b = with_nan.track(0.1 * i, keypoints), without.track(0.1 * i, keypoints.select(number))
        # the matcher sees them all the same, so that matches may differ, but little
        np.testing.assert_allclose(a.pose, b.pose, atol=0.3)
    assert a.state == b.state == TRACKING


# ---------------------------------------------------------------- time and images


def test_time_may_jump_ahead():
    """A pause of a minute at rest: no motion model over it, the same map."""
    world, poses = World(), drive(40)
    vo = odometry(world)
    follow(vo, world, poses[:25])
    results = [vo.track(60 + 0.1 * i, world.image(poses[i], i, depth_noise=0.1)) for i in range(25, 40)]
    assert all(r.state == TRACKING for r in results) and results[-1].segment == 0


def test_an_image_of_another_shape_is_another_camera():
    """From 640 × 480 to 480 × 480 and back: thresholds and rays follow, tracking goes on."""
    world, poses = World(), drive(40)
    vo = odometry(world)
    follow(vo, world, poses[:25])
    squeezed = world.camera.scaled(480, 480)
    results = follow(vo, world, poses[25:32], first=25, camera=squeezed)
    results += follow(vo, world, poses[32:], first=32)
    assert all(r.state == TRACKING for r in results) and ate(vo, poses) < 0.15


# ---------------------------------------------------------------- long days


def test_a_long_run_takes_no_more_memory():
    """Round and round in a room: the map, its arrays and the trajectory stop growing."""
    world = World(n_points=3000, low=(-8, -3, -8), high=(8, 2, 8))
    vo = odometry(world, map_keyframes=12, trajectory_frames=200)
    sizes = []
    for i in range(360):
        a = 2 * np.pi * i / 90
        pose = pose_at(2 * np.cos(a), 0, 2 * np.sin(a), -a)
        result = vo.track(0.1 * i, world.image(pose, i, min_depth=1.0, depth_noise=0.1, max_keypoints=200))
        vo.finish()
        if i >= 180 and i % 90 == 89:
            history = sum(len(one._history) for _, one in vo._scale._filters)
            sizes.append((len(vo._map.alive), len(vo._map.keyframes), len(vo._records), history))
    assert result.state == TRACKING
    assert len(vo.trajectory()) == len(vo.tracked()) == 200
    assert vo.trajectory()[-1][0] == pytest.approx(35.9)
    assert max(size[0] for size in sizes) <= 8192
    assert all(size[1] == 12 and size[2] == 200 and size[3] <= 200 for size in sizes)


def test_a_released_keyframe_keeps_nothing_large():
    """What the trajectory refers to after a keyframe has left the map is its pose, not its descriptors."""
    world = World(n_points=8000, high=(12, 2, 200))
    vo = odometry(world, map_keyframes=5)
    follow(vo, world, drive(60, step=1.0), max_keypoints=150)
    vo.finish()
    anchors = {id(r._anchor): r._anchor for r in vo._records if r._anchor is not None}.values()
    old = [a for a in anchors if not any(a is k for k in vo._map.keyframes)]
    assert len(old) > 5
    assert all(a.keypoints is None and a.rays is None and a.point_ids is None for a in old)
    np.testing.assert_allclose(inverse(old[0].world_to_camera), old[0].pose)
