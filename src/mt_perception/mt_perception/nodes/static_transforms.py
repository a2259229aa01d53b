"""Where the camera sits on the robot, from /tf_static."""

import threading
import time

import numpy as np
from tf2_msgs.msg import TFMessage

from mt_perception.nodes.conversions import transform_from_message
from mt_perception.nodes.qos import latched_qos


class TransformTree:
    """Fixed transforms between named frames."""

    def __init__(self):
        self._edges = {}

    def add(self, parent, child, transform):
        """
        Add one transform.

        :param transform: [4,4], maps coordinates of ``child`` into ``parent``.
        """
        parent, child = parent.lstrip('/'), child.lstrip('/')
        self._edges.setdefault(parent, {})[child] = transform
        self._edges.setdefault(child, {})[parent] = np.linalg.inv(transform)

    def lookup(self, target, source):
        """Return [4,4] from coordinates of ``source`` to those of ``target``, None when not connected."""
        target, source = target.lstrip('/'), source.lstrip('/')
        reached = {target: np.eye(4)}
        waiting = [target]
        while waiting:
            frame = waiting.pop()
            if frame == source:
                return reached[frame]
            for neighbour, transform in self._edges.get(frame, {}).items():
                if neighbour not in reached:
                    reached[neighbour] = reached[frame] @ transform
                    waiting.append(neighbour)
        return None


class StaticTransforms:
    """
    Listens to /tf_static of a node's graph.

    A small listener of its own because tf2_ros is not on PyPI, and all a camera's mounting needs is the
    static part of the tree.

    :param node: the node that subscribes.
    """

    TOPIC = '/tf_static'

    def __init__(self, node):
        self._node = node
        self._tree = TransformTree()
        self._arrived = threading.Condition()
        self._stopped = False
        self._subscription = node.create_subscription(TFMessage, self.TOPIC, self._receive, latched_qos(100))

    def wait(self, target, source, timeout):
        """
        Return :meth:`TransformTree.lookup`, waiting for it if need be; not from the executor's thread.

        :param timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                found = self._tree.lookup(target, source)
                left = deadline - time.monotonic()
                if found is not None or left <= 0 or self._stopped:
                    return found
                self._arrived.wait(left)

    def stop_waiting(self):
        """Wake whoever waits."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify_all()

    def expected(self):
        """Return whether anybody publishes static transforms."""
        return self._node.count_publishers(self.TOPIC) > 0

    def destroy(self):
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _receive(self, message):
        with self._arrived:
            for entry in message.transforms:
                transform = transform_from_message(entry.transform)
                self._tree.add(entry.header.frame_id, entry.child_frame_id, transform)
            self._arrived.notify_all()
