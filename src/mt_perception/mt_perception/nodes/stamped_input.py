"""Messages of a topic beside the main one, to be joined with it by stamp."""

import threading
import time
from collections import deque

from mt_perception.nodes.conversions import seconds_from_stamp
from mt_perception.nodes.qos import input_qos

KEPT = 15  # messages: half a second of a camera, for main messages that come late


class StampedInput:
    """
    Subscribes a topic and keeps its newest messages.

    :param node: the node that subscribes.
    :param message_type: of a message with a header.
    :param topic: name of the topic.
    :param reliability: QoS of the subscription.
    :param tolerance: largest difference of stamps in seconds of messages that belong together.
    :ivar topic: resolved name.
    """

    def __init__(self, node, message_type, topic, reliability, tolerance):
        self._node = node
        self._name = topic
        self._tolerance = tolerance
        self._messages = deque(maxlen=KEPT)  # (seconds, message)
        self._arrived = threading.Condition()
        self._stopped = False
        self.topic = node.resolve_topic_name(topic)
        self._subscription = node.create_subscription(
            message_type, topic, self._receive, input_qos(reliability, 5)
        )

    def wait(self, stamp, timeout):
        """
        Return the message that belongs to ``stamp``, None when there is none in time.

        Not from the executor's thread.

        :param stamp: seconds.
        :param timeout: seconds to wait where somebody publishes; a newer message ends the waiting.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not self._stopped:
                near = min(self._messages, key=lambda entry: abs(entry[0] - stamp), default=None)
                if near is not None and abs(near[0] - stamp) <= self._tolerance:
                    return near[1]
                newest = self._messages[-1][0] if self._messages else stamp
                left = deadline - time.monotonic()
                if left <= 0 or newest > stamp + self._tolerance:
                    return None
                if self._node.count_publishers(self._name) == 0:
                    return None
                self._arrived.wait(left)
        return None

    def stop_waiting(self):
        """Wake whoever waits."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify_all()

    def destroy(self):
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _receive(self, message):
        with self._arrived:
            self._messages.append((seconds_from_stamp(message.header.stamp), message))
            self._arrived.notify_all()
