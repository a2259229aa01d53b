"""A participant for programs that are no node: the demo, the latency evaluation, the tests."""

import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from mt_perception.nodes.qos import output_qos

CHECK_S = 0.25


class Listener:
    """
    Hears topics in a thread of its own; a context manager.

    :param domain: ROS_DOMAIN_ID, None = the environment's.
    :param name: node name.
    :ivar node: the node, to make publishers and clients with.
    :ivar changed: condition notified after every callback.
    """

    def __init__(self, domain=None, name='listener'):
        self._context = rclpy.Context()
        rclpy.init(
            args=[], context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO
        )
        self.node = Node(name, context=self._context)
        self.changed = threading.Condition()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def subscribe(self, message_type, topic, callback, qos=None):
        """
        Call ``callback(message, info)`` for every message.

        :param callback: ``info`` has ``source_timestamp`` and ``received_timestamp`` in nanoseconds: when the
            middleware of the publisher took the message and when the middleware here got it.
        :return: the subscription.
        """

        def receive(message, info):
            with self.changed:
                callback(message, info)
                self.changed.notify_all()

        return self.node.create_subscription(message_type, topic, receive, qos or output_qos(50))

    def wait_for(self, condition, timeout, check=None):
        """
        Wait until ``condition()`` is true.

        :param timeout: seconds.
        :param check: called now and then, may raise to end the waiting.
        :return: whether it became true in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self.changed:
                if condition():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(min(left, CHECK_S))
            if check is not None:
                check()

    def call(self, service_type, name, request, timeout, check=None):
        """Call a service and return its response, None when there is none in time."""
        client = self.node.create_client(service_type, name)
        try:
            if not self.wait_for(client.service_is_ready, timeout, check):
                return None
            future = client.call_async(request)
            future.add_done_callback(self._notify)
            if not self.wait_for(future.done, timeout, check):
                return None
            return future.result()
        finally:
            self.node.destroy_client(client)

    def close(self):
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def __enter__(self):
        """Return the listener."""
        return self

    def __exit__(self, *_):
        """Close it."""
        self.close()

    def _notify(self, _):
        with self.changed:
            self.changed.notify_all()

    def _spin(self):
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
