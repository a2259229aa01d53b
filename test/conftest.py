"""What the tests of the whole system share: a DDS domain, models without training, node processes."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'src' / 'mt_perception' / 'test'))  # contract_models

WAIT_S = 60.0
END_S = 5.0


def children():
    """Return {process id: command line} of the processes that this one has started and that still run."""
    found = {}
    for path in Path('/proc/self/task').glob('*/children'):
        with contextlib.suppress(OSError):
            for pid in path.read_text().split():
                command = Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode().strip()
                if command:  # a zombie has none
                    found[int(pid)] = command
    return found


@pytest.fixture(autouse=True)
def nothing_stays_behind():
    """No test leaves a process behind, however it ends; what is left is killed, and the test has failed."""
    before = children()
    yield
    deadline = time.monotonic() + END_S
    while (left := children().items() - before.items()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f'processes stayed behind: {sorted(left)}'


@pytest.fixture(scope='session')
def shared():
    """Folder with the real data sets."""
    folder = Path(os.environ.get('MT_SHARED', ROOT.parent / 'shared'))
    if not (folder / 'data').is_dir():
        pytest.skip(f'no shared data at {folder} (set MT_SHARED)')
    return folder


@pytest.fixture(scope='session')
def domain():
    """A ROS_DOMAIN_ID for this session alone."""
    from mt_perception.nodes.processes import free_domain

    return free_domain()


@pytest.fixture
def listener(domain):
    """A participant of the test's own."""
    from mt_perception.nodes.listener import Listener

    with Listener(domain, 'test') as out:
        yield out


@pytest.fixture(scope='session')
def exact_model(tmp_path_factory):
    """Model whose outputs can be computed by hand: see contract_models."""
    from contract_models import write_perception

    return write_perception(tmp_path_factory.mktemp('models') / 'exact.onnx')


@pytest.fixture(scope='session')
def street(tmp_path_factory):
    """First 30 frames of the demo street as a KITTI folder: rendering them in every process takes long."""
    from mt_perception.sequences import open_sequence
    from mt_perception.sequences.writer import write_sequence

    folder = tmp_path_factory.mktemp('sequences') / 'street'
    write_sequence(open_sequence('rendered:street', frames='0:30'), folder, 'kitti')
    return str(folder)


@pytest.fixture(scope='session')
def corner_model(tmp_path_factory):
    """Model with real keypoints: see corner_model."""
    from corner_model import write_corner_model

    return write_corner_model(tmp_path_factory.mktemp('models') / 'corners.onnx')


class Nodes:
    """Starts node processes for a test and sees to it that all of them end well."""

    def __init__(self, folder, domain):
        from mt_perception.nodes.processes import NodeProcess

        self._make = NodeProcess
        self._folder = folder
        self._domain = domain
        self.processes = []

    def start(self, name, **parameters):
        """Start a node with parameters; keyword ``remappings`` remaps topics."""
        remappings = parameters.pop('remappings', None)
        log = self._folder / f'{len(self.processes)}_{name}.log'
        process = self._make(name, parameters, (), log, self._domain, remappings)
        self.processes.append(process)
        return process

    def end(self):
        """End what still runs; every node must end with status 0."""
        running = [process for process in self.processes if process.running]
        for process in running:
            process.send(signal.SIGINT)
        statuses = {process.name: process.wait() for process in running}
        bad = {name: status for name, status in statuses.items() if status != 0}
        logs = '\n'.join(process.log.read_text() for process in running if process.name in bad)
        assert not bad, f'nodes did not end with status 0 after SIGINT: {bad}\n{logs}'


@pytest.fixture
def nodes(tmp_path, domain):
    """Factory of node processes that end with the test."""
    out = Nodes(tmp_path, domain)
    yield out
    out.end()


class Diagnostics:
    """The newest diagnostics of each node, as a listener hears them."""

    def __init__(self, listener):
        from diagnostic_msgs.msg import DiagnosticArray

        from mt_perception.nodes.qos import output_qos

        self.listener = listener
        self.status = {}
        listener.subscribe(DiagnosticArray, '/diagnostics', self._receive, output_qos(20))

    def _receive(self, message, info):
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            self.status[status.name] = (int.from_bytes(status.level, 'little'), status.message, values)

    def level(self, name):
        """Return 0 ok, 1 warning, 2 error, None before anything was heard."""
        return self.status.get(name, (None,))[0]

    def sentence(self, name):
        """Return the present message."""
        return self.status.get(name, (None, ''))[1]

    def value(self, name, key):
        """Return one value as text."""
        return self.status.get(name, (None, '', {}))[2].get(key)

    def wait_active(self, *processes):
        """Wait until the nodes are active."""
        for process in processes:
            name = process.name
            found = self.listener.wait_for(
                lambda name=name: self.value(name, 'state') == 'active', WAIT_S, process.check
            )
            assert found, f'{name} is not active: {self.status.get(name)}\n{process.log.read_text()}'

    def wait_sentence(self, name, part, timeout=WAIT_S):
        """Wait until the node's message contains ``part``; return the message."""
        found = self.listener.wait_for(lambda: part in self.sentence(name), timeout)
        assert found, f"'{part}' is not in the diagnostics of {name}: {self.status.get(name)}"
        return self.sentence(name)


@pytest.fixture
def diagnostics(listener):
    """Diagnostics as the test's listener hears them."""
    return Diagnostics(listener)
