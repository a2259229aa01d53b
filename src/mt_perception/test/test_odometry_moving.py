"""Things that move: left out by their class, and found out by residuals where no class gives them away."""

from types import SimpleNamespace

import numpy as np
import pytest

from mt_perception.evaluation import trajectory as metrics
from mt_perception.evaluation.odometry import movable_share
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry, motion_check
from mt_perception.odometry.classes import Classes, ids_of
from mt_perception.odometry.frame import Frame
from mt_perception.odometry.geometry import inverse
from mt_perception.odometry.local_map import LocalMap
from mt_perception.odometry.locator import Locator
from mt_perception.odometry.mapping import Mapper
from mt_perception.odometry.movable import depth_offset, stand_still
from mt_perception.types import Keypoints
from synthetic_world import Traffic, World, drive, pose_at

CAMVID = [
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
]
CAR = 8
ON = {'ignore_movable': True, 'motion_check': True}


def test_the_share_of_movable_keypoints_is_of_all_frames():
    """Three of ten keypoints, counted over frames of different sizes; none without keypoints."""
    results = [SimpleNamespace(n_keypoints=n, n_movable=m) for n, m in ((2, 1), (8, 2))]
    assert movable_share(results) == 0.3
    assert movable_share([]) is None


def test_classes_are_found_by_name():
    """Spelling does not matter, names that a network lacks do not either, and ids need not be consecutive."""
    np.testing.assert_array_equal(ids_of(CAMVID, OdometryParameters().movable_classes), [8, 9, 10])
    np.testing.assert_array_equal(ids_of({26: 'Car ', 0: 'road', 30: 'Traffic-Light'}, ['car']), [26])
    np.testing.assert_array_equal(ids_of({7: 'Lane Marking'}, ['lane_marking', 'x']), [7])
    assert len(Classes.of(CAMVID, OdometryParameters(ignore_movable=False)).movable) == 0
    assert len(Classes.of((), OdometryParameters(ignore_movable=True)).movable) == 0


def test_keypoints_count_as_movable_only_when_enough_others_remain():
    """With too few others none does; unknown classes never do."""
    class_id = np.array([8, 0, 255, 10, 3, 8], np.uint8)
    keypoints = Keypoints.create(
        np.arange(12).reshape(6, 2), np.ones(6), np.eye(6), (640, 480), class_id=class_id
    )
    classes = Classes.of(CAMVID, OdometryParameters(ignore_movable=True))
    np.testing.assert_array_equal(classes.is_movable(keypoints, 3), [1, 0, 0, 1, 0, 1])
    assert not classes.is_movable(keypoints, 4).any()
    assert not Classes().is_movable(keypoints, 0).any()


def test_depth_tells_what_stands_still():
    """Ten points say that map depths are half the given ones; of the movable one fits, one does not."""
    known = np.linspace(2, 20, 10)
    offset = depth_offset(2 * known, known)
    assert offset == pytest.approx(np.log(2))
    depth, local = np.array([10.0, 10.0, np.nan, 10.0]), np.array([5.5, 9.0, 5.0, -1.0])
    np.testing.assert_array_equal(stand_still(depth, local, offset, 0.3), [1, 0, 0, 0])
    assert not stand_still(depth, local, offset, 0.0).any()
    assert not stand_still(depth, local, depth_offset(depth[:9], local[:9]), 0.3).any()


def leading(n_body):
    """A truck ahead at the speed of the camera: nothing of it moves in the image but for the swerving."""
    return Traffic(lambda i: np.array([0.8, 0, 9 + 0.6 * i]), (4, 3, 4), n_body, CAR)


def ate(world, poses, class_names=(), **parameters):
    parameters = OdometryParameters(**{**ON, **parameters})
    vo = VisualOdometry(world.camera, NearestMatcher(), parameters, class_names)
    for i, pose in enumerate(poses):
        keypoints = world.image(pose, i, depth_noise=0.1)
        result = vo.track(i * 0.1, keypoints)
        n_movable = (keypoints.class_id == CAR).sum() if class_names and vo.parameters.ignore_movable else 0
        assert result.n_movable == n_movable and result.n_keypoints == len(keypoints)
    assert vo.state == OdometryState.TRACKING and vo.segment == 0
    estimate = np.array([pose for _, pose in vo.trajectory()])
    return metrics.evaluate(np.array(poses), estimate)[0]['ate_rmse_sim3_m']


def test_a_truck_over_a_third_of_the_points_is_left_out_by_its_class():
    """With its class known 24 m of drive are good; unknown, the truck is taken for the world."""
    world, poses = leading(140), drive(40)
    share = [(world.image(pose, i).class_id == CAR).mean() for i, pose in enumerate(poses)]
    assert min(share) > 0.3
    assert ate(world, poses, CAMVID) < 0.2
    assert ate(world, poses, CAMVID, ignore_movable=False) > 0.5


def test_a_truck_that_crosses_is_left_out_by_its_class():
    """From the left through the picture, at most 39 % of the points."""
    world = Traffic(lambda i: np.array([-14 + 0.5 * i, 0, 12 + 0.6 * i]), (4, 3, 4), 140, CAR)
    assert ate(world, drive(60), CAMVID) < 0.05


def test_parked_cars_help():
    """Half of all points are of a movable class and stand still: they are used once depth has shown it."""
    world, poses = World(), drive(40)
    world.classes[::2] = CAR

    def run(**parameters):
        parameters = OdometryParameters(**ON, **parameters)
        vo = VisualOdometry(world.camera, NearestMatcher(), parameters, CAMVID)
        results = [vo.track(0.1 * i, world.image(p, i, depth_noise=0.1)) for i, p in enumerate(poses)]
        estimate = np.array([pose for _, pose in vo.trajectory()])
        return results, metrics.evaluate(np.array(poses), estimate)[0]['ate_rmse_sim3_m']

    results, error = run()
    without, error_without = run(movable_depth_tolerance=0.0)
    assert error < 0.06 and error_without < 0.06  # of 24 m
    assert results[-1].n_movable > 80
    assert results[-1].n_inliers > 1.2 * without[-1].n_inliers


def test_a_truck_ahead_from_the_start_is_not_taken_for_the_world():
    """A fifth of the points, class unknown: the map must not start from it."""
    assert ate(leading(80), drive(40)) < 0.2


@pytest.fixture
def two_groups():
    """
    A camera that has moved by 0.3 m, and 140 map points it sees.

    60 old ones keep still; 80 new ones have moved together by 0.5 m.

    :return: function of the parameters to (Locator, frame, ids, rows).
    """
    rng = np.random.default_rng(0)
    world = Traffic(lambda i: np.zeros(3), n_body=1)
    points = rng.uniform((-6, -3, 8), (6, 2, 30), (140, 3))
    group = np.arange(140) >= 60
    descriptors = rng.normal(size=(140, 16))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)

    def keypoints(pose, moved):
        seen = points + group[:, None] * moved * np.array([0.5, 0.0, 0.0])
        xy = world.camera.project((seen - pose[:3, 3]) @ pose[:3, :3])
        return Keypoints.create(xy, np.ones(140), descriptors, (640, 480))

    def make(**parameters):
        first = Frame(0.0, keypoints(np.eye(4), 0), world.camera)
        first.id = 0
        local_map = LocalMap(16)
        local_map.keyframes.append(first)
        ids = local_map.add_points(points, first.descriptors, first)
        local_map.observe(first, np.arange(140), ids)
        local_map.found[ids[~group]] = 20
        frame = Frame(0.1, keypoints(pose_at(z=0.3), 1), world.camera)
        return Locator(local_map, OdometryParameters(**parameters)), frame, ids, np.arange(140)

    return make


def test_a_group_that_moves_together_does_not_win(two_groups):
    """By number the 80 new points would win and put the camera half a metre aside; by trust they do not."""
    locator, frame, ids, rows = two_groups(motion_check=True)
    estimate = locator.locate(frame, ids, rows)
    np.testing.assert_allclose(inverse(estimate.world_to_camera)[:3, 3], [0, 0, 0.3], atol=0.01)
    locator, frame, ids, rows = two_groups(motion_check=False)
    estimate = locator.locate(frame, ids, rows)
    np.testing.assert_allclose(inverse(estimate.world_to_camera)[:3, 3], [-0.5, 0, 0.3], atol=0.05)


def test_points_that_keep_not_fitting_are_removed(two_groups):
    """Five misfits in a row, and a point counts as moving; one in three does it no harm."""
    local_map = two_groups()[0].map
    ids = np.arange(3)  # that never fits, sometimes does not, and always does
    for i in range(30):
        fits = np.array([False, i % 3 > 0, True])
        motion_check.note(local_map, ids[fits], ids[~fits])
        assert motion_check.moving(local_map, ids).tolist() == [i >= 4, False, False]
    new, misfit, proved = motion_check.trust(local_map, np.array([139, 1, 2]))
    assert new < misfit < proved < 1


def test_a_matched_point_that_does_not_fit_is_noted(two_groups):
    """The check gets its misfits from tracking itself; at the next keyframe the movers leave the map."""
    locator, frame, ids, rows = two_groups(motion_check=True)
    for _ in range(6):
        estimate, found, where = locator.from_pairs(
            frame, locator.map.keyframes[0], np.stack([rows, rows], 1)
        )
        frame.point_ids[:] = -1
        frame.point_ids[where[estimate.inlier]] = found[estimate.inlier]
        frame.world_to_camera = estimate.world_to_camera
        locator.learn(frame)
        locator.similarity = None  # all descriptors are equal here, so the limit would be 1
    keyframe = locator.map.keyframes[0]
    Mapper(locator.map, locator.parameters).cull(keyframe)
    assert locator.map.alive[ids[:60]].all() and locator.map.alive[ids[60:]].sum() <= 2
