"""The whole system as processes over DDS, for programs that watch it: the demo and the latency evaluation."""

import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray

from mt_perception.nodes.listener import Listener
from mt_perception.nodes.processes import NodeError, NodeGroup, free_domain, share_file
from mt_perception.nodes.qos import output_qos

READY_S = 900.0  # the first start with TensorRT builds its engines
CONNECT_S = 30.0
SETTLE_S = 3.0
STATISTICS = ('p50', 'p95', 'p99', 'mean')


class System:
    """
    The perception node, the odometry node and a listener in a DDS domain of their own; a context manager.

    :param log_folder: where the nodes' output goes, one file a node.
    :param perception: parameters of the perception node that differ from config/perception.yaml.
    :param odometry: the same of the odometry node; None = it does not run.
    :param domain: ROS_DOMAIN_ID; None = a free one.
    :ivar domain: the ROS_DOMAIN_ID.
    :ivar listener: :class:`Listener`; subscribe before :meth:`start`.
    :ivar diagnostics: {node name: (sentence, {key: text})}, the newest.
    """

    def __init__(self, log_folder, perception=None, odometry=None, domain=None):
        self._logs = Path(log_folder)
        self._parameters = {'perception': perception or {}}
        if odometry is not None:
            self._parameters['visual_odometry'] = odometry
        self.domain = free_domain() if domain is None else domain
        self.diagnostics = {}
        self._group = NodeGroup()
        self.listener = Listener(self.domain)
        self.listener.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, output_qos(20))

    def start(self, subscribers):
        """
        Start the nodes and wait until they work and have found each other.

        :param subscribers: of perception/keypoints, the odometry node's included.
        :raises NodeError: a node ended, or did not start in time.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        for name, parameters in self._parameters.items():
            self._start(name, parameters)
        for name in self._parameters:
            if not self.wait_for(lambda name=name: self.value(name, 'state') == 'active', READY_S):
                raise NodeError(
                    f'node {name} was not active after {READY_S:.0f} s; its output is in {self._log(name)}'
                )
        connected = self.wait_for(
            lambda: int(self.value('perception', 'keypoints subscribers') or 0) >= subscribers, CONNECT_S
        )
        if not connected:
            raise NodeError(
                f'the nodes did not find each other within {CONNECT_S:.0f} s (ROS_DOMAIN_ID {self.domain})'
            )

    def play(self, parameters):
        """Start a sequence player and return its process."""
        return self._start('sequence_player', parameters)

    def wait_for(self, condition, timeout):
        """Wait for a condition; see :meth:`Listener.wait_for`. Raises NodeError when a node has ended."""
        return self.listener.wait_for(condition, timeout, self._group.check)

    def settle(self, frames, timeout=SETTLE_S):
        """Wait for a diagnostics message of each node that counts the last frame."""
        end = time.monotonic() + timeout
        for name in self._parameters:
            self.wait_for(
                lambda name=name: int(self.value(name, 'frames out') or 0) >= frames,
                max(end - time.monotonic(), 0.1),
            )

    def value(self, name, key):
        """Return one value of a node's newest diagnostics as text, None when there is none."""
        return self.diagnostics.get(name, ('', {}))[1].get(key)

    def stage_ms(self, name):
        """Return {stage: {'p50': ms, …}} from a node's newest diagnostics."""
        stages = {}
        for key, text in self.diagnostics.get(name, ('', {}))[1].items():
            words = key.split(' ')
            if len(words) == 3 and words[1] in STATISTICS and words[2] == 'ms':
                stages.setdefault(words[0], {})[words[1]] = float(text)
        return stages

    def close(self):
        """End the nodes and leave the graph; a second Ctrl-C does not interrupt it."""
        self._group.stop()
        self.listener.close()

    def __enter__(self):
        """Return the system."""
        return self

    def __exit__(self, *_):
        """Close it."""
        self.close()

    def _start(self, name, parameters):
        return self._group.start(
            name, parameters, [share_file('config', f'{name}.yaml')], self._log(name), self.domain
        )

    def _log(self, name):
        return self._logs / f'{name}.log'

    def _on_diagnostics(self, message, info):
        for status in message.status:
            self.diagnostics[status.name] = (
                status.message,
                {entry.key: entry.value for entry in status.values},
            )
