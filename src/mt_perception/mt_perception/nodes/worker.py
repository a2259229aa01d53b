"""A thread that works on the newest items and never falls behind."""

import threading
from collections import deque


class Worker:
    """
    Calls ``process(item)`` in a thread of its own, in the order of arrival.

    At most ``depth`` items wait. When one more arrives the oldest is dropped and counted, so the
    newest always gets its turn: ``depth=1`` is "newest frame wins".

    :param process: called with one item at a time; never from two threads at once.
    :param depth: items that may wait, at least 1.
    :param on_error: called with an exception that ``process`` let through; the worker goes on.
    :ivar dropped: items that never reached ``process``.
    :ivar processed: items that did.
    """

    def __init__(self, process, depth=1, on_error=None, name='worker'):
        self._process = process
        self._on_error = on_error
        self._waiting = deque(maxlen=depth)
        self._condition = threading.Condition()
        self._stopping = False
        self.dropped = 0
        self.processed = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item):
        """Hand over one item; returns at once."""
        with self._condition:
            if self._stopping:
                return
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += 1
            self._waiting.append(item)
            self._condition.notify()

    def stop(self):
        """End the thread after the item in work; what still waits is dropped. May be called twice."""
        with self._condition:
            self._stopping = True
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self):
        while True:
            with self._condition:
                while not self._waiting and not self._stopping:
                    self._condition.wait()
                if self._stopping:
                    return
                item = self._waiting.popleft()
            try:
                self._process(item)
            except Exception as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
            finally:
                self.processed += 1
