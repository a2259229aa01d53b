"""ROS 2 bags (sqlite3 and mcap), read without ROS."""

import sqlite3
import struct
import threading
from pathlib import Path

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, ImageError, SequenceError
from mt_perception.perception.images import decode_compressed, decode_message
from mt_perception.sequences.bag_poses import ground_truth
from mt_perception.sequences.files import check_stamps
from mt_perception.sequences.stored import StoredSequence

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
NOT_COLOR = ('depth', 'disparity', 'segmentation', 'label', 'mask', 'confidence')  # in names of topics


class RosbagSequence(StoredSequence):
    """
    The images of one topic of a bag.

    The camera is that of the CameraInfo topic beside the images. Ground truth is taken where it is
    unambiguous, see :func:`mt_perception.sequences.bag_poses.ground_truth`. Stamps are those of the headers
    (the time of recording where the headers have none).

    :param path: folder with ``metadata.yaml``, or a single .db3 or .mcap file.
    :param topic: image topic; default the first one of colour or gray images.
    :param ground_truth_topic: topic with the camera's true poses, 'none' for none; default automatic.
    """

    def __init__(self, path, topic=None, ground_truth_topic=None):
        path = Path(path)
        self.name = path.stem if path.is_file() else path.resolve().name
        self._path = path
        self._lock = threading.Lock()
        self._reader = _open(path)
        images = [c for c in self._reader.connections if c.msgtype in (IMAGE, COMPRESSED)]
        self._topic = self._choose(images, topic)
        self._connections = [c for c in images if c.topic == self._topic]
        self._index(images)
        self.camera = self._camera_info()
        if ground_truth_topic != 'none':
            self.poses = self._guard(
                lambda: ground_truth(self._reader, self.stamps, self._frame_id, ground_truth_topic)
            )

    def _guard(self, read):
        """Run a function that reads the bag; damage of any kind becomes one sentence."""
        try:
            return read()
        except SequenceError:
            raise
        except _damage() as error:
            raise SequenceError(
                f"bag '{self._path}' is damaged or cut off ({_first_line(error)}); "
                "repair it with 'ros2 bag reindex' or record it again"
            ) from None

    def _choose(self, images, topic):
        names = list(dict.fromkeys(c.topic for c in images))
        if topic is not None:
            if topic not in names:
                known = ', '.join(names) if names else 'none'
                raise SequenceError(f"bag '{self._path}' has no image topic '{topic}'; it has: {known}")
            return topic
        if not names:
            known = ', '.join(sorted({c.topic for c in self._reader.connections})) or 'nothing'
            raise SequenceError(
                f"bag '{self._path}' has no Image or CompressedImage topic; it holds: {known}"
            )
        color = [n for n in names if not any(word in n.lower() for word in NOT_COLOR)]
        return (color or names)[0]

    def _index(self, images):
        """Go through the images once and note where each one is and when it was taken."""
        self._places, stamps, recorded = [], [], []
        self._frame_id = ''

        def read():
            repeats = {}
            for connection, time, data in self._reader.messages(connections=self._connections):
                seconds, nanoseconds, frame_id = _header(data)
                nth = repeats[time] = repeats.get(time, -1) + 1
                self._places.append((connection, time, nth))
                stamps.append(seconds + nanoseconds * 1e-9)
                recorded.append(time * 1e-9)
                self._frame_id = frame_id

        self._guard(read)
        if not stamps:
            raise SequenceError(f"topic '{self._topic}' of bag '{self._path}' holds no images")
        stamps = np.array(stamps)
        if not stamps.any():
            stamps = np.array(recorded)
        order = np.argsort(stamps, kind='stable')  # a bag is in the order of recording
        self._places = [self._places[i] for i in order]
        self.stamps = stamps[order]
        check_stamps(self.stamps, f'{self._path}:{self._topic}')

    def _camera_info(self):
        """Return the camera of the CameraInfo topic beside the images, or None."""
        connections = [c for c in self._reader.connections if c.msgtype == CAMERA_INFO]
        base = self._topic[: -len('/compressed')] if self._topic.endswith('/compressed') else self._topic
        sibling = base.rsplit('/', 1)[0] + '/camera_info'
        chosen = [c for c in connections if c.topic == sibling]
        if not chosen and len({c.topic for c in connections}) == 1:
            chosen = connections
        if not chosen:
            return None

        def read():
            for connection, _, data in self._reader.messages(connections=chosen):
                info = self._reader.deserialize(data, connection.msgtype)
                if not info.k[0]:
                    return None  # published by an uncalibrated camera
                return Camera(info.width, info.height, info.k, info.d, info.distortion_model or 'plumb_bob')
            return None

        try:
            return self._guard(read)
        except CameraError as error:
            raise SequenceError(f"camera_info of bag '{self._path}': {error}") from None

    def read_image(self, i):
        """Return image ``i``."""
        connection, time, nth = self._places[i]

        def read():
            # One nanosecond early: rosbags 0.10 leaves out an mcap chunk that ends at the start.
            messages = self._reader.messages(self._connections, time - 1, time + 1)
            found = [data for _, recorded, data in messages if recorded == time]
            return self._reader.deserialize(found[nth], connection.msgtype) if len(found) > nth else None

        with self._lock:
            message = self._guard(read)
        if message is None:
            raise SequenceError(f"image {i} of bag '{self._path}' is no longer there; was the bag changed?")
        try:
            if connection.msgtype == COMPRESSED:
                return decode_compressed(message.data, message.format)
            image = decode_message(message)
        except ImageError as error:
            raise SequenceError(
                f"image {i} of topic '{self._topic}' in bag '{self._path}': {error}"
            ) from None
        return np.array(image)


def _open(path):
    """Open a bag with rosbags."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    if path.is_file() and (path.parent / 'metadata.yaml').is_file():
        if len([f for f in path.parent.iterdir() if f.suffix == path.suffix]) == 1:
            path = path.parent  # rosbags 0.10 reads folders only
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except _damage() as error:
        where = "it has no metadata.yaml: run 'ros2 bag reindex'"
        if path.is_file() or (path / 'metadata.yaml').is_file():
            where = "repair it with 'ros2 bag reindex' or record it again"
        raise SequenceError(f"bag '{path}' cannot be opened ({_first_line(error)}); {where}") from None
    return reader


def _damage():
    """Return what rosbags and the storages under it raise on damaged files; parsers raise nearly anything."""
    from rosbags.highlevel import AnyReaderError
    from rosbags.rosbag2 import ReaderError
    from rosbags.serde import SerdeError

    return (
        AnyReaderError, ReaderError, SerdeError, sqlite3.Error, OSError, EOFError, struct.error,
        ValueError, KeyError, IndexError, AssertionError, TypeError, AttributeError, MemoryError,
    )  # fmt: skip


def _first_line(error):
    """Return the first line of an error's text, or its type."""
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _header(data):
    """Return seconds, nanoseconds and frame id of the std_msgs/Header a CDR message begins with."""
    order = '<' if data[1] & 1 else '>'
    seconds, nanoseconds, length = struct.unpack_from(order + 'iII', data, 4)
    return seconds, nanoseconds, bytes(data[16 : 16 + max(0, length - 1)]).decode('utf-8', errors='replace')
