"""Starts the project's nodes as processes of their own, and ends them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mt_perception.errors import MtError
from mt_perception.nodes.runner import END_WITH_PARENT

NODES = ('perception', 'visual_odometry', 'place_recognition', 'sequence_player')
END_S = 25.0
DISCOVERY_PORT = 7400  # DDS-RTPS 2.5, section 9.6.2.3
PORTS_PER_DOMAIN = 250
FIRST_UNICAST_PORT = 10
LAST_DOMAIN = 101  # above, the ports run into the range Linux gives to clients
LOG_PREFIX = re.compile(r'^\[(ERROR|FATAL)\] \[[\d.]+\] \[[^\]]*\]: ')


class NodeError(MtError):
    """A node that ended when it should not have."""


def share_file(folder, name):
    """
    Return the path of an installed launch or parameter file, or of the one in the source tree.

    :raises MtError: it is in neither place.
    """
    candidates = []
    try:
        from ament_index_python.packages import get_package_share_directory

        candidates.append(Path(get_package_share_directory('mt_perception')) / folder / name)
    except Exception:  # not installed, or no index at all: the source tree is left
        pass
    candidates.append(Path(__file__).resolve().parents[4] / folder / name)
    for path in candidates:
        if path.is_file():
            return path
    raise MtError(
        f"file '{folder}/{name}' of mt_perception is missing; looked at {', '.join(map(str, candidates))}"
    )


def free_domain(start=None):
    """
    Return a ROS_DOMAIN_ID nobody on this machine uses.

    A participant of domain d holds UDP port 7410 + 250 d.

    :param start: where to begin looking; by default it depends on the process, so that two programs that
        start together look in different places.
    """
    start = os.getpid() if start is None else start
    for offset in range(LAST_DOMAIN):
        domain = 1 + (start + offset) % LAST_DOMAIN
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', DISCOVERY_PORT + PORTS_PER_DOMAIN * domain + FIRST_UNICAST_PORT))
            except OSError:
                continue
        return domain
    raise NodeError('all ROS_DOMAIN_IDs from 1 to 101 are in use on this machine')


class NodeProcess:
    """
    One node of this package in a process of its own.

    It leads its own process group, so Ctrl-C in the terminal reaches only the caller, who ends it with
    :meth:`stop`; and the kernel ends it should the caller die without doing so.

    :param name: one of ``NODES``.
    :param parameters: {name: value} given on the command line.
    :param parameter_files: YAML files, later ones override earlier ones.
    :param log: file for its output.
    :param domain: ROS_DOMAIN_ID; None = the caller's.
    :param remappings: {topic: other topic}.
    """

    def __init__(self, name, parameters=None, parameter_files=(), log=None, domain=None, remappings=None):
        self.name = name
        self.log = Path(log) if log is not None else None
        command = [sys.executable, '-m', f'mt_perception.nodes.{name}', '--ros-args']
        for path in parameter_files:
            command += ['--params-file', str(path)]
        for key, value in (parameters or {}).items():
            command += ['-p', f'{key}:={yaml_value(value)}']
        for source, target in (remappings or {}).items():
            command += ['-r', f'{source}:={target}']
        environment = dict(os.environ)
        environment[END_WITH_PARENT] = str(os.getpid())
        environment['PYTHONUNBUFFERED'] = '1'
        if domain is not None:
            environment['ROS_DOMAIN_ID'] = str(domain)
        output = open(self.log, 'wb') if self.log is not None else subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if self.log is not None:
                output.close()

    @property
    def running(self):
        """Whether the process is alive."""
        return self.process.poll() is None

    def check(self):
        """Raise :class:`NodeError` with the node's own sentence if it has ended with an error."""
        status = self.process.poll()
        if status not in (None, 0):
            raise NodeError(self.last_words() or f'node {self.name} ended with status {status}')

    def last_words(self):
        """Return the last error in its log, without severity, time and name; '' when there is none."""
        if self.log is None:
            return ''
        lines = self.log.read_text(errors='replace').splitlines()
        errors = [LOG_PREFIX.sub('', line) for line in lines if LOG_PREFIX.match(line)]
        plain = [line for line in lines if line.strip() and not line.startswith('[')]
        return (errors or plain or [''])[-1]

    def send(self, number=signal.SIGINT):
        """Send a signal if the process is alive."""
        if self.running:
            self.process.send_signal(number)

    def wait(self, timeout=END_S):
        """Wait for the end and return the status; after ``timeout`` seconds kill it and return None."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def stop(self, number=signal.SIGINT, timeout=END_S):
        """End the process: one signal, then wait. Return its status, None when it had to be killed."""
        self.send(number)
        return self.wait(timeout)


class NodeGroup:
    """Several :class:`NodeProcess` that end together; a context manager."""

    def __init__(self):
        self._processes = []

    def start(self, *arguments, **options):
        """Start one more :class:`NodeProcess` and return it."""
        process = NodeProcess(*arguments, **options)
        self._processes.append(process)
        return process

    def check(self):
        """Raise :class:`NodeError` if one of them has ended with an error."""
        for process in self._processes:
            process.check()

    def stop(self):
        """End all of them at once and wait; a second Ctrl-C meanwhile does not interrupt it."""
        for process in self._processes:
            process.send()
        end = time.monotonic() + END_S
        while self._processes:
            try:
                self._processes[-1].wait(max(end - time.monotonic(), 0.1))
                self._processes.pop()
            except KeyboardInterrupt:
                continue

    def __enter__(self):
        """Return the group."""
        return self

    def __exit__(self, *_):
        """End all processes."""
        self.stop()


def yaml_value(value):
    """Return a parameter value as the command line wants it."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list | tuple):
        return '[' + ', '.join(yaml_value(entry) for entry in value) + ']'
    return str(value)
