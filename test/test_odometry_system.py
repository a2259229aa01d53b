"""Player, perception and odometry as processes: what arrives, and that it is what the offline core says."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import LabelInfo, VisionClass

from mt_msgs.msg import KeypointArray, VisualOdometryState
from mt_msgs.srv import SaveTrajectory
from mt_perception.camera import Camera
from mt_perception.evaluation.odometry import follow
from mt_perception.matching import create_matcher
from mt_perception.nodes.conversions import (
    image_from_array,
    info_from_camera,
    pose_from_message,
    seconds_from_stamp,
    stamp_from_seconds,
    stamp_key,
    transform_from_message,
    transform_to_message,
)
from mt_perception.nodes.feature_messages import keypoints_to_message
from mt_perception.nodes.frames import OPTICAL_TO_BASE, base_pose
from mt_perception.nodes.qos import latched_qos, output_qos
from mt_perception.odometry import OdometryParameters, VisualOdometry
from mt_perception.perception import PerceptionPipeline
from mt_perception.perception.sampling import with_depth
from mt_perception.sequences import open_sequence
from mt_perception.types import Keypoints

pytestmark = pytest.mark.dds

WAIT_S = 60.0
FRAMES = 30


@pytest.fixture(scope='module')
def offline(tmp_path_factory, street):
    """Keypoints and trajectory of the sequence by the core of ``evaluate odometry``, without ROS."""
    from corner_model import write_corner_model

    model = write_corner_model(tmp_path_factory.mktemp('offline') / 'corners.onnx')
    sequence = open_sequence(street)
    features = Remembering(PerceptionPipeline(model, engine='onnxruntime'))
    outcome = follow(sequence, features, create_matcher('nearest'), progress=False)
    features.pipeline.close()
    return {'model': model, 'sequence': sequence, 'keypoints': features.keypoints, 'outcome': outcome}


class Remembering:
    """The pipeline, with the keypoints it gave."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.keypoints = []

    def process(self, *arguments):
        """Process an image and remember its keypoints."""
        result = self.pipeline.process(*arguments)
        self.keypoints.append(result.keypoints)
        return result


def read_tum(path):
    """Return {stamp in nanoseconds: [7] position and quaternion} of a TUM file."""
    rows = np.loadtxt(path, ndmin=2)
    return {round(row[0] * 1e9): row[1:] for row in rows}


class Ears:
    """Everything odometry publishes, by stamp."""

    def __init__(self, listener):
        self.listener = listener
        self.odometry, self.transforms, self.paths, self.points = {}, {}, [], []
        self.states = {}
        listener.subscribe(Odometry, 'visual_odometry/odometry', self._odometry, output_qos(200))
        listener.subscribe(TFMessage, '/tf', self._tf, output_qos(200))
        listener.subscribe(VisualOdometryState, 'visual_odometry/state', self._state, output_qos(200))
        listener.subscribe(Path, 'visual_odometry/path', lambda m, i: self.paths.append(m))
        listener.subscribe(PointCloud2, 'visual_odometry/map_points', lambda m, i: self.points.append(m))

    def _odometry(self, message, info):
        self.odometry[stamp_key(message.header.stamp)] = message

    def _state(self, message, info):
        self.states[stamp_key(message.header.stamp)] = message

    def _tf(self, message, info):
        for transform in message.transforms:
            self.transforms[stamp_key(transform.header.stamp)] = transform

    def pose(self, key):
        """Return the base pose of one frame."""
        return pose_from_message(self.odometry[key].pose.pose)


def test_online_is_offline(nodes, listener, diagnostics, offline, street, tmp_path):
    """Stepped through three processes, every frame arrives and the trajectory is the offline one."""
    model = str(offline['model'])
    perception = nodes.start('perception', model=model, engine='onnxruntime', diagnostics_period=0.2)
    odometry = nodes.start(
        'visual_odometry', matcher='nearest', diagnostics_period=0.2, path_period=0.0, map_period=0.0
    )
    ears = Ears(listener)
    headers = {}
    listener.subscribe(
        CameraInfo, 'camera_info', lambda m, i: headers.setdefault(stamp_key(m.header.stamp), m.header)
    )
    diagnostics.wait_active(perception, odometry)
    player = nodes.start(  # perception, odometry and this test hear camera_info
        'sequence_player', sequence=street, step='odometry', step_timeout=20.0, wait_for_info_subscribers=3
    )
    assert listener.wait_for(lambda: not player.running, 240, player.check), 'the player must end by itself'
    assert player.wait() == 0
    keys = [stamp_key(stamp_from_seconds(stamp)) for stamp in offline['sequence'].stamps]
    assert sorted(ears.odometry) == keys, 'every frame comes out, with its own stamp'
    assert sorted(headers) == keys
    assert {header.frame_id for header in headers.values()} == {'camera_optical_frame'}

    # each pose is the offline core's, carried over to the base
    for key, result in zip(keys, offline['outcome'].results, strict=True):
        message = ears.odometry[key]
        assert message.header.frame_id == 'odom'
        assert message.child_frame_id == 'base_link'
        assert np.allclose(ears.pose(key), base_pose(result.pose, OPTICAL_TO_BASE), atol=1e-6), key
        transform = ears.transforms[key]
        assert (transform.header.frame_id, transform.child_frame_id) == ('odom', 'base_link')
        assert np.allclose(transform_from_message(transform.transform), ears.pose(key), atol=1e-12)
    moved = ears.pose(keys[-1])
    assert moved[0, 3] > 5, 'driving ahead is +x (REP 103)'
    assert abs(moved[2, 3]) < 1
    covariance = np.array(ears.odometry[keys[-1]].pose.covariance).reshape(6, 6)
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    speed = ears.odometry[keys[-1]].twist.twist.linear
    step = np.linalg.inv(ears.pose(keys[-2])) @ moved
    assert speed.x == pytest.approx(step[0, 3] / 0.1, rel=1e-3)

    assert listener.wait_for(lambda: ears.paths and len(ears.points) > 0, WAIT_S)
    assert 2 <= len(ears.paths[-1].poses) <= FRAMES
    assert ears.points[-1].header.frame_id == 'odom'
    assert ears.points[-1].width > 40

    # the saved file is the offline core's corrected trajectory
    path = tmp_path / 'trajectory.txt'
    request = SaveTrajectory.Request(path=str(path))
    response = listener.call(
        SaveTrajectory, 'visual_odometry/save_trajectory', request, WAIT_S, odometry.check
    )
    assert response.success, response.message
    assert response.poses == FRAMES
    saved = read_tum(response.path)
    assert sorted(saved) == keys
    for stamp, pose in zip(offline['outcome'].stamps, offline['outcome'].poses, strict=True):
        row = saved[round(stamp * 1e9)]
        assert np.allclose(row[:3], pose[:3, 3], atol=1e-6)
        assert np.linalg.norm(row[3:]) == pytest.approx(1, abs=1e-6)
    assert list(tmp_path.glob('.trajectory*')) == []
    refused = listener.call(
        SaveTrajectory,
        'visual_odometry/save_trajectory',
        SaveTrajectory.Request(path='/nowhere/t.txt'),
        WAIT_S,
    )
    assert not refused.success
    assert '/nowhere/t.txt' in refused.message


class OdometryAlone:
    """The odometry node, fed with keypoints by the test."""

    def __init__(self, listener, diagnostics, process):
        self.listener = listener
        self.diagnostics = diagnostics
        self.process = process
        self.ears = Ears(listener)
        self.sent = []
        self.keypoints = listener.node.create_publisher(KeypointArray, 'perception/keypoints', output_qos())
        self.info = listener.node.create_publisher(CameraInfo, 'camera_info', output_qos())
        diagnostics.wait_active(process)
        assert listener.wait_for(lambda: self.keypoints.get_subscription_count() > 0, WAIT_S)
        assert listener.wait_for(lambda: self.info.get_subscription_count() > 0, WAIT_S)
        for topic in ('odometry', 'state'):
            assert listener.wait_for(
                lambda t=topic: diagnostics.value('visual_odometry', f'{t} subscribers') == '1', WAIT_S
            )

    def state(self, key):
        """Return the state of one frame."""
        assert self.listener.wait_for(lambda: key in self.ears.states, WAIT_S, self.process.check)
        return self.ears.states[key]

    def send(self, seconds, keypoints, camera=None, frame_id='camera_optical_frame', wait=True):
        """Publish one frame and wait for its odometry; return the key of its stamp."""
        header = Header(stamp=stamp_from_seconds(seconds), frame_id=frame_id)
        if camera is not None:
            self.info.publish(info_from_camera(camera, header))
        key = stamp_key(header.stamp)
        self.sent.append(key)
        self.keypoints.publish(keypoints_to_message(keypoints, header))
        if wait:
            arrived = self.listener.wait_for(lambda: key in self.ears.odometry, WAIT_S, self.process.check)
            assert arrived, self.diagnostics.status
        return key


def test_loss_reset_and_time_that_jumps(nodes, listener, diagnostics, offline):
    """Lost frames have a huge covariance and are announced; reset and a stamp far back start anew."""
    process = nodes.start('visual_odometry', matcher='nearest', diagnostics_period=0.1)
    alone = OdometryAlone(listener, diagnostics, process)
    camera, keypoints = offline['sequence'].camera, offline['keypoints']

    # keypoints before the camera: an error that says so, and no frame is forgotten
    first = alone.send(0.0, keypoints[0], wait=False)
    sentence = diagnostics.wait_sentence('visual_odometry', 'no camera_info on /camera_info')
    assert 'odometry cannot start' in sentence
    assert diagnostics.level('visual_odometry') == 2
    alone.send(0.1, keypoints[1], camera)
    assert first in alone.ears.odometry, 'the frame that waited for the camera came out too'

    for number in range(2, 20):
        key = alone.send(number * 0.1, keypoints[number])
    known = np.array(alone.ears.odometry[key].pose.covariance).reshape(6, 6)
    assert known[0, 0] < 100, 'the scale of depth is not sure, but all else is'
    assert known[1, 1] < 1 and known[5, 5] < 0.01
    state = alone.state(key)
    assert state.state == VisualOdometryState.TRACKING and state.inliers >= 20 and state.segment == 0
    assert state.header.frame_id == 'odom'
    assert alone.state(first).state == VisualOdometryState.INITIALIZING
    assert listener.wait_for(lambda: diagnostics.value('visual_odometry', 'odometry') == 'tracking', WAIT_S)

    random = np.random.default_rng(3)
    rubbish = random.standard_normal((200, 64)).astype(np.float32)
    rubbish /= np.linalg.norm(rubbish, axis=1, keepdims=True)
    blind = Keypoints.create(
        random.uniform(0, 400, (200, 2)), random.uniform(0, 1, 200), rubbish, (640, 480), model_id='corners-1'
    )
    lost = alone.send(2.0, blind)
    covariance = np.array(alone.ears.odometry[lost].pose.covariance).reshape(6, 6)
    assert covariance[0, 0] >= 1e6
    assert covariance[5, 5] >= 1e6
    assert np.allclose(alone.ears.pose(lost), alone.ears.pose(key)), 'the pose is held'
    assert alone.state(lost).state == VisualOdometryState.LOST
    diagnostics.wait_sentence('visual_odometry', 'odometry is lost')
    found = alone.send(2.1, keypoints[20])
    assert alone.ears.odometry[found].pose.covariance[0] < 100, 'it finds the map again'
    assert listener.wait_for(lambda: 'lost' not in diagnostics.sentence('visual_odometry'), WAIT_S)

    before = len(alone.ears.odometry)
    received = len(alone.sent)
    alone.send(2.1, keypoints[20], wait=False)  # the same frame again
    assert listener.wait_for(
        lambda: int(diagnostics.value('visual_odometry', 'frames in')) == received + 1, WAIT_S
    )
    response = listener.call(Trigger, 'visual_odometry/reset', Trigger.Request(), WAIT_S)
    assert response.success
    assert len(alone.ears.odometry) == before
    key = alone.send(2.2, keypoints[21])
    assert np.allclose(alone.ears.pose(key), np.eye(4)), 'after a reset the next frame is the origin'

    # a bag that starts again
    key = alone.send(0.05, keypoints[0])
    assert np.allclose(alone.ears.pose(key), np.eye(4))
    assert 'time jumped back' in process.log.read_text()

    # and one that starts again too soon to be told from disorder
    alone.send(0.85, keypoints[1])
    alone.send(0.05, keypoints[0], wait=False)
    diagnostics.wait_sentence('visual_odometry', 'keypoints 0.80 s older than the last ones were dropped')
    assert int(diagnostics.value('visual_odometry', 'frames dropped')) == 1
    alone.send(0.95, keypoints[2])
    assert listener.wait_for(lambda: 'older' not in diagnostics.sentence('visual_odometry'), WAIT_S)


def test_a_pause_keeps_the_map(nodes, listener, diagnostics, offline):
    """Deactivated and activated again, with the same calibration, the camera is found in the old map."""
    process = nodes.start('visual_odometry', matcher='nearest', diagnostics_period=0.1)
    alone = OdometryAlone(listener, diagnostics, process)
    camera, keypoints = offline['sequence'].camera, offline['keypoints']
    for number in range(20):
        last = alone.send(number * 0.1, keypoints[number], camera if number == 0 else None)
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        name = 'visual_odometry/change_state'
        assert listener.call(ChangeState, name, request, WAIT_S, process.check).success
        wanted = transition == Transition.TRANSITION_ACTIVATE
        for publisher in (alone.keypoints, alone.info):
            assert listener.wait_for(
                lambda p=publisher, w=wanted: (p.get_subscription_count() > 0) == w, WAIT_S, process.check
            )
    again = alone.send(2.0, keypoints[20], camera)
    assert alone.ears.odometry[again].pose.covariance[0] < 100
    moved = np.linalg.norm(alone.ears.pose(again)[:3, 3] - alone.ears.pose(last)[:3, 3])
    assert 0 < moved < 2 and np.linalg.norm(alone.ears.pose(again)[:3, 3]) > moved
    assert 'camera_info changed' not in process.log.read_text()


def test_a_depth_camera_gives_metres(nodes, listener, diagnostics, offline):
    """Depth images of the same stamps, one late and one missing: the poses are those of the offline core."""
    process = nodes.start(
        'visual_odometry',
        matcher='nearest',
        diagnostics_period=0.1,
        scale_source='rgbd',
        depth_timeout=10.0,
    )
    depth = listener.node.create_publisher(Image, 'depth/image', output_qos())
    alone = OdometryAlone(listener, diagnostics, process)
    assert listener.wait_for(lambda: depth.get_subscription_count() > 0, WAIT_S)
    sequence, keypoints = offline['sequence'], offline['keypoints']
    core = VisualOdometry(sequence.camera, create_matcher('nearest'), OdometryParameters(scale_source='rgbd'))

    images = [frame.depth for frame in open_sequence('rendered:street', frames='0:20')]

    def publish(number, seconds=None):
        stamp = stamp_from_seconds(number * 0.1 if seconds is None else seconds)
        depth.publish(image_from_array(images[number], '32FC1', Header(stamp=stamp)))

    for number in range(20):
        measured = None if number == 12 else images[number]
        expected = core.track(number * 0.1, with_depth(keypoints[number], measured))
        core.finish()
        late = number == 5
        if not late:  # an image of another time belongs to no frame, and ends the waiting for one
            publish(number, number * 0.1 + 0.05 if measured is None else None)
        key = alone.send(number * 0.1, keypoints[number], sequence.camera, wait=not late)
        if late:
            publish(number)
            assert listener.wait_for(lambda k=key: k in alone.ears.odometry, WAIT_S, process.check)
        assert np.allclose(alone.ears.pose(key), base_pose(expected.pose, OPTICAL_TO_BASE), atol=1e-6)
    state = alone.state(key)
    assert expected.metric and state.metric
    assert state.scale_sigma == pytest.approx(expected.scale_sigma, rel=1e-4) and state.scale_sigma < 0.05
    travelled = np.linalg.norm(np.array(sequence.poses[19])[:3, 3] - np.array(sequence.poses[0])[:3, 3])
    assert np.linalg.norm(alone.ears.pose(key)[:3, 3]) == pytest.approx(travelled, rel=0.05)

    depth.publish(
        image_from_array(np.zeros((4, 4), np.uint8), 'mono8', Header(stamp=stamp_from_seconds(2.0)))
    )
    alone.send(2.0, keypoints[20])
    diagnostics.wait_sentence('visual_odometry', "not 'mono8'")


def test_movable_classes_by_their_names(nodes, listener, diagnostics, offline):
    """Names come from perception/label_info; when they change, so does what is left out."""
    labels = listener.node.create_publisher(LabelInfo, 'perception/label_info', latched_qos())

    def name(*names):
        classes = [VisionClass(class_id=i, class_name=text) for i, text in enumerate(names)]
        labels.publish(LabelInfo(class_map=classes))

    name('wall', 'car', 'sky')
    process = nodes.start(
        'visual_odometry',
        matcher='nearest',
        diagnostics_period=0.1,
        label_info_timeout=20.0,
        ignore_movable=True,
        movable_min_others=0,
    )
    alone = OdometryAlone(listener, diagnostics, process)
    keypoints = offline['keypoints']
    for number in range(3):
        key = alone.send(number * 0.1, keypoints[number], offline['sequence'].camera)
        expected = int((keypoints[number].class_id == 1).sum())
        assert 0 < expected == alone.state(key).movable
    name('person', 'wall', 'sky')
    expected = int((keypoints[3].class_id == 0).sum())
    for attempt in range(200):
        key = alone.send(0.3 + 0.001 * attempt, keypoints[3])
        if alone.state(key).movable == expected != int((keypoints[3].class_id == 1).sum()):
            break
    else:
        pytest.fail('the new names were not used')


def test_a_height_that_is_missing(nodes):
    """Scale from the camera's height without the height: one sentence, and status 1."""
    process = nodes.start('visual_odometry', matcher='nearest', scale_source='camera_height')
    assert process.wait() == 1
    log = process.log.read_text()
    assert "needs parameter 'camera_height'" in log and 'Traceback' not in log


def test_camera_mount_from_tf_static(nodes, listener, diagnostics, offline):
    """With a static transform base_link ← camera, odometry is that of the base, wherever the camera looks."""
    mount = np.eye(4)  # the camera looks to the left of the robot
    mount[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ OPTICAL_TO_BASE[:3, :3]
    mount[:3, 3] = [0.3, 0.1, 0.5]
    transform = TransformStamped(header=Header(frame_id='base_link'), child_frame_id='cam_left')
    transform.transform = transform_to_message(mount)
    publisher = listener.node.create_publisher(TFMessage, '/tf_static', latched_qos())
    publisher.publish(TFMessage(transforms=[transform]))
    process = nodes.start('visual_odometry', matcher='nearest', diagnostics_period=0.1, tf_timeout=20.0)
    alone = OdometryAlone(listener, diagnostics, process)
    for number in range(12):
        key = alone.send(number * 0.1, offline['keypoints'][number], offline['sequence'].camera, 'cam_left')
        expected = base_pose(offline['outcome'].results[number].pose, mount)
        assert np.allclose(alone.ears.pose(key), expected, atol=1e-6)
    assert alone.ears.pose(key)[1, 3] > 2, 'the camera drove ahead, so the robot went to its left'


def test_camera_and_model_that_do_not_fit(nodes, listener, diagnostics, offline, tmp_path):
    """An uncalibrated camera, a calibration of another shape, a matcher of another model: a sentence each."""
    from contract_models import matcher_metadata, write_matcher

    matcher = write_matcher(tmp_path / 'matcher.onnx', matcher_metadata(descriptor_dim=64))
    process = nodes.start(
        'visual_odometry', matcher='lightglue', matcher_model=str(matcher), diagnostics_period=0.1
    )
    alone = OdometryAlone(listener, diagnostics, process)
    keypoints = offline['keypoints']
    alone.info.publish(info_from_camera(None, Header(), (640, 480)))
    alone.send(0.0, keypoints[0], wait=False)
    diagnostics.wait_sentence('visual_odometry', 'not calibrated')
    alone.info.publish(info_from_camera(Camera.from_focal(1000, 300, 500), Header()))
    assert listener.wait_for(lambda: 'not calibrated' not in diagnostics.sentence('visual_odometry'), WAIT_S)
    alone.send(0.1, keypoints[0], wait=False)
    diagnostics.wait_sentence('visual_odometry', 'another shape')
    alone.send(0.2, keypoints[0], offline['sequence'].camera, wait=False)
    assert listener.wait_for(lambda: 'another shape' not in diagnostics.sentence('visual_odometry'), WAIT_S)
    alone.send(0.3, keypoints[1], wait=False)  # the first two frames that get as far as the matcher
    alone.send(0.4, keypoints[2], wait=False)
    sentence = diagnostics.wait_sentence('visual_odometry', "not of 'corners-1'")
    assert 'test-net-01234567' in sentence
    assert process.running
    assert 'Traceback' not in process.log.read_text()


def test_seconds_of_the_sequence_survive(offline):
    """Stamps as messages are the stamps of the sequence."""
    for stamp in offline['sequence'].stamps:
        assert seconds_from_stamp(stamp_from_seconds(stamp)) == pytest.approx(stamp, abs=1e-9)
