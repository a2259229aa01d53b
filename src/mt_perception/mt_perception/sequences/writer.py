"""
Writes a sequence out in a format that other tools (and this project) read.

Everything is written into a folder beside the target, which takes the target's name at the end: a target
is there whole or not at all.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.calibration import camera_to_yaml
from mt_perception.sequences.trajectory_io import rotations_to_quaternions, write_kitti, write_text

FORMATS = ('rgbd', 'kitti', 'images', 'sqlite3', 'mcap')
MAX_DEPTH_MM = 65534
JPEG_QUALITY = 95


def write_sequence(sequence, target, form='rgbd', progress=None):
    """
    Write a sequence.

    :param sequence: :class:`mt_perception.sequences.base.Sequence`.
    :param target: folder to make; it must not exist.
    :param form: 'rgbd' (7-Scenes layout, lossless), 'kitti' (``image_2/``, rectified cameras only), 'images'
        (a plain folder), 'sqlite3' or 'mcap' (a ROS 2 bag with image, camera_info and ground_truth).
    :param progress: called with (frames done, frames) after each frame.
    :raises SequenceError: unknown format, a target that exists, or what the format cannot hold.
    """
    if form not in FORMATS:
        raise SequenceError(f"there is no sequence format '{form}' to write; use one of {', '.join(FORMATS)}")
    writers = {'rgbd': _write_rgbd, 'kitti': _write_kitti, 'images': _write_images}
    with _beside(target) as folder:
        if form in writers:
            writers[form](sequence, folder, progress)
        else:
            _write_bag(sequence, folder, form, progress)


@contextmanager
def _beside(target):
    """Give a path beside ``target`` to write to, and rename it at the end."""
    target = Path(target)
    if target.exists():
        raise SequenceError(f"'{target}' exists already; give another name or remove it first")
    beside = target.with_name(f'.{target.name}.{os.getpid()}.part')
    shutil.rmtree(beside, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.rename(target)
    except OSError as error:
        raise SequenceError(f"'{target}' cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _frames(sequence, progress):
    for i in range(len(sequence)):
        yield i, sequence[i]
        if progress is not None:
            progress(i + 1, len(sequence))


def _write_image(path, image, parameters=()):
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    good, data = cv2.imencode(path.suffix, pixels, list(parameters))
    if not good:
        raise SequenceError(f"'{path}' cannot be encoded")
    path.write_bytes(data.tobytes())


def _complete_poses(sequence, form):
    """Return the poses, or None; one missing among others cannot be written."""
    if sequence.poses is None or all(pose is None for pose in sequence.poses):
        return None
    if any(pose is None for pose in sequence.poses):
        raise SequenceError(
            f"'{sequence.name}' lacks ground truth for some frames, which the {form} format cannot say; "
            "write a part with --frames, or 'rgbd'"
        )
    return sequence.poses


def _write_rgbd(sequence, folder, progress):
    """7-Scenes layout: colour png, registered depth png in millimetres, pose, and the camera."""
    folder.mkdir()
    if sequence.camera is not None:
        write_text(folder / 'camera.yaml', camera_to_yaml(sequence.camera))
    write_text(folder / 'times.txt', ''.join(f'{stamp:.9f}\n' for stamp in sequence.stamps))
    for i, frame in _frames(sequence, progress):
        stem = f'frame-{i:06d}'
        _write_image(folder / f'{stem}.color.png', frame.image)
        if frame.depth is not None:
            millimetres = np.rint(np.nan_to_num(frame.depth * 1000, nan=0, posinf=0))
            millimetres[(millimetres < 0) | (millimetres > MAX_DEPTH_MM)] = 0
            _write_image(folder / f'{stem}.depth.png', millimetres.astype(np.uint16))
        if frame.pose is not None:
            np.savetxt(folder / f'{stem}.pose.txt', frame.pose, fmt='%.9e')


def _rectified_camera(sequence, form):
    if sequence.camera is None or sequence.camera.distortion.any():
        raise SequenceError(
            f"'{sequence.name}' has no camera or one with lens distortion; {form} needs a rectified one"
        )
    return sequence.camera


def _write_kitti(sequence, folder, progress):
    """KITTI odometry layout, with the images in ``image_2``."""
    camera, poses = _rectified_camera(sequence, 'kitti'), _complete_poses(sequence, 'kitti')
    (folder / 'image_2').mkdir(parents=True)
    numbers = ' '.join(f'{v:.12e}' for v in np.c_[camera.matrix, np.zeros(3)].ravel())
    write_text(folder / 'calib.txt', ''.join(f'P{i}: {numbers}\n' for i in range(4)))
    write_text(folder / 'times.txt', ''.join(f'{stamp:.9f}\n' for stamp in sequence.stamps))
    if poses is not None:
        write_kitti(folder / 'poses.txt', poses)
    for i, frame in _frames(sequence, progress):
        _write_image(folder / 'image_2' / f'{i:06d}.png', frame.image)


def _write_images(sequence, folder, progress):
    """A plain folder of jpg images with camera.yaml, times.txt and poses.txt."""
    folder.mkdir()
    poses = _complete_poses(sequence, 'images')
    if sequence.camera is not None:
        write_text(folder / 'camera.yaml', camera_to_yaml(sequence.camera))
    write_text(folder / 'times.txt', ''.join(f'{stamp:.9f}\n' for stamp in sequence.stamps))
    if poses is not None:
        write_kitti(folder / 'poses.txt', poses)
    for i, frame in _frames(sequence, progress):
        _write_image(folder / f'{i:06d}.jpg', frame.image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))


def _write_bag(sequence, folder, form, progress, frame_id='camera_optical_frame', world='map'):
    """A ROS 2 bag: camera/image_raw, camera/camera_info, ground_truth/pose (the camera's optical frame)."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    plugin = StoragePlugin.MCAP if form == 'mcap' else StoragePlugin.SQLITE3
    header_type, time_type = types['std_msgs/msg/Header'], types['builtin_interfaces/msg/Time']
    with Writer(folder, version=9, storage_plugin=plugin) as bag:
        names = {'image': 'sensor_msgs/msg/Image'}
        topics = {'image': '/camera/image_raw', 'info': '/camera/camera_info', 'truth': '/ground_truth/pose'}
        if sequence.camera is not None:
            names['info'] = 'sensor_msgs/msg/CameraInfo'
        if sequence.poses is not None:
            names['truth'] = 'geometry_msgs/msg/PoseStamped'
        connections = {k: bag.add_connection(topics[k], name, typestore=store) for k, name in names.items()}

        def write(kind, nanoseconds, message):
            bag.write(connections[kind], nanoseconds, store.serialize_cdr(message, names[kind]))

        for _, frame in _frames(sequence, progress):
            nanoseconds = round(frame.stamp * 1e9)
            stamp = time_type(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
            header = header_type(stamp=stamp, frame_id=frame_id)
            height, width = frame.image.shape[:2]
            if 'info' in names:
                write('info', nanoseconds, _camera_info(types, header, frame.camera or sequence.camera))
            image = types['sensor_msgs/msg/Image'](
                header=header,
                height=height,
                width=width,
                encoding='rgb8',
                is_bigendian=0,
                step=3 * width,
                data=np.ascontiguousarray(frame.image).ravel(),
            )
            write('image', nanoseconds, image)
            if frame.pose is not None:
                x, y, z, w = rotations_to_quaternions(frame.pose[None, :3, :3])[0].tolist()
                pose = types['geometry_msgs/msg/Pose'](
                    position=types['geometry_msgs/msg/Point'](*frame.pose[:3, 3].tolist()),
                    orientation=types['geometry_msgs/msg/Quaternion'](x=x, y=y, z=z, w=w),
                )
                truth = types[names['truth']](header=header_type(stamp=stamp, frame_id=world), pose=pose)
                write('truth', nanoseconds, truth)


def _camera_info(types, header, camera):
    """Return a CameraInfo message of rosbags' types."""
    roi = types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return types['sensor_msgs/msg/CameraInfo'](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.model,
        d=np.asarray(camera.distortion, np.float64),
        k=camera.matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.c_[camera.matrix, np.zeros(3)].ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )
