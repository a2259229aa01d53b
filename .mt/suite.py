"""Runs the tests of all packages and says one result."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from system import Problem

LIMIT_S = 30 * 60  # of the tests of one folder; all of them together take a few minutes
LIMIT_ALL_S = 4 * 3600  # with the slow ones
GRACE_S = 60  # for pytest to end its tests' processes and to write its report


@dataclass
class Outcome:
    """Counts of one pytest run."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    broken: str = ''

    def __str__(self):
        """Return the line of the summary."""
        text = f'{self.name:14} {self.passed:4} passed {self.failed:4} failed {self.skipped:4} skipped'
        return f'{text} {self.seconds:6.0f} s{"   " + self.broken if self.broken else ""}'


def run_tests(workspace, arguments):
    """
    Run pytest once per folder of tests, each in the environment it needs.

    :param workspace: the prepared :class:`workspace.Workspace`.
    :param arguments: ``--all`` for the slow tests too; paths choose folders; the rest goes to pytest.
    :return: exit status, 0 only if tests ran and none failed.
    """
    environment = workspace.environment
    folders = {
        'mt_perception': 'src/mt_perception/test',
        'mt_training': 'src/mt_training/test',
        'system': 'test',
    }
    options, paths = _split(environment.root, arguments, folders)
    variables = workspace.variables()
    variables['MT_BASE_PYTHON'] = sys.executable
    # two runs on one machine must not hear each other; Linux has ports for domains up to 101
    variables.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    for number in (signal.SIGTERM, signal.SIGHUP):  # pytest must end, too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    outcomes = []
    for name, folder in folders.items():
        if not paths[name] and any(paths.values()):
            continue
        in_training = name == 'mt_training' and environment.has_training()
        python = environment.training_python if in_training else environment.python
        print(f'\nmt: tests of {folder} ({python.parent.parent.name})', flush=True)
        limit = LIMIT_ALL_S if '--all' in arguments else LIMIT_S
        outcomes.append(_run(environment, variables, name, python, paths[name] or [folder], options, limit))
    print('\nmt: all tests')
    for outcome in outcomes:
        print(f'  {outcome}')
    if any(outcome.name == 'mt_training' for outcome in outcomes) and not environment.has_training():
        print('  tests that need PyTorch were skipped: ./mt build --training prepares it')
    passed, failed, skipped = (
        sum(getattr(outcome, key) for outcome in outcomes) for key in ('passed', 'failed', 'skipped')
    )
    if passed + failed == 0:
        print('  no test ran')
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 0 if failed == 0 and passed > 0 and not any(outcome.broken for outcome in outcomes) else 1


def _split(root, arguments, folders):
    """Tell paths of tests from options of pytest; return (options, {name: paths})."""
    options, paths = [], {name: [] for name in folders}
    for argument in arguments:
        path = argument.split('::')[0]
        if argument == '--all':
            options += ['-m', '']
        elif not argument.startswith('-') and os.path.exists(path):
            inside = os.path.relpath(os.path.realpath(path), root)
            names = [name for name, folder in folders.items() if (inside + '/').startswith(folder + '/')]
            if not names:
                raise Problem(f'{argument} is not in a folder of tests: {", ".join(folders.values())}')
            paths[names[0]].append(inside + argument[len(path) :])
        elif not argument.startswith('-') and path.endswith('.py'):
            raise Problem(f'no test file {path}')
        else:
            options.append(argument)
    return options, paths


def _run(environment, variables, name, python, paths, options, limit):
    """Run pytest once, for ``limit`` seconds at most, and read its counts back."""
    report = environment.prefix / f'mt-test-{name}.xml'
    report.unlink(missing_ok=True)
    command = [str(python), '-m', 'pytest', f'--junitxml={report}', *options, *paths]
    started = time.monotonic()
    # a process group of its own: what a test has started and not ended dies with pytest
    process = subprocess.Popen(
        command, cwd=environment.root, env=variables, stdin=subprocess.DEVNULL, start_new_session=True
    )
    late = False
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        print(f'\nmt: {name} has taken {limit:.0f} s: ending it', file=sys.stderr, flush=True)
        late = True
        status = _end(process)
    except BaseException:
        _end(process)
        raise
    _kill_group(process)
    outcome = Outcome(name, seconds=time.monotonic() - started)
    if late:
        outcome.broken = f'did not end within {limit:.0f} s'
    try:
        suites = list(ElementTree.parse(report).getroot().iter('testsuite'))
    except (OSError, ElementTree.ParseError):
        outcome.broken = outcome.broken or f'pytest ended with status {status} and no report'
        return outcome
    for suite in suites:
        tests, skipped = int(suite.get('tests')), int(suite.get('skipped'))
        bad = int(suite.get('failures')) + int(suite.get('errors'))
        outcome.failed += bad
        outcome.skipped += skipped
        outcome.passed += tests - skipped - bad
    # 5: nothing was collected, as with a -k that only another folder's tests match
    if status not in (0, 1, 5):
        outcome.broken = outcome.broken or f'pytest ended with status {status}'
    return outcome


def _end(process):
    """End pytest as Ctrl-C does, and by force if that does not help; return its status."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        return process.wait()


def _kill_group(process):
    """Kill whatever is left in the process group of pytest."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
