"""Reads the frames of a sequence in a thread, a few ahead of who needs them."""

import threading
from collections import deque

STOP_S = 1.0


class ReadAhead:
    """
    The frames of a sequence in order, read by a thread.

    :param sequence: :class:`mt_perception.sequences.base.Sequence`.
    :param depth: frames that may wait; the whole sequence if it is longer than that.
    :ivar count: frames read so far.
    """

    def __init__(self, sequence, depth):
        self._sequence = sequence
        self._depth = max(1, depth)
        self._frames = deque()
        self._condition = threading.Condition()
        self._error = None
        self._exhausted = False
        self._stopping = False
        self.count = 0
        self._thread = threading.Thread(target=self._read, name='read ahead', daemon=True)
        self._thread.start()

    def wait_full(self):
        """Return when as many frames wait as may, or none is left to read, or reading was stopped."""
        with self._condition:
            while not (self._exhausted or self._stopping or len(self._frames) >= self._depth):
                self._condition.wait()

    def get(self):
        """
        Return the next frame, None after the last one or when reading was stopped.

        :raises SequenceError: the frame could not be read.
        """
        with self._condition:
            while not (self._frames or self._exhausted or self._stopping):
                self._condition.wait()
            if self._stopping:
                return None
            if self._frames:
                frame = self._frames.popleft()
                self._condition.notify_all()
                return frame
            if self._error is not None:
                raise self._error
            return None

    def stop(self):
        """
        Stop reading and wake whoever waits.

        A frame that is being read is waited for, but not for long: a large one takes seconds.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(STOP_S)

    def _read(self):
        try:
            for index in range(len(self._sequence)):
                with self._condition:
                    while len(self._frames) >= self._depth and not self._stopping:
                        self._condition.wait()
                    if self._stopping:
                        return
                frame = self._sequence[index]
                with self._condition:
                    self._frames.append(frame)
                    self.count += 1
                    self._condition.notify_all()
        except Exception as error:
            self._error = error
        finally:
            with self._condition:
                self._exhausted = True
                self._condition.notify_all()
