"""The calibration a node works with, from the newest camera_info."""

import threading

from sensor_msgs.msg import CameraInfo

from mt_perception.errors import CameraError
from mt_perception.nodes.conversions import camera_from_info, fit_camera
from mt_perception.nodes.qos import input_qos


class CameraInput:
    """
    Subscribes a camera_info topic and keeps the calibration it carries.

    :param node: the node that subscribes.
    :param topic: name of the topic.
    :param rectified: the images are rectified: P counts, and there is no distortion.
    :param on_change: called without arguments when a calibration other than the last one arrives.
    :ivar topic: resolved name.
    :ivar received: whether any camera_info has arrived.
    """

    def __init__(self, node, topic, rectified=False, on_change=None):
        self._node = node
        self._rectified = rectified
        self._on_change = on_change
        self._lock = threading.Lock()
        self._signature = None
        self._camera = None
        self._error = None
        self._fitted = {}
        self.received = False
        self.topic = node.resolve_topic_name(topic)
        self._subscription = node.create_subscription(
            CameraInfo, topic, self._receive, input_qos('best_effort', 1)
        )

    @property
    def signature(self):
        """What tells one calibration from another; None while no camera_info has arrived."""
        return self._signature

    def destroy(self):
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def fit(self, size):
        """
        Return the camera for images of ``size`` (width, height), None while no camera_info has arrived.

        :raises CameraError: the camera is not calibrated, or the calibration is for another shape of image.
        """
        with self._lock:
            if self._error is not None:
                raise CameraError(self._error)
            if self._camera is None:
                return None
            if size not in self._fitted:
                self._fitted[size] = fit_camera(self._camera, size)
            return self._fitted[size]

    def _receive(self, message):
        signature = (
            message.width,
            message.height,
            message.distortion_model,
            tuple(message.d),
            tuple(message.k),
            tuple(message.p),
            message.binning_x,
            message.binning_y,
            (message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height),
        )
        if signature == self._signature:
            return
        with self._lock:
            self._signature = signature
            self._fitted = {}
            self._camera = self._error = None
            try:
                self._camera = camera_from_info(message, self._rectified)
            except CameraError as error:
                self._error = str(error)
            self.received = True
        if self._on_change is not None:
            self._on_change()
