"""Work on the items of a sequence in threads, ahead of who uses the results."""

import contextlib
import threading

MOST_AT_ONCE = 8  # more than this many images at a time wait for odometry, in one process
AHEAD = 2  # results per thread that may wait: they bridge a keyframe, which keeps odometry longer


class Ahead:
    """
    Results of ``work(item)`` in the order of the items, computed by threads.

    Items are taken from the iterator one after the other, as readers of videos and bags need it; several are
    worked on at a time. What an item or its work raises, comes in its turn. A context manager, which stops
    the threads.

    :param items: iterable.
    :param work: function of an item, called from several threads; it should leave Python often, as inference
        does, or the threads only wait for each other.
    :param at_once: threads, at least 1.
    """

    def __init__(self, items, work, at_once):
        self._items, self._work = iter(items), work
        self._limit = AHEAD * at_once
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        self._results = {}  # that wait: {number: (item, result, error)}
        self._taken = 0
        self._used = 0
        self._ended = False
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f'ahead {k}', daemon=True) for k in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self):
        """Return the results."""
        return self

    def __exit__(self, *_):
        """Stop the threads after the items in work."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __iter__(self):
        """Go through (item, result)."""
        while True:
            with self._changed:
                while self._used not in self._results:
                    if self._ended and self._used == self._taken:
                        return
                    self._changed.wait()
                item, result, error = self._results.pop(self._used)
                self._used += 1
                self._changed.notify_all()
            if error is not None:
                raise error
            yield item, result

    def _run(self):
        while True:
            item = result = error = None
            with self._reading:
                with self._changed:
                    while self._taken - self._used >= self._limit and not self._stopping:
                        self._changed.wait()
                    if self._ended or self._stopping:
                        return
                try:
                    item = next(self._items)
                except StopIteration:
                    with self._changed:
                        self._ended = True
                        self._changed.notify_all()
                    return
                except Exception as caught:
                    error = caught
                with self._changed:
                    number = self._taken
                    self._taken += 1
                    self._ended = error is not None
            if error is None:
                try:
                    result = self._work(item)
                except Exception as caught:
                    error = caught
            with self._changed:
                self._results[number] = (item, result, error)
                self._changed.notify_all()


@contextlib.contextmanager
def results_of(items, work, at_once):
    """
    Give an iterator over (item, work(item)), ahead with ``at_once`` threads, one after the other with 0.

    :param items: see :class:`Ahead`, as the others.
    """
    if at_once == 0:
        yield ((item, work(item)) for item in items)
    else:
        with Ahead(items, work, at_once) as ahead:
            yield iter(ahead)
