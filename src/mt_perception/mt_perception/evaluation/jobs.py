"""Tasks in processes of their own: one that fails, or whose process dies, does not lose the others."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait

from mt_perception.errors import MtError

REPORT_S = 0.2  # between two reports of one process
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')


@dataclass(frozen=True)
class Outcome:
    """
    What became of a task.

    :param value: what its work returned.
    :param error: one sentence when it failed.
    :param details: the traceback, when the failure is a bug rather than its input's.
    """

    value: object = None
    error: str | None = None
    details: str | None = None


def cores():
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def run_tasks(work, tasks, jobs=1, finished=None):
    """
    Do ``work(task, report)`` for every task, up to ``jobs`` at a time; shows progress on stderr.

    ``report(done, total)`` is what the work calls as it goes on. With one job everything happens in this
    process, with more every task has a process of its own, started anew; ``work`` and the tasks have to be
    picklable then. Ctrl-C ends all of them.

    :param tasks: list; ``str(task)`` is shown.
    :param finished: called with (number of the task, :class:`Outcome`) as each one ends.
    :return: list of :class:`Outcome` in the order of the tasks.
    """
    outcomes = [None] * len(tasks)

    def end(number, outcome):
        outcomes[number] = outcome
        if outcome.details:
            bars.write(outcome.details)
        bars.end(number, outcome)
        if finished is not None:
            finished(number, outcome)

    with _Bars(tasks) as bars:
        if jobs == 1:
            for number, task in enumerate(tasks):
                end(number, _attempt(work, task, lambda done, total, n=number: bars.update(n, done, total)))
        else:
            _in_processes(work, tasks, jobs, bars, end)
    return outcomes


def _attempt(work, task, report):
    """Do the work of one task; return its :class:`Outcome`."""
    try:
        return Outcome(work(task, report))
    except MtError as error:
        return Outcome(error=str(error))
    except Exception as error:
        reason = str(error).strip().splitlines()
        text = f'{type(error).__name__}: {reason[0]}' if reason else type(error).__name__
        return Outcome(error=f'{text} (a bug; its traceback is on stderr)', details=traceback.format_exc())


def _in_processes(work, tasks, jobs, bars, end):
    # ONNX Runtime and OpenCV have threads, which a fork would lose.
    context = multiprocessing.get_context('spawn')
    waiting = list(enumerate(tasks))[::-1]
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, task = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(work, task, theirs), daemon=True)
                with _few_threads(jobs), _deaf_to_ctrl_c():
                    process.start()
                theirs.close()
                running[ours] = (number, process)
            for connection in wait(list(running)):
                number, process = running[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    message = Outcome(error=_death(process.exitcode))
                if not isinstance(message, Outcome):
                    bars.update(number, *message)
                    continue
                del running[connection]
                connection.close()
                process.join()
                end(number, message)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _child(work, task, connection):
    """Do one task in this process and send what becomes of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    last = 0.0

    def report(done, total):
        nonlocal last
        if done in (0, total) or time.monotonic() - last > REPORT_S:
            last = time.monotonic()
            connection.send((done, total))

    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        connection.send(_attempt(work, task, report))


def _death(status):
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            hint = '; there may be too little memory, try fewer --jobs' if name == 'SIGKILL' else ''
            return f'its process was ended by {name}{hint}'
    return f'its process ended with status {status} and no result'


@contextlib.contextmanager
def _few_threads(jobs):
    """Let libraries of a new process use their share of the cores, unless the user says otherwise."""
    missing = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, str(max(1, cores() // jobs))))
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


@contextlib.contextmanager
def _deaf_to_ctrl_c():
    """Let processes started here not hear Ctrl-C, not even while they start: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit the mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Bars:
    """One bar over the frames of all tasks."""

    def __init__(self, tasks):
        from tqdm import tqdm

        self._tasks = tasks
        self._done = {}
        self._total = {}
        self._ended = 0
        self._bar = tqdm(total=0, unit='frame', dynamic_ncols=True)
        self._describe()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def _describe(self):
        name = next((str(self._tasks[n]) for n in self._done), '')
        several = f' {self._ended} of {len(self._tasks)}' if len(self._tasks) > 1 else ''
        self._bar.set_description_str(f'{name}{several}'.strip(), refresh=False)

    def update(self, number, done, total):
        """Task ``number`` has done so many of its frames."""
        if number not in self._done:
            self._done[number] = 0
            self._bar.total += total
            self._total[number] = total
            self._describe()
        self._bar.update(done - self._done[number])
        self._done[number] = done

    def end(self, number, outcome):
        """Task ``number`` has ended; frames it has not done are not waited for."""
        self._bar.total -= self._total.get(number, 0) - self._done.pop(number, 0)
        self._ended += 1
        self._describe()
        self._bar.refresh()

    def write(self, text):
        """Print a text above the bar."""
        self._bar.write(text, file=sys.stderr)
