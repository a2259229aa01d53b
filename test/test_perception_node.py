"""The perception node as a process of its own, talked to over DDS."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo

from contract_models import COLORS, GLOBAL_DIM, default_keypoints, unit_rows
from mt_msgs.msg import GlobalDescriptor, KeypointArray
from mt_perception.camera import Camera
from mt_perception.nodes.conversions import image_from_array, info_from_camera, stamp_from_seconds, stamp_key
from mt_perception.nodes.feature_messages import keypoints_from_message
from mt_perception.nodes.qos import input_qos, latched_qos, output_qos

pytestmark = pytest.mark.dds

WAIT_S = 60.0
SIZE = (128, 64)  # of the images; the network's is 64 × 32
CAMERA = Camera.from_focal(*SIZE, 100.0)
TOPICS = {
    'segmentation': Image,
    'segmentation_color': Image,
    'depth': Image,
    'depth/camera_info': CameraInfo,
    'keypoints': KeypointArray,
    'global_descriptor': GlobalDescriptor,
}


def picture(offset=0):
    """Return an image of 2 × 2 blocks (halving it is exact): red = class id, blue = depth in decimetres."""
    width, height = SIZE
    ids = (np.arange(width * height // 4).reshape(height // 2, width // 2) + offset) % 5
    small = np.zeros((height // 2, width // 2, 3), np.uint8)
    small[..., 0] = ids
    small[..., 1] = 200
    small[..., 2] = np.arange(width // 2) % 100
    return np.repeat(np.repeat(small, 2, 0), 2, 1)


class Camera2Results:
    """A camera for the node, and ears for its results."""

    def __init__(self, listener, topics=TOPICS, reliability='reliable'):
        self.listener = listener
        self.image = listener.node.create_publisher(Image, 'image', input_qos(reliability, 10))
        self.compressed = listener.node.create_publisher(CompressedImage, 'image/compressed', output_qos())
        self.info = listener.node.create_publisher(CameraInfo, 'camera_info', output_qos())
        self.results = {name: {} for name in topics}
        for name in topics:
            listener.subscribe(TOPICS[name], f'perception/{name}', self._keep(name), output_qos(100))
        self.number = 0

    def _keep(self, name):
        def keep(message, info):
            self.results[name][stamp_key(message.header.stamp)] = message

        return keep

    def wait_connected(self, diagnostics, publisher=None):
        """
        Wait until the node hears this camera, and this listener its results.

        Each side finds the other by itself, and a best-effort subscription misses what was sent before.
        """
        publisher = publisher or self.image
        assert self.listener.wait_for(lambda: publisher.get_subscription_count() > 0, WAIT_S)
        topic = publisher.topic_name.removeprefix('/')
        for key in (f'{topic} publishers', *(f'{name} subscribers' for name in self.results)):
            assert self.listener.wait_for(
                lambda key=key: diagnostics.value('perception', key) == '1', WAIT_S
            ), f'{key}: {diagnostics.value("perception", key)}'

    def header(self):
        """Return a new stamp."""
        self.number += 1
        return Header(stamp=stamp_from_seconds(100 + self.number * 0.1), frame_id='cam_7_optical')

    def send(self, message, publisher=None):
        """Publish and return the key of its stamp."""
        (publisher or self.image).publish(message)
        return stamp_key(message.header.stamp)

    def wait(self, key, names=None):
        """Wait for the results of one image and return them."""
        names = names or list(self.results)
        arrived = self.listener.wait_for(lambda: all(key in self.results[name] for name in names), WAIT_S)
        assert arrived, f'missing: {[name for name in names if key not in self.results[name]]}'
        return {name: self.results[name][key] for name in names}


def pixels(message, dtype=np.uint8):
    """Return the pixels of an Image message."""
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, -1).squeeze()


@pytest.fixture
def running(nodes, exact_model, listener, diagnostics):
    """A perception node with the exact model, a camera, and everything connected."""
    process = nodes.start('perception', model=str(exact_model), diagnostics_period=0.1)
    diagnostics.wait_active(process)
    camera = Camera2Results(listener)
    camera.wait_connected(diagnostics)
    return process, camera, diagnostics


def test_results_are_exact_and_carry_the_images_header(running):
    """Every result of an image, to the last value, first without and then with a camera_info."""
    _, camera, diagnostics = running
    image = picture()
    without = ['segmentation', 'segmentation_color', 'depth', 'keypoints', 'global_descriptor']

    # no camera_info: only depth/camera_info is missing, and the node says so once
    key = camera.send(image_from_array(image, 'rgb8', camera.header()))
    camera.wait(key, without)
    sentence = diagnostics.wait_sentence('perception', 'no camera_info on /camera_info')
    assert 'everything else works' in sentence
    assert diagnostics.level('perception') == 1
    assert not camera.results['depth/camera_info']

    # with it: everything
    results = {}
    for _ in range(50):  # camera_info and image are two topics: the first image may overtake
        header = camera.header()
        camera.info.publish(info_from_camera(CAMERA, header))
        key = camera.send(image_from_array(image, 'rgb8', header))
        results = camera.wait(key, without)
        if camera.listener.wait_for(lambda key=key: key in camera.results['depth/camera_info'], 1.0):
            results['depth/camera_info'] = camera.results['depth/camera_info'][key]
            break
    assert set(results) == set(TOPICS)
    for name, message in results.items():
        assert message.header == header, name

    ids = pixels(results['segmentation'])
    assert results['segmentation'].encoding == 'mono8'
    assert np.array_equal(ids, image[..., 0]), 'masks have the size of the image and its classes'
    assert np.array_equal(pixels(results['segmentation_color']), np.array(COLORS, np.uint8)[ids])
    depth = pixels(results['depth'], np.float32)
    expected = image[::2, ::2, 2].astype(np.float32) / 10
    expected[expected == 0] = np.nan
    assert results['depth'].encoding == '32FC1'
    assert np.allclose(depth, expected, equal_nan=True)
    k = np.array(results['depth/camera_info'].k).reshape(3, 3)
    assert np.allclose(k, CAMERA.scaled(64, 32).matrix)
    keypoints = keypoints_from_message(results['keypoints'])
    xy, scores = default_keypoints()
    assert np.allclose(keypoints.xy, (xy[:4] + 0.5) * 2 - 0.5), 'pixels of the image, not of the network'
    assert np.allclose(keypoints.scores, scores[:4])
    assert keypoints.image_size == SIZE
    columns = np.round(xy[:4]).astype(int)
    assert np.array_equal(keypoints.class_id, image[::2, ::2, 0][columns[:, 1], columns[:, 0]])
    assert results['global_descriptor'].model_id == keypoints.model_id == 'test-net-01234567'
    assert np.allclose(results['global_descriptor'].descriptor, unit_rows(1, GLOBAL_DIM, 1)[0])

    values = diagnostics.status['perception'][2]
    assert values['engine'].startswith('onnxruntime')
    assert {'inference p50 ms', 'preprocess p95 ms', 'publish p99 ms', 'frames dropped'} <= set(values)
    warned = running[0].log.read_text().count('no camera_info')
    assert warned == 1, f'the missing camera_info was said {warned} times'


def test_encodings_good_and_bad(running):
    """Every encoding gives the same classes; a wrong one is one sentence and does not stop the node."""
    process, camera, diagnostics = running
    image = picture(1)
    gray = np.repeat(image[..., :1], 3, 2)
    rgba = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])

    def message(encoding, array, big_endian=0):
        out = Image(
            header=camera.header(), encoding=encoding, height=SIZE[1], width=SIZE[0], is_bigendian=big_endian
        )
        rows = np.ascontiguousarray(array).reshape(SIZE[1], -1).view(np.uint8)
        rows = np.hstack([rows, np.full((SIZE[1], 4), 77, np.uint8)])  # padding
        out.step = rows.shape[1]
        out.data.frombytes(rows.tobytes())
        return out

    wide = gray[..., 0].astype(np.uint16) * 257
    cases = {
        'rgb8': message('rgb8', image),
        'bgr8': message('bgr8', image[..., ::-1]),
        'rgba8': message('rgba8', rgba),
        'bgra8': message('bgra8', rgba[..., [2, 1, 0, 3]]),
        'mono8': message('mono8', gray[..., 0]),
        'mono16': message('mono16', wide.astype('<u2')),
        '16UC1 big endian': message('16UC1', wide.astype('>u2'), 1),
    }
    for name, case in cases.items():
        result = camera.wait(camera.send(case), ['segmentation'])['segmentation']
        assert np.array_equal(pixels(result), image[..., 0]), name

    for case, part in (
        (message('rgb9', image), "encoding 'rgb9' is not supported"),
        (
            Image(header=camera.header(), encoding='rgb8', height=64, width=128, step=384),
            'buffer has 0 bytes',
        ),
    ):
        camera.send(case)
        diagnostics.wait_sentence('perception', part)
        assert diagnostics.level('perception') == 2
    assert process.running
    log = process.log.read_text()
    assert log.count("encoding 'rgb9'") == 1
    assert 'Traceback' not in log

    camera.wait(camera.send(cases['rgb8']), ['segmentation'])
    assert camera.listener.wait_for(lambda: diagnostics.level('perception') < 2, WAIT_S), (
        'the error must go away'
    )


def test_compressed_images_are_found_and_used(nodes, exact_model, listener, diagnostics):
    """With nobody on `image`, `image/compressed` is used without being told; a cut JPEG is one sentence."""
    process = nodes.start('perception', model=str(exact_model), diagnostics_period=0.1)
    diagnostics.wait_active(process)
    camera = Camera2Results(listener, ['segmentation'])
    listener.node.destroy_publisher(camera.image)
    camera.wait_connected(diagnostics, camera.compressed)
    image = picture(2)

    def message(extension, cut=None):
        out = CompressedImage(header=camera.header(), format=extension)
        out.data.frombytes(cv2.imencode(f'.{extension}', image[..., ::-1])[1].tobytes()[:cut])
        return out

    result = camera.wait(camera.send(message('png'), camera.compressed))['segmentation']
    assert np.array_equal(pixels(result), image[..., 0])
    camera.send(message('jpg', cut=300), camera.compressed)
    diagnostics.wait_sentence('perception', 'cut short after 300 bytes')
    camera.wait(camera.send(message('png'), camera.compressed))


def test_newest_frame_wins(nodes, corner_model, listener, diagnostics):
    """A slow engine drops old frames, counts them, and ends on the newest; it never works off a queue."""
    process = nodes.start(
        'perception', model=str(corner_model), input_width=960, input_height=768, diagnostics_period=0.1
    )
    diagnostics.wait_active(process)
    camera = Camera2Results(listener, ['keypoints'])
    camera.wait_connected(diagnostics)
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    total = 30
    keys = [camera.send(image_from_array(image, 'rgb8', camera.header()))]
    for _ in range(total - 1):
        listener.wait_for(lambda: False, 0.03)  # a camera at 33 Hz
        keys.append(camera.send(image_from_array(image, 'rgb8', camera.header())))
    camera.wait(keys[-1])
    results = sorted(camera.results['keypoints'])
    assert set(results) <= set(keys)
    assert results[-1] == keys[-1], 'the newest frame must come out'
    assert len(results) < total / 2, 'the engine was meant to be too slow'

    def accounted():
        value = {
            name: int(diagnostics.value('perception', f'frames {name}')) for name in ('in', 'out', 'dropped')
        }
        return value['out'] == len(results) and value['in'] == value['out'] + value['dropped']

    assert listener.wait_for(accounted, WAIT_S), diagnostics.status['perception'][2]


def test_nothing_is_computed_for_nobody(nodes, exact_model, listener, diagnostics):
    """Images come in, no result has a subscriber: the engine rests, and the node says why."""
    process = nodes.start('perception', model=str(exact_model), diagnostics_period=0.1)
    diagnostics.wait_active(process)
    camera = Camera2Results(listener, [])
    camera.wait_connected(diagnostics)
    for _ in range(3):
        camera.send(image_from_array(picture(), 'rgb8', camera.header()))
    assert listener.wait_for(lambda: int(diagnostics.value('perception', 'frames in')) >= 1, WAIT_S)
    diagnostics.wait_sentence('perception', '')
    assert diagnostics.value('perception', 'frames out') == '0'
    # and one subscriber is enough to wake it, for its own task only
    ears = Camera2Results(listener, ['global_descriptor'])
    ears.number = camera.number
    assert listener.wait_for(
        lambda: diagnostics.value('perception', 'global_descriptor subscribers') == '1', WAIT_S
    )
    ears.wait(ears.send(image_from_array(picture(), 'rgb8', ears.header())))


def test_label_info_reaches_late_subscribers(running, listener):
    """The class names are latched (REP 2003, maps)."""
    labels = []
    listener.subscribe(
        LabelInfo, 'perception/label_info', lambda message, info: labels.append(message), latched_qos()
    )
    assert listener.wait_for(lambda: labels, WAIT_S)
    names = {entry.class_id: entry.class_name for entry in labels[0].class_map}
    assert names == {0: 'sky', 1: 'building', 2: 'road', 3: 'car', 4: 'pedestrian'}


def test_lifecycle_and_parameters(running, listener):
    """The lifecycle services work, and parameters are described, checked and applied."""
    process, camera, diagnostics = running

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return listener.call(ChangeState, '/perception/change_state', request, WAIT_S, process.check).success

    def state():
        return listener.call(GetState, '/perception/get_state', GetState.Request(), WAIT_S).current_state.id

    def set_parameter(name, **value):
        entry = Parameter(name=name, value=ParameterValue(**value))
        request = SetParameters.Request(parameters=[entry])
        return listener.call(SetParameters, '/perception/set_parameters', request, WAIT_S).results[0]

    def send():
        return camera.send(image_from_array(picture(), 'rgb8', camera.header()))

    text, whole = ParameterType.PARAMETER_STRING, ParameterType.PARAMETER_INTEGER
    assert state() == State.PRIMARY_STATE_ACTIVE
    assert set_parameter('max_keypoints', type=whole, integer_value=2).successful
    assert camera.wait(send(), ['keypoints'])['keypoints'].count == 2
    refused = set_parameter('engine', type=text, string_value='onnxruntime')
    assert not refused.successful
    assert 'while the node is unconfigured' in refused.reason
    refused = set_parameter('segmentation_size', type=text, string_value='huge')
    assert not refused.successful
    assert "'image', 'network'" in refused.reason
    assert not set_parameter('max_keypoints', type=whole, integer_value=0).successful
    assert not set_parameter('autostart', type=ParameterType.PARAMETER_BOOL, bool_value=False).successful

    names = listener.call(
        ListParameters, '/perception/list_parameters', ListParameters.Request(), WAIT_S
    ).result.names
    request = DescribeParameters.Request(names=[name for name in names if name != 'use_sim_time'])
    described = listener.call(
        DescribeParameters, '/perception/describe_parameters', request, WAIT_S
    ).descriptors
    own = [entry for entry in described if not entry.name.startswith(('qos_overrides', 'start_type'))]
    assert len(own) >= 15
    assert [entry.name for entry in own if not entry.description] == []

    assert change(Transition.TRANSITION_DEACTIVATE)
    assert state() == State.PRIMARY_STATE_INACTIVE
    assert listener.wait_for(lambda: camera.image.get_subscription_count() == 0, WAIT_S), (
        'inactive means deaf'
    )
    assert change(Transition.TRANSITION_CLEANUP)
    assert state() == State.PRIMARY_STATE_UNCONFIGURED
    assert set_parameter('segmentation_size', type=text, string_value='network').successful
    assert set_parameter('model', type=text, string_value='/nowhere.onnx').successful
    assert not change(Transition.TRANSITION_CONFIGURE), 'a model that is not there'
    assert state() == State.PRIMARY_STATE_UNCONFIGURED
    assert "'/nowhere.onnx'" in process.log.read_text()
    model = process.process.args[process.process.args.index('-p') + 1].split(':=', 1)[1].strip("'")
    assert set_parameter('model', type=text, string_value=model).successful
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    camera.wait_connected(diagnostics)
    connected = listener.wait_for(
        lambda: listener.node.count_publishers('perception/segmentation') == 1, WAIT_S
    )
    assert connected
    for _ in range(50):  # until the node's new publishers have found this listener
        key = send()
        if listener.wait_for(lambda key=key: key in camera.results['segmentation'], 1.0):
            break
    mask = camera.results['segmentation'][key]
    assert (mask.width, mask.height) == (64, 32), 'the new segmentation_size counts'


def test_incompatible_qos_is_said(nodes, exact_model, listener, diagnostics):
    """A best-effort camera and a reliable subscription: nothing can arrive, and the node says why."""
    process = nodes.start(
        'perception', model=str(exact_model), input_reliability='reliable', diagnostics_period=0.1
    )
    diagnostics.wait_active(process)
    Camera2Results(listener, [], reliability='best_effort')
    sentence = diagnostics.wait_sentence('perception', 'reliability')
    assert '/image' in sentence
    assert diagnostics.level('perception') == 2


@pytest.mark.parametrize(
    ('parameters', 'part'),
    [
        ({'model': '/etc/hostname'}, "model '/etc/hostname'"),
        ({'model': '/nowhere/model.onnx'}, "model '/nowhere/model.onnx'"),
        ({'engine': 'abacus'}, "parameter 'engine' must be one of 'auto', 'tensorrt', 'onnxruntime'"),
        ({'max_keypoints': 'many'}, "parameter 'max_keypoints' must be a whole number"),
        ({'input_width': 33, 'input_height': 33}, '33'),
    ],
)
def test_bad_start_is_one_sentence_and_status_1(nodes, exact_model, parameters, part):
    """A model that is not one, a parameter that is not legal: one sentence, no traceback, status 1."""
    process = nodes.start('perception', **{'model': str(exact_model), **parameters})
    assert process.wait() == 1
    assert part in process.last_words()
    assert 'Traceback' not in process.log.read_text()
