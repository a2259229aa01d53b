"""Tasks in processes: results in order, and whatever happens to one does not lose the others."""

import os
import signal
import time

import pytest

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import jobs
from mt_perception.evaluation.jobs import run_tasks


def work(task, report):
    """Do what the task's word says."""
    report(1, 2)
    if task == 'bad input':
        raise EvaluationError('there is no such thing')
    if task == 'bug':
        return 1 / 0
    if task == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 'ends':
        os._exit(7)
    if task == 'threads':
        return {name: os.environ.get(name) for name in jobs.THREAD_VARIABLES}
    report(2, 2)
    return task.upper()


def wait_and_tell(task, report):
    """Take as long as the task says; return when it began and ended."""
    report(0, 1)
    began = time.time()
    time.sleep(task)
    return began, time.time()


@pytest.mark.parametrize('number', [1, 2])
def test_a_failure_is_a_sentence_and_the_others_go_on(number, capfd):
    outcomes = run_tasks(work, ['one', 'bad input', 'bug', 'two'], number)
    assert [outcome.value for outcome in outcomes] == ['ONE', None, None, 'TWO']
    assert outcomes[1].error == 'there is no such thing' and outcomes[1].details is None
    assert outcomes[2].error.startswith('ZeroDivisionError: division by zero')
    assert 'Traceback' in capfd.readouterr().err, 'a bug keeps its traceback'


def test_a_process_that_dies_is_one_sentence():
    outcomes = run_tasks(work, ['killed', 'one', 'ends'], 3)
    assert outcomes[0].error.startswith('its process was ended by SIGKILL; there may be too little memory')
    assert outcomes[1].value == 'ONE'
    assert outcomes[2].error == 'its process ended with status 7 and no result'


def test_tasks_run_at_the_same_time_but_not_too_many():
    spans = [outcome.value for outcome in run_tasks(wait_and_tell, [2.0, 2.0, 0.1], 2)]
    (a0, a1), (b0, b1), (c0, _) = spans
    assert max(a0, b0) < min(a1, b1), 'two at a time'
    assert c0 > min(a1, b1), 'and not three'


def test_processes_share_the_cores_and_this_process_keeps_its_environment(monkeypatch):
    monkeypatch.setattr(jobs, 'cores', lambda: 6)
    monkeypatch.setenv('MKL_NUM_THREADS', '5')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    seen = run_tasks(work, ['threads'], 2)[0].value
    assert seen['OMP_NUM_THREADS'] == '3' and seen['MKL_NUM_THREADS'] == '5', "the user's own is kept"
    assert 'OMP_NUM_THREADS' not in os.environ


def test_ends_are_told_as_they_come():
    ended = []
    run_tasks(
        work, ['one', 'bad input'], 1, lambda number, outcome: ended.append((number, outcome.error is None))
    )
    assert ended == [(0, True), (1, False)]
