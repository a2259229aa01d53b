"""A participant for programs that are no node: the demo, the latency evaluation, the tests."""

import sys
import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from mt_perception.nodes.qos import output_qos

CHECK_S = 0.25
CLOSE_S = 10.0


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
        self._closing = Future()
        self._failure = None
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
        :raises Exception: what a callback has raised: nothing is heard any more.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self.changed:
                if self._failure is not None:
                    raise self._failure
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
        """
        Leave the graph.

        Only an idle executor is shut down: shutting down one that spins in another thread may take away
        the guard condition between the thread's last look and its wait, which then has no end.
        """
        if not self._closing.done():
            self._closing.set_result(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():  # a callback does not return; the thread dies with the process
            print(f'a callback of {self.node.get_name()} did not end within {CLOSE_S:.0f} s', file=sys.stderr)
            return
        self._executor.shutdown()
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
            self._executor.spin_until_future_complete(self._closing)
        except ExternalShutdownException:
            pass
        except Exception as error:
            with self.changed:
                self._failure = error
                self.changed.notify_all()
