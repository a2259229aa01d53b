"""What the class ids of keypoints mean, from the perception node."""

import threading
import time

from vision_msgs.msg import LabelInfo

from mt_perception.nodes.qos import latched_qos


class ClassNames:
    """
    Listens to perception/label_info.

    :param node: the node that subscribes.
    :param on_change: called with {id: name} when other names than the last ones arrive.
    """

    TOPIC = 'perception/label_info'

    def __init__(self, node, on_change):
        self._node = node
        self._on_change = on_change
        self._names = None
        self._arrived = threading.Condition()
        self._stopped = False
        self._subscription = node.create_subscription(LabelInfo, self.TOPIC, self._receive, latched_qos())

    def wait(self, timeout):
        """
        Return {id: name}, waiting for it when somebody publishes it; empty when nobody has in time.

        Not from the executor's thread.

        :param timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while self._names is None and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0 or self._node.count_publishers(self.TOPIC) == 0:
                    break
                self._arrived.wait(left)
            return dict(self._names or {})

    def stop_waiting(self):
        """Wake whoever waits."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify_all()

    def destroy(self):
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _receive(self, message):
        names = {int(entry.class_id): entry.class_name for entry in message.class_map}
        with self._arrived:
            changed = names != self._names
            self._names = names
            self._arrived.notify_all()
        if changed:
            self._on_change(names)
