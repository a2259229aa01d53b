"""The place recognition node as a process: loops, map → odom, saved maps, localisation, what it refuses."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from mt_msgs.msg import GlobalDescriptor, KeypointArray, LoopClosure, VisualOdometryState
from mt_msgs.srv import GetPath, LoadMap, Localize, SaveMap
from mt_perception.nodes.conversions import (
    info_from_camera,
    pose_from_message,
    pose_to_message,
    seconds_from_stamp,
    stamp_from_seconds,
    transform_from_message,
)
from mt_perception.nodes.feature_messages import global_descriptor_to_message, keypoints_to_message
from mt_perception.nodes.frames import OPTICAL_TO_BASE, base_covariance, base_pose
from mt_perception.nodes.qos import output_qos
from mt_perception.odometry.geometry import inverse

pytestmark = pytest.mark.dds

WAIT_S = 120.0
LAP, N = 60, 68
DRIFT = (0.02, 0.5, 0.015)
PERIOD = 0.5  # seconds between keyframes
NODE = 'place_recognition'


@pytest.fixture(scope='module')
def ring():
    """A lap and an eighth of a synthetic ring: (:class:`Places`, true poses, keyframes with a drift)."""
    from places_world import Places, lap

    places = Places()
    truth = lap(places, N, N / LAP)
    return places, truth, places.keyframes(truth, DRIFT, seed=9)


class Alone:
    """The node, fed by the test with what perception and odometry would publish."""

    def __init__(self, listener, diagnostics, process, camera):
        self.listener, self.diagnostics, self.process, self.camera = listener, diagnostics, process, camera
        self.transforms, self.loops, self.paths, self.bases, self.sent = [], [], [], {}, 0
        self.graphs = []
        listener.subscribe(TFMessage, '/tf', self._on_tf, output_qos(500))
        listener.subscribe(
            LoopClosure, f'{NODE}/loop_closures', lambda m, i: self.loops.append(m), output_qos(100)
        )
        listener.subscribe(Path, f'{NODE}/path', lambda m, i: self.paths.append(m))
        listener.subscribe(MarkerArray, f'{NODE}/graph', lambda m, i: self.graphs.append(m))
        self.publishers = {
            topic: listener.node.create_publisher(message_type, topic, output_qos(100))
            for topic, message_type in (
                ('visual_odometry/keyframes', KeypointArray),
                ('visual_odometry/odometry', Odometry),
                ('visual_odometry/state', VisualOdometryState),
                ('perception/global_descriptor', GlobalDescriptor),
                ('perception/keypoints', KeypointArray),
                ('camera_info', CameraInfo),
            )
        }
        diagnostics.wait_active(process)
        for publisher in self.publishers.values():
            assert listener.wait_for(
                lambda p=publisher: p.get_subscription_count() > 0, WAIT_S, process.check
            )
        assert listener.wait_for(lambda: self.value('tf subscribers') == '1', WAIT_S)

    def _on_tf(self, message, info):
        for entry in message.transforms:
            if entry.header.frame_id == 'map':
                assert entry.child_frame_id == 'odom'
                stamp = seconds_from_stamp(entry.header.stamp)
                self.transforms.append((stamp, transform_from_message(entry.transform)))

    def value(self, key):
        return self.diagnostics.value(NODE, key)

    def image(self, view, stamp, frame_id='camera_optical_frame'):
        """Publish what perception says about an image; return its header."""
        header = Header(stamp=stamp_from_seconds(stamp), frame_id=frame_id)
        self.publishers['camera_info'].publish(info_from_camera(self.camera, header))
        descriptor = global_descriptor_to_message(view.global_descriptor, view.model_id, header)
        self.publishers['perception/global_descriptor'].publish(descriptor)
        self.publishers['perception/keypoints'].publish(keypoints_to_message(view.keypoints, header))
        return header

    def keyframe(self, keyframe, stamp):
        """Publish a keyframe with its odometry."""
        header = self.image(keyframe.view, stamp)
        odometry = Odometry(header=Header(stamp=header.stamp, frame_id='odom'), child_frame_id='base_link')
        base = base_pose(keyframe.pose, OPTICAL_TO_BASE)
        odometry.pose.pose = pose_to_message(base)
        covariance = base_covariance(keyframe.covariance, keyframe.pose, OPTICAL_TO_BASE)
        odometry.pose.covariance = covariance.ravel()
        self.bases[round(stamp, 6)] = base
        self.publishers['visual_odometry/odometry'].publish(odometry)
        state = VisualOdometryState(header=odometry.header, scale_sigma=float('inf'))
        self.publishers['visual_odometry/state'].publish(state)
        message = keypoints_to_message(keyframe.view.keypoints, header, 'float16')
        self.publishers['visual_odometry/keyframes'].publish(message)
        self.sent += 1

    def drive(self, keyframes, start, at_a_time=8):
        """Publish keyframes, a few at a time, until all are in the map."""
        for k, keyframe in enumerate(keyframes):
            self.keyframe(keyframe, start + PERIOD * k)
            if (k + 1) % at_a_time == 0 or k == len(keyframes) - 1:
                done = self.listener.wait_for(
                    lambda: int(self.value('keyframes taken') or 0) >= self.sent, WAIT_S, self.process.check
                )
                assert done, self.diagnostics.status

    def call(self, service, name, **fields):
        response = self.listener.call(
            service, f'{NODE}/{name}', service.Request(**fields), WAIT_S, self.process.check
        )
        assert response is not None
        return response


def start(nodes, **parameters):
    return nodes.start(
        NODE, matcher='nearest', diagnostics_period=0.1, path_period=0.0, exclude_s=0.0, **parameters
    )


def in_map(truth, angle_pose):
    """Pose of the base in the frame map, whose origin is the base at the first keyframe."""
    return base_pose(inverse(truth[0]) @ angle_pose, OPTICAL_TO_BASE)


def test_a_loop_maps_and_localisation(nodes, listener, diagnostics, ring, tmp_path):
    """Once around: loops are published, map → odom moves smoothly, the map is saved and found again."""
    places, truth, keyframes = ring
    alone = Alone(listener, diagnostics, start(nodes, correction_speed=2.0), places.world.camera)
    refused = alone.call(SaveMap, 'save_map', path=str(tmp_path / 'empty'))
    assert not refused.success and 'no keyframes yet' in refused.message
    assert not alone.call(GetPath, 'get_path').success
    assert 'there is no image' in alone.call(Localize, 'localize').message
    alone.drive(keyframes, 10.0)

    # loops, each with its two images and the motion between them
    assert listener.wait_for(lambda: len(alone.loops) >= 3, WAIT_S)
    stamps = [10.0 + PERIOD * k for k in range(N)]
    for loop in alone.loops:
        ends = [seconds_from_stamp(loop.from_stamp), seconds_from_stamp(loop.to_stamp)]
        earlier, later = (int(np.abs(np.array(stamps) - end).argmin()) for end in ends)
        assert later - earlier > 40 and loop.header.stamp == loop.to_stamp
        assert loop.from_frame_id == loop.to_frame_id == loop.header.frame_id == 'camera_optical_frame'
        exact = inverse(truth[earlier]) @ truth[later]
        found = pose_from_message(loop.relative_pose.pose)
        assert np.linalg.norm(found[:3, 3] - exact[:3, 3]) < 0.5
        covariance = np.array(loop.relative_pose.covariance).reshape(6, 6)
        assert np.linalg.eigvalsh(covariance).min() > 0 and loop.is_metric
        assert 30 <= loop.inliers <= loop.matches and 0.5 < loop.score <= 1.001

    # the corrected path is nearer to the truth than odometry's
    response = alone.call(GetPath, 'get_path')
    assert response.success and response.is_metric and response.path.header.frame_id == 'map'
    path = np.array([pose_from_message(pose.pose) for pose in response.path.poses])
    assert len(path) == N
    exact = np.array([in_map(truth, pose) for pose in truth])
    drifted = np.array([base_pose(keyframe.pose, OPTICAL_TO_BASE) for keyframe in keyframes])
    gap = [np.linalg.norm(poses[-1, :3, 3] - exact[-1, :3, 3]) for poses in (path, drifted)]
    assert gap[0] < 0.4 * gap[1], gap
    assert listener.wait_for(lambda: alone.paths and len(alone.paths[-1].poses) == N, WAIT_S)

    # what RViz shows: each keyframe on the path, and a line for each loop, from one keyframe to another
    assert listener.wait_for(lambda: any(len(m.points) == N for m in alone.graphs[-1].markers), WAIT_S)
    shown = {marker.ns: marker for marker in alone.graphs[-1].markers}
    keyframes_shown = [(point.x, point.y, point.z) for point in shown['keyframes'].points]
    np.testing.assert_allclose(keyframes_shown, path[:, :3, 3], atol=1e-6)
    ends = [(point.x, point.y, point.z) for point in shown['loops'].points]
    assert len(ends) == 2 * len(alone.loops) and set(ends) <= set(keyframes_shown)
    assert shown['keyframes'].header.frame_id == 'map' and shown['loops'].type == shown['loops'].LINE_LIST
    assert shown['saved_keyframes'].action == shown['saved_keyframes'].DELETE

    # map → odom: one for each odometry message, the identity before the loop, never faster than allowed
    assert listener.wait_for(lambda: len(alone.transforms) == N, WAIT_S)
    before = None
    for stamp, transform in alone.transforms:
        if stamp < stamps[50]:
            np.testing.assert_allclose(transform, np.eye(4), atol=1e-9)
        base = alone.bases[round(stamp, 6)]
        if before is not None:
            moved = np.linalg.norm((transform @ base - before @ base)[:3, 3])
            assert moved <= 2.0 * PERIOD + 1e-6
        before = transform
    assert np.linalg.norm(before[:3, 3]) > 0.1

    # save, and be found in it again: first one image, then a run that starts somewhere else
    saved = alone.call(SaveMap, 'save_map', path=str(tmp_path / 'ring.map'))
    assert saved.success and saved.keyframes >= 55 and saved.path == str(tmp_path / 'ring.map')
    assert alone.call(Trigger, 'reset').success
    loaded = alone.call(LoadMap, 'load_map', path=str(tmp_path / 'ring.map'))
    assert loaded.success and loaded.keyframes == saved.keyframes and loaded.is_metric
    diagnostics.wait_sentence(NODE, 'the place of this run in the map is not known yet')
    pose = places.pose(1.23)
    header = alone.image(places.view(pose, 400), 900.0)
    arrived = listener.wait_for(
        lambda: alone.call(Localize, 'localize', stamp=header.stamp).success, WAIT_S, alone.process.check
    )
    assert arrived
    found = alone.call(Localize, 'localize')
    assert found.success and found.pose.header.frame_id == 'map' and found.pose.header.stamp == header.stamp
    assert found.child_frame_id == 'base_link' and found.is_metric and found.inliers >= 25
    nearest = path[round(1.23 / 2 / np.pi * LAP)]
    assert np.linalg.norm(pose_from_message(found.pose.pose.pose)[:3, 3] - nearest[:3, 3]) < 2.0
    assert np.linalg.eigvalsh(np.array(found.pose.pose.covariance).reshape(6, 6)).min() > 0
    unknown = alone.call(Localize, 'localize', stamp=Time(sec=5))
    assert not unknown.success and 'no image of that stamp' in unknown.message

    alone.transforms.clear()
    again = places.keyframes(truth[20:30], DRIFT, first=500)
    alone.drive(again, 1000.0, at_a_time=1)
    assert listener.wait_for(lambda: alone.value('located') == 'True', WAIT_S)
    assert listener.wait_for(lambda: len(alone.transforms) >= 5, WAIT_S)
    stamp, transform = alone.transforms[-1]
    base = transform @ alone.bases[round(stamp, 6)]
    here = path[20 + round((stamp - 1000.0) / PERIOD)]
    assert np.linalg.norm(base[:3, 3] - here[:3, 3]) < 0.5, 'the robot stands where it stood on the first lap'


def test_files_and_images_that_cannot_be_used(nodes, listener, diagnostics, ring, tmp_path):
    """One sentence each, and what the node has stays."""
    from places_world import Places

    places, _, keyframes = ring
    alone = Alone(listener, diagnostics, start(nodes), places.world.camera)
    alone.drive(keyframes[:4], 0.0)
    saved = alone.call(SaveMap, 'save_map', path=str(tmp_path / 'a.map'))
    assert saved.success and saved.keyframes == 4
    data = (tmp_path / 'a.map').read_bytes()
    (tmp_path / 'short.map').write_bytes(data[:-100])
    (tmp_path / 'text.map').write_text('a map')
    for name, part in (
        ('short.map', 'damaged or truncated'),
        ('text.map', 'is not a map'),
        ('none.map', 'No such file'),
    ):
        response = alone.call(LoadMap, 'load_map', path=str(tmp_path / name))
        assert not response.success and part in response.message and name in response.message
        assert response.path == '' and response.keyframes == 0
    refused = alone.call(SaveMap, 'save_map', path='/nowhere/at.map')
    assert not refused.success and '/nowhere/at.map' in refused.message
    assert len(alone.call(GetPath, 'get_path').path.poses) == 4

    # keyframes of another model: an error, and the next right one is taken
    other = Places().keyframes([places.pose(0.5)], first=90)[0]
    other.pose, other.covariance = keyframes[4].pose, keyframes[4].covariance
    other.view.model_id = 'another'
    alone.keyframe(other, 50.0)
    alone.sent -= 1
    sentence = diagnostics.wait_sentence(NODE, "model 'another'")
    assert "'world'" in sentence and diagnostics.level(NODE) == 2
    alone.drive(keyframes[4:6], 60.0)
    assert listener.wait_for(lambda: 'another' not in diagnostics.sentence(NODE), WAIT_S)
    assert len(alone.call(GetPath, 'get_path').path.poses) == 6

    # a keyframe whose global descriptor never comes
    header = Header(stamp=stamp_from_seconds(70.0), frame_id='camera_optical_frame')
    message = keypoints_to_message(keyframes[6].view.keypoints, header, 'float16')
    alone.publishers['visual_odometry/keyframes'].publish(message)
    sentence = diagnostics.wait_sentence(NODE, 'keyframes come, but not what belongs to them')
    assert '/visual_odometry/odometry and ' in sentence
    assert '/visual_odometry/state and /perception/global_descriptor' in sentence


def test_a_map_file_that_is_damaged_ends_the_start(nodes, tmp_path):
    """Given as a parameter, it is read before the node is active."""
    (tmp_path / 'bad.map').write_bytes(b'PK rubbish')
    process = start(nodes, map_file=str(tmp_path / 'bad.map'))
    assert process.wait(WAIT_S) == 1
    assert "bad.map'" in process.last_words()


def test_with_perception_and_odometry(nodes, listener, diagnostics, corner_model, street, tmp_path):
    """All four nodes on the rendered street: its keyframes make a map in which its images are found."""
    perception = nodes.start('perception', model=str(corner_model), diagnostics_period=0.2)
    odometry = nodes.start('visual_odometry', matcher='nearest', diagnostics_period=0.2)
    places = start(nodes)
    last, transforms = {}, []
    listener.subscribe(
        Odometry, 'visual_odometry/odometry', lambda m, i: last.update(odometry=m), output_qos(100)
    )
    listener.subscribe(
        TFMessage,
        '/tf',
        lambda m, i: transforms.extend(t for t in m.transforms if t.header.frame_id == 'map'),
        output_qos(200),
    )
    diagnostics.wait_active(perception, odometry, places)
    player = nodes.start(
        'sequence_player', sequence=street, step='odometry', step_timeout=20.0, wait_for_info_subscribers=3
    )
    assert listener.wait_for(lambda: not player.running, 240, player.check)
    assert listener.wait_for(
        lambda: int(diagnostics.value(NODE, 'keyframes in the map') or 0) >= 3, WAIT_S, places.check
    ), diagnostics.status
    found = listener.call(Localize, f'{NODE}/localize', Localize.Request(), WAIT_S, places.check)
    assert found.success, found.message
    here = pose_from_message(last['odometry'].pose.pose)
    assert np.linalg.norm(pose_from_message(found.pose.pose.pose)[:3, 3] - here[:3, 3]) < 1.0
    assert found.pose.header.stamp == last['odometry'].header.stamp
    assert len(transforms) >= 20 and transforms[-1].child_frame_id == 'odom'
    saved = listener.call(SaveMap, f'{NODE}/save_map', SaveMap.Request(path=str(tmp_path / 's.map')), WAIT_S)
    assert saved.success and saved.keyframes >= 3
