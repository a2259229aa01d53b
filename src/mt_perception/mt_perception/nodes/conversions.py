"""ROS messages to what the core works with, and back; every large array in one copy at most."""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, ImageError
from mt_perception.perception.images import WHITE_16_BIT, decode_compressed, decode_message
from mt_perception.sequences.trajectory_io import quaternions_to_rotations, rotations_to_quaternions

IMAGE_TYPES = {'mono8': np.uint8, 'rgb8': np.uint8, 'bgr8': np.uint8, '32FC1': np.float32, '16UC1': np.uint16}
NANOSECONDS = 1_000_000_000


def seconds_from_stamp(stamp):
    """Return builtin_interfaces/Time as seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def stamp_from_seconds(seconds):
    """Return seconds as builtin_interfaces/Time, rounded to the nanosecond."""
    total = round(seconds * NANOSECONDS)
    return Time(sec=total // NANOSECONDS, nanosec=total % NANOSECONDS)


def stamp_key(stamp):
    """Return builtin_interfaces/Time as integer nanoseconds, for exact comparison."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def rgb_from_image(message, white_level=WHITE_16_BIT):
    """
    Return a sensor_msgs/Image as [H,W,3] uint8 RGB.

    :raises ImageError: unknown encoding, or a buffer that does not fit its size.
    """
    return decode_message(message, white_level)


def rgb_from_compressed(message):
    """Return a sensor_msgs/CompressedImage as [H,W,3] uint8 RGB; raises ImageError."""
    return decode_compressed(message.data, message.format)


def image_from_array(array, encoding, header):
    """
    Return an array as sensor_msgs/Image.

    :param array: [H,W] or [H,W,3] of the encoding's element type.
    :param encoding: one of ``IMAGE_TYPES``.
    :param header: std_msgs/Header.
    """
    array = np.ascontiguousarray(array, IMAGE_TYPES[encoding])
    message = Image(header=header, encoding=encoding, height=array.shape[0], width=array.shape[1])
    message.step = array.strides[0]
    fill(message.data, array, array.dtype)
    return message


def camera_from_info(message, rectified=False):
    """
    Return a sensor_msgs/CameraInfo as :class:`Camera`, binning and region of interest applied.

    :param rectified: the images are rectified: use P and no distortion.
    :raises CameraError: K is zero, which says "not calibrated".
    """
    if not any(message.k):
        raise CameraError(
            'camera_info has a zero K, so the camera is not calibrated: calibrate it '
            '(ros2 run camera_calibration cameracalibrator) and publish the result'
        )
    if rectified and any(message.p):
        matrix = np.array(message.p, np.float64).reshape(3, 4)[:, :3].copy()
        distortion, model = np.zeros(0), ''
    else:
        matrix = np.array(message.k, np.float64).reshape(3, 3)
        distortion = np.zeros(0) if rectified else np.array(message.d, np.float64)
        model = '' if rectified else message.distortion_model
    width, height = message.width, message.height
    roi = message.roi
    if roi.width and roi.height:
        matrix[0, 2] -= roi.x_offset
        matrix[1, 2] -= roi.y_offset
        width, height = roi.width, roi.height
    camera = Camera(width, height, matrix, distortion, model)
    bin_x, bin_y = max(message.binning_x, 1), max(message.binning_y, 1)
    if bin_x > 1 or bin_y > 1:
        camera = camera.scaled(width // bin_x, height // bin_y)
    return camera


def info_from_camera(camera, header, size=None):
    """
    Return a :class:`Camera` as sensor_msgs/CameraInfo.

    :param camera: None gives the zero K of an uncalibrated camera.
    :param size: (width, height) for an uncalibrated camera.
    """
    message = CameraInfo(header=header)
    if camera is None:
        message.width, message.height = size
        return message
    message.width, message.height = camera.width, camera.height
    message.distortion_model = camera.model or 'plumb_bob'
    message.d = camera.distortion.tolist()
    message.k = camera.matrix.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([camera.matrix, np.zeros((3, 1))]).ravel()
    return message


def fit_camera(camera, size):
    """
    Return ``camera`` for images of ``size`` (width, height).

    :raises CameraError: the aspect ratios differ, so it is another camera or a cropped image.
    """
    width, height = size
    if (camera.width, camera.height) == (width, height):
        return camera
    if abs(width * camera.height - height * camera.width) > 0.01 * width * camera.height:
        raise CameraError(
            f'camera_info is for {camera.width}×{camera.height} pixels, the image has {width}×{height}: '
            'another shape, so the calibration does not belong to it'
        )
    return camera.scaled(width, height)


def pose_to_message(pose):
    """Return a [4,4] transform as geometry_msgs/Pose."""
    message = Pose()
    _fill_motion(message.position, message.orientation, pose)
    return message


def pose_from_message(message):
    """Return a geometry_msgs/Pose as [4,4] float64."""
    return _motion(message.position, message.orientation)


def transform_to_message(pose):
    """Return a [4,4] transform as geometry_msgs/Transform."""
    message = Transform()
    _fill_motion(message.translation, message.rotation, pose)
    return message


def transform_from_message(message):
    """Return a geometry_msgs/Transform as [4,4] float64."""
    return _motion(message.translation, message.rotation)


def _fill_motion(vector, quaternion, pose):
    """Write [4,4] into the two parts of a message."""
    vector.x, vector.y, vector.z = (float(v) for v in pose[:3, 3])
    fill_quaternion(quaternion, pose[:3, :3])


def _motion(vector, quaternion):
    """Return the two parts of a message as [4,4] float64."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_message(quaternion)
    pose[:3, 3] = vector.x, vector.y, vector.z
    return pose


def fill_quaternion(message, rotation):
    """Write a [3,3] rotation into a geometry_msgs/Quaternion."""
    message.x, message.y, message.z, message.w = rotations_to_quaternions(rotation[None])[0].tolist()


def rotation_from_message(message):
    """Return a geometry_msgs/Quaternion as [3,3]."""
    return quaternions_to_rotations([[message.x, message.y, message.z, message.w]])[0]


def cloud_from_points(points, header):
    """
    Return points as sensor_msgs/PointCloud2 with fields x, y, z.

    :param points: [N,3] metres in the header's frame.
    """
    points = np.ascontiguousarray(points, '<f4').reshape(-1, 3)
    message = PointCloud2(header=header, height=1, width=len(points), point_step=12, is_dense=True)
    message.row_step = 12 * len(points)
    message.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate('xyz')
    ]
    fill(message.data, points, points.dtype)
    return message


def depth_from_image(message):
    """
    Return a depth sensor_msgs/Image as [H,W] float32 metres, NaN where unknown (REP 118).

    :raises ImageError: an encoding other than 32FC1 (metres) and 16UC1 (millimetres), or a buffer too short.
    """
    kinds = {'32FC1': 'f4', '16UC1': 'u2', 'mono16': 'u2'}
    if message.encoding not in kinds:
        raise ImageError(
            f"a depth image has the encoding 32FC1 (metres) or 16UC1 (millimetres), not '{message.encoding}'"
        )
    kind = np.dtype(('>' if message.is_bigendian else '<') + kinds[message.encoding])
    row, needed = message.width * kind.itemsize, message.step * message.height
    if message.step < row or len(message.data) < needed:
        raise ImageError(
            f'a depth image claims {message.width} × {message.height} pixels in rows of {message.step} '
            f'bytes, but has {len(message.data)} bytes'
        )
    rows = np.frombuffer(message.data, np.uint8, needed).reshape(message.height, message.step)
    values = np.ascontiguousarray(rows[:, :row]).view(kind)
    depth = values.astype(np.float32) * (np.float32(0.001) if kind.kind == 'u' else np.float32(1))
    depth[~(depth > 0) | np.isinf(depth)] = np.nan
    return depth


def copy_header(header, frame_id=None):
    """Return a header with the same stamp, and another frame if one is given."""
    return Header(stamp=header.stamp, frame_id=header.frame_id if frame_id is None else frame_id)


def fill(field, values, dtype):
    """
    Append an array to a packed field of a fresh message, in one copy.

    Such a field is an ``array.array``; filling it is the one way that is fast on every distribution.
    """
    field.frombytes(np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8))
