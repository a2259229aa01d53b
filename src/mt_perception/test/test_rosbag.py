"""Bags made with rosbags: topics, encodings, calibration, ground truth, damage."""

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mt_perception.errors import SequenceError
from mt_perception.sequences import open_sequence

STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
WIDTH, HEIGHT = 40, 30
START = 1_700_000_000
OPTICAL = np.array([[0.0, 0, 1, 0.2], [-1, 0, 0, 0.05], [0, -1, 0, 1.1], [0, 0, 0, 1]])  # camera in base_link


def picture(i):
    rng = np.random.default_rng(i)
    return cv2.resize(
        rng.integers(0, 255, (3, 4, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST
    )


def pose(t):
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array((0.0, 0.0, 0.3 * t)))[0]
    matrix[:3, 3] = (2 * t, 0.1, 0)
    return matrix


def stamp_of(t):
    return TYPES['builtin_interfaces/msg/Time'](sec=START + int(t // 1), nanosec=round((t % 1) * 1e9))


def header(t, frame='camera'):
    return TYPES['std_msgs/msg/Header'](stamp=stamp_of(t), frame_id=frame)


def image(t, pixels, encoding, frame='camera', padding=0):
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return TYPES['sensor_msgs/msg/Image'](
        header=header(t, frame),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.ravel(),
    )


def compressed(t, pixels, suffix='.png'):
    data = cv2.imencode(suffix, pixels[..., ::-1])[1].ravel()
    return TYPES['sensor_msgs/msg/CompressedImage'](header=header(t), format=f'bgr8; {suffix[1:]}', data=data)


def camera_info(t, focal=50.0, model='plumb_bob'):
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header(t),
        height=HEIGHT,
        width=WIDTH,
        distortion_model=model,
        d=np.array([0.1, 0.01, 0, 0, 0.0]),
        k=np.array([focal, 0, 20, 0, focal, 15, 0, 0, 1 if focal else 0]),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False),
    )


def message_pose(matrix):
    x, y, z = matrix[:3, 3]
    vector = cv2.Rodrigues(matrix[:3, :3])[0].ravel()
    angle = np.linalg.norm(vector)
    a, b, c = vector / angle * np.sin(angle / 2) if angle else (0.0, 0.0, 0.0)
    return TYPES['geometry_msgs/msg/Pose'](
        position=TYPES['geometry_msgs/msg/Point'](x, y, z),
        orientation=TYPES['geometry_msgs/msg/Quaternion'](a, b, c, float(np.cos(angle / 2))),
    )


def odometry(t, child='base_link'):
    zero = TYPES['geometry_msgs/msg/Vector3'](0.0, 0.0, 0.0)
    return TYPES['nav_msgs/msg/Odometry'](
        header=header(t, 'odom'),
        child_frame_id=child,
        pose=TYPES['geometry_msgs/msg/PoseWithCovariance'](message_pose(pose(t)), np.zeros(36)),
        twist=TYPES['geometry_msgs/msg/TwistWithCovariance'](
            TYPES['geometry_msgs/msg/Twist'](zero, zero), np.zeros(36)
        ),
    )


def transform(t, parent, child, matrix):
    p = message_pose(matrix)
    return TYPES['geometry_msgs/msg/TransformStamped'](
        header=header(t, parent),
        child_frame_id=child,
        transform=TYPES['geometry_msgs/msg/Transform'](
            TYPES['geometry_msgs/msg/Vector3'](p.position.x, p.position.y, p.position.z), p.orientation
        ),
    )


def tf(*transforms):
    return TYPES['tf2_msgs/msg/TFMessage'](list(transforms))


def write_bag(path, messages, plugin=StoragePlugin.SQLITE3):
    """Write (topic, seconds of recording, message) in this order."""
    with Writer(path, version=9, storage_plugin=plugin) as bag:
        connections = {}
        for topic, t, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, kind, typestore=STORE)
            nanoseconds = START * 10**9 + round(t * 1e9)
            bag.write(connections[topic], nanoseconds, STORE.serialize_cdr(message, kind))
    return path


def images(topic='/front/image_raw', count=4):
    # Recorded 30 ms after the exposure.
    return [(topic, 0.1 * i + 0.03, image(0.1 * i, picture(i), 'rgb8')) for i in range(count)]


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_images_and_camera(tmp_path, plugin):
    messages = [('/front/camera_info', 0.0, camera_info(0)), ('/rear/camera_info', 0.0, camera_info(0, 99))]
    bag = write_bag(tmp_path / 'drive', messages + images(), plugin)
    sequence = open_sequence(bag)
    assert sequence.name == 'drive'
    assert np.allclose(sequence.stamps - START, [0, 0.1, 0.2, 0.3], atol=1e-6)
    assert sequence.camera.fx == 50
    assert sequence.camera.distortion.tolist() == [0.1, 0.01, 0, 0, 0]
    assert sequence.poses is None
    for i in (3, 0, 2, 2):  # in any order
        frame = sequence[i]
        assert frame.index == i
        assert np.array_equal(frame.image, picture(i))
        assert frame.image.flags.writeable
    assert [f.index for f in open_sequence(bag, frames='-2:')] == [2, 3]


def test_single_file(tmp_path):
    bag = write_bag(tmp_path / 'drive', images(), StoragePlugin.MCAP)
    (path,) = bag.glob('*.mcap')
    assert len(open_sequence(path)) == 4


@pytest.mark.parametrize(
    'make',
    [
        lambda t, p: image(t, p[..., ::-1], 'bgr8', padding=7),
        lambda t, p: image(t, np.dstack([p[..., ::-1], p[..., 0]]), 'bgra8'),
        lambda t, p: compressed(t, p),
    ],
    ids=['bgr8', 'bgra8', 'compressed'],
)
def test_encodings(tmp_path, make):
    messages = [('/camera/image/compressed', 0.1 * i, make(0.1 * i, picture(i))) for i in range(2)]
    messages += [('/camera/camera_info', 0.0, camera_info(0))]
    sequence = open_sequence(write_bag(tmp_path / 'bag', messages))
    assert np.array_equal(sequence[1].image, picture(1))
    assert sequence.camera.fx == 50


def test_choice_of_the_topic(tmp_path):
    """Depth and class images are not taken for the camera's; a parameter takes any."""
    depth = image(0, np.full((HEIGHT, WIDTH), 1000, np.uint16), 'mono16')
    messages = [('/camera/depth/image_raw', 0, depth), ('/perception/segmentation', 0, depth)]
    messages += images('/right') + images('/left', 2)
    bag = write_bag(tmp_path / 'bag', messages)
    assert len(open_sequence(bag)) == 4
    assert len(open_sequence(bag, topic='/left')) == 2
    assert open_sequence(bag, topic='/camera/depth/image_raw')[0].image.max() == 4  # of 1000 / 257
    with pytest.raises(
        SequenceError, match="no image topic '/top'; it has: /camera/depth/image_raw, .*/left"
    ):
        open_sequence(bag, topic='/top')


def test_recorded_out_of_order(tmp_path):
    """Images come in the order of their exposure, also two that were recorded at one instant."""
    order = [2, 0, 1, 3]
    messages = [('/image', 0.5, image(0.1 * i, picture(i), 'rgb8')) for i in order]
    sequence = open_sequence(write_bag(tmp_path / 'bag', messages))
    assert np.allclose(np.diff(sequence.stamps), 0.1, atol=1e-6)
    assert [np.array_equal(sequence[i].image, picture(i)) for i in range(4)] == [True] * 4


def test_headers_without_stamps(tmp_path):
    messages = []
    for i in range(3):
        message = image(0, picture(i), 'rgb8')
        message.header.stamp.sec = 0
        messages.append(('/image', 0.2 * i, message))
    sequence = open_sequence(write_bag(tmp_path / 'bag', messages))
    assert np.allclose(sequence.stamps - START, [0, 0.2, 0.4], atol=1e-6)


def test_uncalibrated_camera(tmp_path):
    bag = write_bag(tmp_path / 'bag', images('/cam/image') + [('/cam/camera_info', 0, camera_info(0, 0.0))])
    assert open_sequence(bag).camera is None


class TestGroundTruth:
    static = ('/tf_static', 0.0, tf(transform(0, 'base_link', 'camera', OPTICAL)))

    def odometry(self, topic, child='base_link'):
        return [(topic, 0.05 * k, odometry(0.05 * k, child)) for k in range(8)]

    def check(self, sequence, offset):
        for i in range(4):
            assert np.allclose(sequence.poses[i], pose(0.1 * i) @ offset, atol=1e-6)

    def test_odometry_of_the_base(self, tmp_path):
        messages = images() + self.odometry('/odom') + [self.static]
        self.check(open_sequence(write_bag(tmp_path / 'bag', messages)), OPTICAL)

    def test_odometry_of_the_camera(self, tmp_path):
        messages = images() + self.odometry('/odom', 'camera')
        self.check(open_sequence(write_bag(tmp_path / 'bag', messages)), np.eye(4))

    def test_unknown_mounting(self, tmp_path):
        """Without TF from the base to the camera the poses of the base are no ground truth."""
        assert open_sequence(write_bag(tmp_path / 'bag', images() + self.odometry('/odom'))).poses is None

    def test_one_of_several(self, tmp_path):
        wheels = [('/wheels', 0.1 * k, odometry(3.0 + k)) for k in range(4)]
        own = self.odometry('/visual_odometry/odometry')
        bag = write_bag(
            tmp_path / 'a', images() + wheels + self.odometry('/ground_truth/odom') + own + [self.static]
        )
        self.check(open_sequence(bag), OPTICAL)
        bag = write_bag(tmp_path / 'b', images() + wheels + self.odometry('/odom') + [self.static])
        assert open_sequence(bag).poses is None
        self.check(open_sequence(bag, ground_truth_topic='/odom'), OPTICAL)
        assert open_sequence(bag, ground_truth_topic='none').poses is None
        with pytest.raises(SequenceError, match="no pose topic '/gps'; it has: /wheels, /odom"):
            open_sequence(bag, ground_truth_topic='/gps')

    def test_own_estimate_is_no_truth(self, tmp_path):
        messages = images() + self.odometry('/visual_odometry/odometry') + [self.static]
        assert open_sequence(write_bag(tmp_path / 'bag', messages)).poses is None

    def test_pose_of_the_camera(self, tmp_path):
        messages = images()
        for k in range(8):
            message = TYPES['geometry_msgs/msg/PoseStamped'](
                header(0.05 * k, 'map'), message_pose(pose(0.05 * k))
            )
            messages.append(('/vicon/pose', 0.05 * k, message))
        self.check(open_sequence(write_bag(tmp_path / 'bag', messages)), np.eye(4))

    def test_tf(self, tmp_path):
        messages = images() + [self.static]
        messages += [
            ('/tf', 0.05 * k, tf(transform(0.05 * k, 'map', 'base_link', pose(0.05 * k)))) for k in range(8)
        ]
        self.check(open_sequence(write_bag(tmp_path / 'a', messages)), OPTICAL)
        # A second moving link may be an estimate: ambiguous.
        messages += [('/tf', 0.1 * k, tf(transform(0.1 * k, 'earth', 'map', pose(0)))) for k in range(4)]
        assert open_sequence(write_bag(tmp_path / 'b', messages)).poses is None


class TestDamage:
    @pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
    @pytest.mark.parametrize('share', [0.05, 0.3, 0.6, 0.95])
    def test_cut_off(self, tmp_path, plugin, share):
        """A file cut off anywhere is one sentence that names the bag, when opening or when reading."""
        messages = images(count=30)
        bag = write_bag(tmp_path / 'bag', messages, plugin)
        (path,) = (p for p in bag.iterdir() if p.suffix in ('.db3', '.mcap'))
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(SequenceError) as caught:
            for _ in open_sequence(bag):
                pass
        text = str(caught.value)
        assert str(bag) in text
        assert 'ros2 bag reindex' in text or 'record it again' in text
        assert '\n' not in text
        assert 'Traceback' not in text

    def test_garbage(self, tmp_path):
        bag = tmp_path / 'bag'
        bag.mkdir()
        (bag / 'metadata.yaml').write_text('rosbag2_bagfile_information:\n  version: 5\n')
        with pytest.raises(SequenceError, match='cannot be opened'):
            open_sequence(bag)
        (bag / 'metadata.yaml').unlink()
        (bag / 'bag_0.db3').write_bytes(b'this is no database')
        with pytest.raises(
            SequenceError, match="cannot be opened .* it has no metadata.yaml: run 'ros2 bag reindex'"
        ):
            open_sequence(bag)

    def test_no_images(self, tmp_path):
        bag = write_bag(tmp_path / 'bag', [('/camera_info', 0, camera_info(0))])
        with pytest.raises(SequenceError, match='no Image or CompressedImage topic; it holds: /camera_info'):
            open_sequence(bag)

    def test_image_of_unknown_encoding(self, tmp_path):
        bag = write_bag(tmp_path / 'bag', [('/image', 0, image(0, picture(0), 'rgb16x'))])
        with pytest.raises(
            SequenceError, match="image 0 of topic '/image' in bag .*: image encoding 'rgb16x'"
        ):
            open_sequence(bag)[0]

    def test_unusable_camera(self, tmp_path):
        bag = write_bag(
            tmp_path / 'bag', images('/c/image') + [('/c/camera_info', 0, camera_info(0, model='fov'))]
        )
        with pytest.raises(SequenceError, match="camera_info of bag .*: distortion model 'fov'"):
            open_sequence(bag)
