"""Runs one node as a process that ends cleanly: on SIGINT, on SIGTERM, under load, at the end of its work."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from mt_perception.errors import MtError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 20.0  # for putting away what runs
START_GRACE_S = 3.0  # while nothing runs yet, but an engine is being built or a scene rendered
END_WITH_PARENT = 'MT_END_WITH_PARENT'
THREAD_GRACE_S = 0.2
PR_SET_PDEATHSIG = 1


class StopSignal:
    """
    A future that SIGINT and SIGTERM complete.

    rclpy's own handlers shut the context down under the feet of whoever is publishing, and a second
    signal interrupts the clean-up. Here the context lives until the node has put its things away.
    The signal wakes a small thread through a socket, because Python calls its handlers in the main
    thread only, and that one sits in ``rcl_wait``. The thread ends the process if the clean-up takes too
    long, also when the node's work is done without a signal.
    """

    def __init__(self):
        self.future = Future()
        self.starting = True
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name='signals', daemon=True).start()

    @property
    def requested(self):
        """Whether the process has been asked to end, or its work is done."""
        return self.future.done()

    def request(self):
        """Ask the process to end; from any thread, any number of times."""
        with self._lock:
            if self.future.done():
                return
            self.future.set_result(None)
        with contextlib.suppress(OSError):  # it is the thread itself that asks, or the clean-up is over
            self._writer.send(b'\0')

    def finish(self):
        """Say that the clean-up is over."""
        for number in STOP_SIGNALS:  # ignored, or a second one would kill Python while it ends
            signal.signal(number, signal.SIG_IGN)
        self._finished.set()
        signal.set_wakeup_fd(-1)
        self._writer.close()

    def _watch(self):
        if not self._reader.recv(1):  # closed: the clean-up is over
            return
        self.request()
        if self.starting and not self._finished.wait(START_GRACE_S) and self.starting:
            os._exit(0)
        if not self._finished.wait(GRACE_S):
            print(f'not ended within {GRACE_S:.0f} s, giving up in:', file=sys.stderr, flush=True)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            os._exit(1)


def run(create_node, arguments=None):
    """
    Run a :class:`~mt_perception.nodes.managed_node.ManagedNode` until a signal or the end of its work.

    :param create_node: makes the node; called after ``rclpy.init``.
    :param arguments: command line, ROS arguments included.
    :return: exit status: 0 after a clean end, 1 after an error, whose one sentence is on stderr.
    """
    end_with_parent()
    stop = StopSignal()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        # rcl's message already names the argument or file; the exception types differ between distributions.
        print(first_sentence(error), file=sys.stderr)
        return 1
    status = 1
    node = None
    executor = SingleThreadedExecutor()
    try:
        node = create_node()
        executor.add_node(node)
        node.on_work_done = stop.request
        active = not node.autostart or node.start(stop)
        stop.starting = False
        if active:
            executor.spin_until_future_complete(stop.future)
            status = node.exit_status
        elif stop.requested:
            status = 0
    except ExternalShutdownException:
        status = 0
    except (MtError, ParameterException) as error:
        print(first_sentence(error), file=sys.stderr)
    finally:
        stop.starting = False
        if node is not None:
            node.free()
            executor.remove_node(node)
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
        stop.finish()
    leave_if_threads_are_left(status)
    return status


def leave_if_threads_are_left(status):
    """
    End the process here if a thread is still busy (reading a frame that takes seconds, say).

    Python would take its modules apart under it.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        thread.join(THREAD_GRACE_S)
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def first_sentence(error):
    """Return an exception's text on one line."""
    return ' '.join(str(error).split()) or type(error).__name__


def end_with_parent():
    """Have the kernel send SIGTERM when the parent dies, if it asked for that in the environment."""
    parent = os.environ.get(END_WITH_PARENT)
    if not parent or not sys.platform.startswith('linux'):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise SystemExit(0)
