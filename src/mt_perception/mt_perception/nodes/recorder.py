"""Writes down what comes out of the system, frame by frame."""

from dataclasses import dataclass, field

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from mt_msgs.msg import GlobalDescriptor, KeypointArray
from mt_perception.nodes.conversions import pose_from_message, rgb_from_image, stamp_key
from mt_perception.nodes.feature_messages import keypoints_from_message
from mt_perception.nodes.qos import output_qos
from mt_perception.nodes.timing import percentiles
from mt_perception.perception.images import view_pixels

UNKNOWN_VARIANCE = 1e3  # m²; the odometry's "not known" is orders of magnitude above


@dataclass
class FrameRecord:
    """
    What is known about one frame, by stamp.

    :param published_ns: when the player published it.
    :param keypoints_ns: when its keypoints arrived, 0 = never.
    :param odometry_ns: when its odometry arrived, 0 = never.
    :param pose: [4,4] of the base in the odometry frame.
    :param tracked: whether that pose is known.
    :param global_descriptor: [G] float32.
    :param keypoints: :class:`mt_perception.types.Keypoints`, where kept.
    :param image: [H,W,3] uint8, where kept.
    :param segmentation: [H,W] uint8, where kept.
    :param depth: [H,W] float32, where kept.
    """

    published_ns: int = 0
    keypoints_ns: int = 0
    odometry_ns: int = 0
    pose: np.ndarray = None
    tracked: bool = False
    global_descriptor: np.ndarray = None
    keypoints: object = None
    image: np.ndarray = None
    segmentation: np.ndarray = None
    depth: np.ndarray = None


@dataclass
class Recorder:
    """
    Subscribes the results and keeps them by stamp.

    Every frame's times, pose and global descriptor are kept; the large things only where asked for.

    :param listener: :class:`mt_perception.nodes.listener.Listener`.
    :param picture_stamps: set of stamps (integer nanoseconds) whose masks and depth are kept.
    :param keypoint_stamps: set of stamps whose image and keypoints are kept.
    :param tasks: names of what to subscribe; nobody computes what nobody asks for.
    """

    listener: object
    picture_stamps: set = field(default_factory=set)
    keypoint_stamps: set = field(default_factory=set)
    tasks: tuple = ('segmentation', 'depth', 'keypoints', 'global_descriptor')
    frames: dict = field(default_factory=dict)
    map_points: np.ndarray = None

    def __post_init__(self):
        """Subscribe."""
        subscribe = self.listener.subscribe
        subscribe(CameraInfo, 'camera_info', self._on_info, output_qos(1000))
        if self.keypoint_stamps:
            subscribe(Image, 'image', self._on_image)
        if 'keypoints' in self.tasks:
            subscribe(KeypointArray, 'perception/keypoints', self._on_keypoints)
            subscribe(Odometry, 'visual_odometry/odometry', self._on_odometry)
            subscribe(PointCloud2, 'visual_odometry/map_points', self._on_points)
        if 'global_descriptor' in self.tasks:
            subscribe(GlobalDescriptor, 'perception/global_descriptor', self._on_global)
        if 'segmentation' in self.tasks:
            subscribe(Image, 'perception/segmentation', self._on_segmentation)
        if 'depth' in self.tasks:
            subscribe(Image, 'perception/depth', self._on_depth)

    def forget(self):
        """Start over."""
        with self.listener.changed:
            self.frames = {}
            self.map_points = None

    def in_order(self):
        """Return [(stamp in nanoseconds, :class:`FrameRecord`)] of the published frames, by stamp."""
        with self.listener.changed:
            return sorted((key, frame) for key, frame in self.frames.items() if frame.published_ns)

    def count(self, attribute):
        """Return how many published frames have ``attribute`` (such as ``keypoints_ns``) set."""
        with self.listener.changed:
            return sum(
                bool(frame.published_ns and getattr(frame, attribute)) for frame in self.frames.values()
            )

    def latency_ms(self, attribute, skip=0):
        """
        Return the milliseconds from the publishing of each image to the arrival of its result.

        :param attribute: ``keypoints_ns`` or ``odometry_ns``.
        :param skip: frames left out at the beginning.
        :return: [N] float64, frames without a result left out.
        """
        frames = [frame for _, frame in self.in_order()][skip:]
        arrived = [(getattr(f, attribute) - f.published_ns) * 1e-6 for f in frames if getattr(f, attribute)]
        return np.array(arrived, np.float64)

    def latency_percentiles(self, attribute, skip=0):
        """Return {'p50': ms, 'p95': ms, 'p99': ms} of :meth:`latency_ms`."""
        return percentiles(self.latency_ms(attribute, skip))

    def _frame(self, message):
        return self.frames.setdefault(stamp_key(message.header.stamp), FrameRecord())

    def _on_info(self, message, info):
        frame = self._frame(message)
        frame.published_ns = frame.published_ns or info['source_timestamp']

    def _on_image(self, message, info):
        if stamp_key(message.header.stamp) in self.keypoint_stamps:
            self._frame(message).image = rgb_from_image(message).copy()

    def _on_keypoints(self, message, info):
        frame = self._frame(message)
        frame.keypoints_ns = frame.keypoints_ns or info['received_timestamp']
        if stamp_key(message.header.stamp) in self.keypoint_stamps:
            frame.keypoints = keypoints_from_message(message)

    def _on_odometry(self, message, info):
        frame = self._frame(message)
        frame.odometry_ns = frame.odometry_ns or info['received_timestamp']
        frame.pose = pose_from_message(message.pose.pose)
        frame.tracked = message.pose.covariance[0] < UNKNOWN_VARIANCE

    def _on_global(self, message, info):
        self._frame(message).global_descriptor = np.array(message.descriptor, np.float32)

    def _on_segmentation(self, message, info):
        if stamp_key(message.header.stamp) in self.picture_stamps:
            pixels = view_pixels(message.data, message.width, message.height, message.step, 'u1', 1)
            self._frame(message).segmentation = pixels[..., 0].copy()

    def _on_depth(self, message, info):
        if stamp_key(message.header.stamp) in self.picture_stamps:
            pixels = view_pixels(message.data, message.width, message.height, message.step, '<f4', 1)
            self._frame(message).depth = pixels[..., 0].copy()

    def _on_points(self, message, info):
        self.map_points = np.frombuffer(message.data, '<f4').reshape(-1, 3).copy()
