"""Frames are read ahead in order, and reading can be stopped at any time."""

import threading

import pytest

from mt_perception.errors import SequenceError
from mt_perception.nodes.read_ahead import ReadAhead

WAIT_S = 10.0


class Numbers:
    """A sequence of numbers; frame ``broken`` cannot be read."""

    def __init__(self, length, broken=None):
        self.length = length
        self.broken = broken
        self.read = 0
        self.progress = threading.Condition()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.broken:
            raise SequenceError(f'frame {index} is damaged')
        with self.progress:
            self.read += 1
            self.progress.notify_all()
        return index


def test_all_frames_in_order_then_none():
    """Every frame comes once, then None, again and again."""
    reader = ReadAhead(Numbers(7), 3)
    assert [reader.get() for _ in range(9)] == [0, 1, 2, 3, 4, 5, 6, None, None]
    reader.stop()


def test_no_further_ahead_than_asked():
    """A long sequence does not fill the memory."""
    numbers = Numbers(1000)
    reader = ReadAhead(numbers, 5)
    reader.wait_full()
    assert numbers.read in (5, 6)
    assert reader.get() == 0
    reader.stop()
    assert numbers.read <= 7


def test_a_short_sequence_counts_as_full():
    """Waiting for more frames than there are does not hang."""
    reader = ReadAhead(Numbers(2), 100)
    reader.wait_full()
    assert reader.get() == 0
    reader.stop()


def test_damage_comes_after_the_good_frames():
    """What could be read is given out before the error is raised."""
    reader = ReadAhead(Numbers(5, broken=2), 10)
    assert [reader.get(), reader.get()] == [0, 1]
    with pytest.raises(SequenceError, match='frame 2 is damaged'):
        reader.get()
    reader.stop()


def test_stop_wakes_who_waits():
    """A consumer that waits for a frame gets None when reading is stopped."""
    hold = threading.Event()

    class Stuck(Numbers):
        def __getitem__(self, index):
            hold.wait(WAIT_S)
            return index

    reader = ReadAhead(Stuck(3), 2)
    got = []
    consumer = threading.Thread(target=lambda: got.append(reader.get()))
    consumer.start()
    stopper = threading.Thread(target=reader.stop)
    stopper.start()
    consumer.join(WAIT_S)
    assert got == [None]
    hold.set()
    stopper.join(WAIT_S)
    assert not stopper.is_alive()
