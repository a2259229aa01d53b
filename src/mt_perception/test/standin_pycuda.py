"""
A stand-in for pycuda.driver whose "device" is ordinary memory. For tests only.

It is stricter than it needs to be: every call demands a context that is current in the calling thread, an
asynchronous copy demands page-locked memory, and nothing on a stream happens before ``synchronize``.
The names and arguments are those of PyCUDA's wrap_cudadrv.cpp.
"""

import ctypes
import threading

import numpy as np

STREAMS = {}
ALLOCATED = set()
_pinned = {}
_current = threading.local()
_initialized = False
gpus = 1


class Error(Exception):
    """Base of PyCUDA's errors."""


def _contexts():
    if not hasattr(_current, 'stack'):
        _current.stack = []
    return _current.stack


def _demand_context():
    if not _contexts():
        raise Error('no currently active context?')


def depth():
    """Return how many contexts are pushed in this thread (not in PyCUDA)."""
    return len(_contexts())


def init(flags=0):
    """Start."""
    global _initialized
    _initialized = True


class Context:
    """A context; ``pop`` takes the calling thread's latest off."""

    def push(self):
        """Make current."""
        _contexts().append(self)

    @staticmethod
    def pop():
        """Undo the latest push."""
        _demand_context()
        _contexts().pop()


class Device:
    """A GPU."""

    def __init__(self, number):
        if not _initialized:
            raise Error('cuInit was not called')
        self.number = number

    @staticmethod
    def count():
        """Return the number of GPUs."""
        return gpus

    def name(self):
        """Return the name of the GPU."""
        return 'Stand-in GPU'

    def compute_capability(self):
        """Return (major, minor)."""
        return (8, 7)

    def retain_primary_context(self):
        """Return the context, not pushed."""
        return Context()


class DeviceAllocation:
    """Memory on the "device"."""

    def __init__(self, nbytes):
        _demand_context()
        self._memory = ctypes.create_string_buffer(nbytes)
        ALLOCATED.add(self)

    def __int__(self):
        """Return the address."""
        return ctypes.addressof(self._memory)

    def free(self):
        """Give back."""
        _demand_context()
        ALLOCATED.remove(self)


def mem_alloc(nbytes):
    """Reserve device memory."""
    return DeviceAllocation(nbytes)


def pagelocked_empty(shape, dtype):
    """Return a page-locked array."""
    _demand_context()
    array = np.zeros(shape, dtype)
    _pinned[array.ctypes.data] = array
    return array


class Stream:
    """What was asked for, in order, until ``synchronize`` does it."""

    def __init__(self):
        _demand_context()
        self.queue = []
        self.handle = 1000 + len(STREAMS)
        STREAMS[self.handle] = self

    def synchronize(self):
        """Do everything in the queue."""
        _demand_context()
        queue, self.queue = self.queue, []
        for work in queue:
            work()


def _copy(array, stream, work):
    _demand_context()
    if array.ctypes.data not in _pinned:
        raise Error('asynchronous copy of memory that is not page-locked')
    stream.queue.append(work)


def memcpy_htod_async(dest, src, stream):
    """Copy to the device."""
    _copy(src, stream, lambda: ctypes.memmove(int(dest), src.ctypes.data, src.nbytes))


def memcpy_dtoh_async(dest, src, stream):
    """Copy from the device."""
    _copy(dest, stream, lambda: ctypes.memmove(dest.ctypes.data, int(src), dest.nbytes))
