"""Work is done ahead in threads, its results come in order, and threads end when nobody listens any more."""

import threading
import time

import pytest

from mt_perception.errors import SequenceError
from mt_perception.evaluation.ahead import AHEAD, Ahead, results_of

WAIT_S = 10.0


def broken_after(count):
    """Yield ``count`` numbers, then an error."""
    yield from range(count)
    raise SequenceError('frame is damaged')


@pytest.mark.parametrize('at_once', [0, 1, 3])
def test_all_results_in_order_though_later_ones_are_ready_first(at_once):
    def work(item):
        time.sleep(0.02 if item % 4 == 0 else 0.0)
        return item * item

    with results_of(range(20), work, at_once) as results:
        assert list(results) == [(k, k * k) for k in range(20)]


@pytest.mark.parametrize('at_once', [0, 1, 3])
def test_nothing_to_do(at_once):
    with results_of([], str, at_once) as results:
        assert list(results) == []


def test_several_are_worked_on_at_a_time():
    together = threading.Barrier(3, timeout=WAIT_S)
    with Ahead(range(6), lambda item: together.wait(), 3) as results:
        assert len(list(results)) == 6  # a single thread would break the barrier


def test_items_are_taken_one_after_the_other():
    taking, most = [], []

    def items():
        for k in range(12):
            taking.append(k)
            most.append(len(taking))
            time.sleep(0.002)
            taking.pop()
            yield k

    with Ahead(items(), str, 4) as results:
        assert [item for item, _ in results] == list(range(12))
    assert max(most) == 1


def test_no_further_ahead_than_said():
    taken = []
    with Ahead((taken.append(k) or k for k in range(1000)), str, 2) as results:
        iterator = iter(results)
        assert next(iterator) == (0, '0')
        until = time.monotonic() + WAIT_S
        while len(taken) < 1 + 2 * AHEAD and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(taken) == 1 + 2 * AHEAD


@pytest.mark.parametrize('at_once', [0, 1, 3])
def test_an_item_that_cannot_be_read_comes_in_its_turn(at_once):
    seen = []
    with pytest.raises(SequenceError), results_of(broken_after(5), str, at_once) as results:
        for item, _ in results:
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('at_once', [0, 1, 3])
def test_work_that_fails_comes_in_its_turn(at_once):
    seen = []
    with pytest.raises(ZeroDivisionError), results_of([1, 2, 0, 4], lambda k: 1 / k, at_once) as results:
        for item, _ in results:
            seen.append(item)
    assert seen == [1, 2]


def test_threads_end_when_nobody_listens_any_more():
    before = threading.active_count()
    with Ahead(range(1000), str, 3) as results:
        assert next(iter(results)) == (0, '0')
        assert threading.active_count() == before + 3
    assert threading.active_count() == before
