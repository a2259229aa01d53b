"""Messages to the core's types and back, for every field that could get lost."""

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from mt_msgs.msg import KeypointArray
from mt_perception.camera import Camera
from mt_perception.errors import CameraError, ImageError
from mt_perception.nodes import conversions, frames
from mt_perception.nodes.feature_messages import (
    KeypointMessageError,
    fill,
    global_descriptor_to_message,
    keypoints_from_message,
    keypoints_to_message,
)
from mt_perception.types import Keypoints

HEADER = Header(frame_id='camera_optical_frame')
RNG = np.random.default_rng(5)


def over_the_wire(message):
    """Return the message as a subscriber gets it."""
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize(
    ('encoding', 'array'),
    [
        ('rgb8', RNG.integers(0, 256, (5, 7, 3), np.uint8)),
        ('mono8', RNG.integers(0, 256, (5, 7), np.uint8)),
        ('16UC1', RNG.integers(0, 65536, (5, 7), np.uint16)),
        ('32FC1', np.array([[1.5, np.nan], [0.0, 80.25]], np.float32)),
    ],
)
def test_image_from_array(encoding, array):
    """Size, step and every value arrive."""
    message = over_the_wire(conversions.image_from_array(array, encoding, HEADER))
    assert (message.height, message.width, message.encoding) == (*array.shape[:2], encoding)
    assert message.step == array.strides[0]
    assert np.array_equal(
        np.frombuffer(message.data, array.dtype).reshape(array.shape),
        array,
        equal_nan=array.dtype.kind == 'f',
    )


def test_image_from_a_view_that_is_not_contiguous():
    """A crop of a larger image is packed, not sent with its neighbours."""
    large = RNG.integers(0, 256, (10, 12, 3), np.uint8)
    message = conversions.image_from_array(large[2:7, 3:9], 'rgb8', HEADER)
    assert np.array_equal(conversions.rgb_from_image(over_the_wire(message)), large[2:7, 3:9])


def test_image_round_trip_with_padding_and_byte_order():
    """Step and is_bigendian of the message are used."""
    message = Image(header=HEADER, encoding='mono16', height=2, width=2, step=6, is_bigendian=1)
    message.data.frombytes(bytes([1, 0, 2, 0, 9, 9, 3, 0, 255, 255, 9, 9]))
    assert conversions.rgb_from_image(over_the_wire(message))[..., 0].tolist() == [[1, 2], [3, 255]]


def test_image_error_is_a_sentence():
    """A buffer that is too short is refused."""
    message = Image(header=HEADER, encoding='rgb8', height=4, width=4, step=12)
    with pytest.raises(ImageError, match='buffer has 0 bytes'):
        conversions.rgb_from_image(message)


@pytest.mark.parametrize('seconds', [0.0, 0.1, 1317384506.40123, 1795226843.999999999])
def test_stamps(seconds):
    """Seconds to stamp and back are the same to the nanosecond a float can hold."""
    stamp = conversions.stamp_from_seconds(seconds)
    assert 0 <= stamp.nanosec < 10**9
    assert conversions.seconds_from_stamp(stamp) == pytest.approx(
        seconds, abs=3e-7 if seconds > 1e9 else 1e-9
    )
    assert conversions.stamp_key(stamp) == stamp.sec * 10**9 + stamp.nanosec


class TestCamera:
    """sensor_msgs/CameraInfo."""

    camera = Camera(640, 480, [[500, 0, 320], [0, 510, 240], [0, 0, 1]], [0.1, -0.2, 0.001, 0.002, 0.05])

    def test_round_trip(self):
        """Intrinsics and distortion come back."""
        back = conversions.camera_from_info(over_the_wire(conversions.info_from_camera(self.camera, HEADER)))
        assert (back.width, back.height, back.model) == (640, 480, 'plumb_bob')
        assert np.array_equal(back.matrix, self.camera.matrix)
        assert np.array_equal(back.distortion, self.camera.distortion)

    def test_rectified(self):
        """For a rectified image P counts, and there is no distortion."""
        info = conversions.info_from_camera(self.camera, HEADER)
        info.p = np.array([400, 0, 300, 0, 0, 400, 200, 0, 0, 0, 1, 0], float)
        camera = conversions.camera_from_info(over_the_wire(info), rectified=True)
        assert camera.fx == 400
        assert camera.cx == 300
        assert camera.distortion.size == 0

    def test_region_of_interest_and_binning(self):
        """K is that of the full image; the region shifts it and the binning scales it."""
        info = conversions.info_from_camera(self.camera, HEADER)
        info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 400
        info.binning_x = info.binning_y = 2
        camera = conversions.camera_from_info(over_the_wire(info))
        assert (camera.width, camera.height) == (200, 200)
        assert camera.fx == 250
        # pixel 220 of the cropped image is the middle between the centres of binned pixels 109.5 and 110
        assert camera.cx == pytest.approx((220 + 0.5) / 2 - 0.5)

    def test_not_calibrated(self):
        """A zero K is how ROS says "not calibrated"."""
        info = conversions.info_from_camera(None, HEADER, (640, 480))
        assert (info.width, info.height) == (640, 480)
        with pytest.raises(CameraError, match='not calibrated'):
            conversions.camera_from_info(over_the_wire(info))

    def test_unknown_distortion(self):
        """A distortion model nobody knows is named."""
        info = conversions.info_from_camera(self.camera, HEADER)
        info.distortion_model = 'magic'
        with pytest.raises(CameraError, match="'magic'"):
            conversions.camera_from_info(info)

    def test_fit(self):
        """Half the size is another scale; another shape is another camera."""
        half = conversions.fit_camera(self.camera, (320, 240))
        assert half.fx == 250
        assert conversions.fit_camera(self.camera, (640, 480)) is self.camera
        with pytest.raises(CameraError, match='another shape'):
            conversions.fit_camera(self.camera, (640, 360))

    def test_empty_message(self):
        """The message a driver sends before it knows anything."""
        with pytest.raises(CameraError):
            conversions.camera_from_info(CameraInfo())


class TestPoses:
    """Poses, transforms, velocities, covariances."""

    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler('xyz', [0.3, -0.2, 1.1]).as_matrix()
    pose[:3, 3] = [1, -2, 3]

    def test_round_trips(self):
        """Pose and Transform carry rotation and translation."""
        for there, back in (
            (conversions.pose_to_message, conversions.pose_from_message),
            (conversions.transform_to_message, conversions.transform_from_message),
        ):
            assert np.allclose(back(over_the_wire(there(self.pose))), self.pose, atol=1e-12)

    def test_optical_axis_points_ahead(self):
        """REP 103: 5 m in front of the camera, 1 m right and 2 m down is (5, -1, -2) of the body."""
        assert np.allclose(frames.OPTICAL_TO_BASE @ [1, 2, 5, 1], [5, -1, -2, 1])

    def test_base_pose_of_a_camera_behind_the_origin(self):
        """A robot that turns on the spot moves its off-centre camera, but not itself."""
        mount = frames.OPTICAL_TO_BASE.copy()
        mount[:3, 3] = [0.5, 0, 0.2]
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler('z', 90, degrees=True).as_matrix()
        camera_pose = np.linalg.inv(mount) @ turn @ mount  # of the camera, when the base turns left
        assert np.allclose(frames.base_pose(camera_pose, mount), turn, atol=1e-12)

    def test_covariance_by_sampling(self):
        """The base's covariance is that of noisy camera poses carried over one by one."""
        mount = np.eye(4)
        mount[:3, :3] = Rotation.from_euler('xyz', [0.2, 0.4, -0.3]).as_matrix()
        mount[:3, 3] = [0.7, -0.4, 0.3]
        root = RNG.standard_normal((6, 6)) * 1e-3
        samples = RNG.standard_normal((20000, 6)) @ root.T
        truth = frames.base_pose(self.pose, mount)
        base = []
        for shift in samples:
            noisy = self.pose.copy()
            noisy[:3, 3] += shift[:3]
            noisy[:3, :3] = Rotation.from_rotvec(shift[3:]).as_matrix() @ self.pose[:3, :3]
            moved = frames.base_pose(noisy, mount)
            turn = Rotation.from_matrix(moved[:3, :3] @ truth[:3, :3].T).as_rotvec()
            base.append([*(moved[:3, 3] - truth[:3, 3]), *turn])
        expected = np.cov(np.array(base).T)
        computed = frames.base_covariance(root @ root.T, self.pose, mount)
        assert np.abs(computed - expected).max() < 0.05 * np.abs(expected).max()

    def test_velocity_is_in_the_moving_frame(self):
        """Driving ahead while looking left is still driving ahead."""
        start = self.pose
        step = np.eye(4)
        step[:3, :3] = Rotation.from_euler('z', 0.1).as_matrix()
        step[:3, 3] = [0.5, 0, 0]
        linear, angular = frames.velocity(start, start @ step, 0.5)
        assert np.allclose(linear, [1, 0, 0])
        assert np.allclose(angular, [0, 0, 0.2])
        assert not np.any(frames.velocity(start, start @ step, 0.0))

    def test_path(self):
        """A path keeps stamps and poses."""
        path = frames.path_from_poses([(1.5, np.eye(4)), (2.25, self.pose)], 'odom')
        assert path.header.frame_id == path.poses[0].header.frame_id == 'odom'
        assert conversions.seconds_from_stamp(path.poses[1].header.stamp) == 2.25
        assert np.allclose(conversions.pose_from_message(path.poses[1].pose), self.pose)


def test_cloud():
    """A point cloud has three floats a point."""
    points = RNG.standard_normal((11, 3)).astype(np.float32)
    cloud = over_the_wire(conversions.cloud_from_points(points, HEADER))
    assert isinstance(cloud, PointCloud2)
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z']
    assert (cloud.width, cloud.height, cloud.row_step) == (11, 1, 132)
    assert np.array_equal(np.frombuffer(cloud.data, np.float32).reshape(-1, 3), points)


class TestKeypoints:
    """mt_msgs/KeypointArray."""

    def keypoints(self, n=9, dim=64):
        """Return random keypoints, some without depth and class."""
        descriptors = RNG.standard_normal((n, dim)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        depth = RNG.uniform(1, 50, n).astype(np.float32)
        depth[::3] = np.nan
        return Keypoints.create(
            RNG.uniform(0, 400, (n, 2)),
            RNG.uniform(0, 1, n),
            descriptors,
            (640, 480),
            depth,
            np.where(np.arange(n) % 2, 255, 3),
            'net-1',
        )

    @pytest.mark.parametrize('n', [0, 1, 9])
    def test_round_trip_is_exact(self, n):
        """Everything arrives bit by bit, also when there is no keypoint at all."""
        sent = self.keypoints(n)
        got = keypoints_from_message(over_the_wire(keypoints_to_message(sent, HEADER)))
        for name in ('xy', 'scores', 'descriptors', 'depth', 'class_id'):
            assert np.array_equal(getattr(got, name), getattr(sent, name), equal_nan=name == 'depth'), name
            assert getattr(got, name).dtype == getattr(sent, name).dtype, name
        assert got.image_size == (640, 480)
        assert got.model_id == 'net-1'

    def test_half_precision(self):
        """float16 descriptors are half as large and almost the same."""
        sent = self.keypoints()
        message = keypoints_to_message(sent, HEADER, 'float16')
        assert len(message.descriptors) == 9 * 64 * 2
        assert (
            np.abs(keypoints_from_message(over_the_wire(message)).descriptors - sent.descriptors).max() < 1e-3
        )

    def test_binary_descriptors(self):
        """The scalar product of two binary descriptors falls with their Hamming distance."""
        message = keypoints_to_message(self.keypoints(2), HEADER)
        message.descriptor_type, message.descriptor_dim = KeypointArray.UINT8, 2
        del message.descriptors[:]
        fill(message.descriptors, np.array([[0b11110000, 0], [0b11110000, 0b1111]], np.uint8), np.uint8)
        descriptors = keypoints_from_message(over_the_wire(message)).descriptors
        assert descriptors.shape == (2, 16)
        assert descriptors[0] @ descriptors[0] == pytest.approx(1.0)
        assert descriptors[0] @ descriptors[1] == pytest.approx(1 - 2 * 4 / 16)

    def test_depth_without_scale_is_unknown(self):
        """Depth that is not in metres must not give odometry its scale."""
        message = keypoints_to_message(self.keypoints(), HEADER)
        message.depth_is_metric = False
        assert np.isnan(keypoints_from_message(message).depth).all()

    @pytest.mark.parametrize('name', ['xy', 'scores', 'descriptors', 'depth', 'class_id'])
    def test_arrays_that_do_not_fit(self, name):
        """A message that contradicts itself is refused, and the array is named."""
        message = keypoints_to_message(self.keypoints(), HEADER)
        getattr(message, name).pop()
        with pytest.raises(KeypointMessageError, match=name):
            keypoints_from_message(over_the_wire(message))

    def test_unknown_element_type(self):
        """A type from the future is refused."""
        message = keypoints_to_message(self.keypoints(), HEADER)
        message.descriptor_type = 77
        with pytest.raises(KeypointMessageError, match='77'):
            keypoints_from_message(message)


def test_global_descriptor():
    """The vector and the model's name arrive."""
    vector = RNG.standard_normal(16).astype(np.float32)
    message = over_the_wire(global_descriptor_to_message(vector, 'net-1', HEADER))
    assert message.model_id == 'net-1'
    assert np.array_equal(np.array(message.descriptor, np.float32), vector)
    assert not math.isnan(message.descriptor[0])


class TestTransformTree:
    """The static transforms between camera and base."""

    def tree(self):
        """Return base → mast → camera → optical, as a driver and a URDF publish it."""
        from mt_perception.nodes.static_transforms import TransformTree

        tree = TransformTree()
        mast, camera = np.eye(4), np.eye(4)
        mast[:3, 3] = [0.2, 0, 1.0]
        camera[:3, :3] = Rotation.from_euler('y', 20, degrees=True).as_matrix()
        camera[:3, 3] = [0.05, 0.1, 0]
        tree.add('base_link', 'mast', mast)
        tree.add('/mast', 'camera', camera)
        tree.add('camera', 'camera_optical', frames.OPTICAL_TO_BASE)
        return tree, mast @ camera @ frames.OPTICAL_TO_BASE

    def test_chain_in_both_directions(self):
        """Transforms multiply along the chain, and invert backwards."""
        tree, expected = self.tree()
        assert np.allclose(tree.lookup('base_link', 'camera_optical'), expected)
        assert np.allclose(tree.lookup('camera_optical', 'base_link'), np.linalg.inv(expected))
        assert np.allclose(tree.lookup('base_link', '/base_link'), np.eye(4))

    def test_not_connected(self):
        """Unknown frames and separate trees give None."""
        tree, _ = self.tree()
        tree.add('other', 'thing', np.eye(4))
        assert tree.lookup('base_link', 'nowhere') is None
        assert tree.lookup('base_link', 'thing') is None
