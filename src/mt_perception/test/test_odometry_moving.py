"""Things that move: left out by their class, and found out by residuals where no class gives them away."""

import numpy as np
import pytest

from mt_perception.evaluation import trajectory as metrics
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry, motion_check
from mt_perception.odometry.classes import Classes, ids_of
from mt_perception.odometry.frame import Frame
from mt_perception.odometry.geometry import inverse
from mt_perception.odometry.local_map import LocalMap
from mt_perception.odometry.locator import Locator
from mt_perception.odometry.mapping import Mapper
from mt_perception.types import Keypoints
from synthetic_world import Traffic, drive, pose_at

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


def test_classes_are_found_by_name():
    """Spelling does not matter, names that a network lacks do not either, and ids need not be consecutive."""
    np.testing.assert_array_equal(ids_of(CAMVID, OdometryParameters().movable_classes), [8, 9, 10])
    np.testing.assert_array_equal(ids_of({26: 'Car ', 0: 'road', 30: 'Traffic-Light'}, ['car']), [26])
    np.testing.assert_array_equal(ids_of({7: 'Lane Marking'}, ['lane_marking', 'x']), [7])
    assert len(Classes.of(CAMVID, OdometryParameters(ignore_movable=False)).movable) == 0
    assert len(Classes.of((), OdometryParameters(ignore_movable=True)).movable) == 0


def test_movable_keypoints_go_only_when_enough_others_remain():
    """Strongest first stays; with too few others all stay; unknown classes are not movable."""
    class_id = np.array([8, 0, 255, 10, 3, 8], np.uint8)
    keypoints = Keypoints.create(
        np.arange(12).reshape(6, 2), np.ones(6), np.eye(6), (640, 480), class_id=class_id
    )
    classes = Classes.of(CAMVID, OdometryParameters(ignore_movable=True))
    np.testing.assert_array_equal(classes.without_movable(keypoints, 3).class_id, [0, 255, 3])
    assert classes.without_movable(keypoints, 4) is keypoints
    assert Classes().without_movable(keypoints, 0) is keypoints


def crossing(n_body):
    """A truck that crosses ahead from the left and stays in view for 40 of 60 frames."""
    return Traffic(lambda i: np.array([-14 + 0.5 * i, 0, 12 + 0.6 * i]), (4, 3, 4), n_body, CAR)


def ate(world, poses, class_names=(), **parameters):
    vo = VisualOdometry(world.camera, NearestMatcher(), OdometryParameters(**parameters), class_names)
    for i, pose in enumerate(poses):
        keypoints = world.image(pose, i, depth_noise=0.1)
        result = vo.track(i * 0.1, keypoints)
        left_out = (keypoints.class_id == CAR).sum() if class_names and vo.parameters.ignore_movable else 0
        assert result.n_movable == left_out
    assert vo.state == OdometryState.TRACKING and vo.segment == 0
    estimate = np.array([pose for _, pose in vo.trajectory()])
    return metrics.evaluate(np.array(poses), estimate)[0]['ate_rmse_sim3_m']


def test_a_truck_over_a_third_of_the_points_is_left_out_by_its_class():
    """With its class known 36 m of drive are as good as without a truck; unknown, they are not."""
    world, poses = crossing(140), drive(60)
    share = [(world.image(pose, i).class_id == CAR).mean() for i, pose in enumerate(poses)]
    assert max(share) > 0.35
    assert ate(world, poses, CAMVID, ignore_movable=True) < 0.05
    assert ate(world, poses, CAMVID, ignore_movable=False) > 0.1


def test_a_truck_ahead_from_the_start_is_not_taken_for_the_world():
    """At the same speed as the camera nothing of it moves in the image: the map must not start from it."""
    world = Traffic(lambda i: np.array([0.8, 0, 9 + 0.6 * i]), (4, 3, 4), 80, CAR)
    assert ate(world, drive(40), motion_check=True) < 0.2


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
