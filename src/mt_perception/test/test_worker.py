"""The worker thread: newest first out, dropped ones counted, ends when told."""

import threading

import pytest

from mt_perception.nodes.worker import Worker

WAIT_S = 10.0


class Gate:
    """A slow ``process``: holds each item until it is let through."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Semaphore(0)
        self.pass_on = threading.Semaphore(0)

    def __call__(self, item):
        self.seen.append(item)
        self.entered.release()
        assert self.pass_on.acquire(timeout=WAIT_S)


def test_newest_wins_and_drops_are_counted():
    """While one item is worked on, only the newest of the others survives."""
    gate = Gate()
    worker = Worker(gate, depth=1)
    worker.put(0)
    assert gate.entered.acquire(timeout=WAIT_S)
    for item in range(1, 10):
        worker.put(item)
    gate.pass_on.release()
    assert gate.entered.acquire(timeout=WAIT_S)
    gate.pass_on.release()
    worker.stop()
    assert gate.seen == [0, 9]
    assert worker.dropped == 8
    assert worker.processed == 2


def test_a_short_queue_keeps_order_and_drops_the_oldest():
    """With depth 3 the last three items come, in order."""
    gate = Gate()
    worker = Worker(gate, depth=3)
    worker.put(0)
    assert gate.entered.acquire(timeout=WAIT_S)
    for item in range(1, 6):
        worker.put(item)
    for _ in range(4):
        gate.pass_on.release()
    for _ in range(3):
        assert gate.entered.acquire(timeout=WAIT_S)
    worker.stop()
    assert gate.seen == [0, 3, 4, 5]
    assert worker.dropped == 2


def test_an_error_is_handed_over_and_the_worker_goes_on():
    """One bad item does not end the work."""
    errors, done = [], threading.Event()

    def process(item):
        if item == 'bad':
            raise ValueError(item)
        done.set()

    worker = Worker(process, depth=2, on_error=errors.append)
    worker.put('bad')
    worker.put('good')
    assert done.wait(WAIT_S)
    worker.stop()
    assert [str(error) for error in errors] == ['bad']


def test_stop_waits_for_the_item_in_work_and_drops_the_rest():
    """After stop nothing is processed any more, and stop may be called twice."""
    gate = Gate()
    worker = Worker(gate, depth=5)
    worker.put(1)
    assert gate.entered.acquire(timeout=WAIT_S)
    worker.put(2)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    stopper.join(0.05)
    assert stopper.is_alive(), 'stop returned while an item was in work'
    gate.pass_on.release()
    stopper.join(WAIT_S)
    assert not stopper.is_alive()
    worker.stop()
    worker.put(3)
    assert gate.seen == [1]


@pytest.mark.parametrize('depth', [1, 4])
def test_an_idle_worker_stops_at_once(depth):
    """Nothing to do, nothing to wait for."""
    Worker(lambda item: None, depth).stop()
