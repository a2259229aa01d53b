"""The whole system as processes over DDS, for programs that watch it: the demo and the latency evaluation."""

import importlib.util
import math
import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from mt_perception.nodes.listener import Listener
from mt_perception.nodes.processes import NodeError, NodeGroup, free_domain, share_file
from mt_perception.nodes.qos import output_qos

READY_S = 120.0
BUILD_S = 900.0  # the same where TensorRT may have to build its engines first
CONNECT_S = 30.0
SETTLE_S = 3.0
LAST_RESULT_S = 5.0
PLAYER_PATIENCE_S = 60.0  # two images' time: the player sends each of them three times, for 10 s each
PATIENCE_S = 90.0  # longer than the player's, whose sentence says more
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
        patience = BUILD_S if importlib.util.find_spec('tensorrt') else READY_S
        for name in self._parameters:
            if not self.wait_for(lambda name=name: self.value(name, 'state') == 'active', patience):
                raise NodeError(
                    f"node {name} was not active after {patience:.0f} s: its state is '"
                    f"{self.value(name, 'state') or 'unknown, no diagnostics came'}'{self._last_output(name)}"
                )
        connected = self.wait_for(
            lambda: int(self.value('perception', 'keypoints subscribers') or 0) >= subscribers, CONNECT_S
        )
        if not connected:
            raise NodeError(
                f'the nodes did not find each other within {CONNECT_S:.0f} s (ROS_DOMAIN_ID {self.domain}): '
                f'perception/keypoints has {self.value("perception", "keypoints subscribers") or 0} of '
                f'{subscribers} subscribers'
            )

    def play(self, parameters):
        """Start a sequence player and return its process."""
        self.diagnostics.pop('sequence_player', None)
        return self._start('sequence_player', {'patience': PLAYER_PATIENCE_S, **parameters})

    def play_to_end(self, parameters, recorder, last, watch=lambda: None, patience=PATIENCE_S):
        """
        Play a sequence to its end and wait for the last result; what takes long must show progress.

        :param parameters: of the player.
        :param recorder: :class:`mt_perception.nodes.recorder.Recorder`.
        :param last: attribute of its records that the last frame should get, such as ``odometry_ns``.
        :param watch: called now and then.
        :param patience: seconds without progress after which it ends.
        :raises NodeError: a node ended with an error, or nothing has happened for ``patience``.
        """
        player = self.play(parameters)
        rate = parameters.get('rate', 0.0)
        patience += 1 / rate if rate > 0 else 0.0

        def ended():
            watch()
            return not player.running

        if not self._wait_while_progressing(ended, recorder, patience):
            raise NodeError(self._why_stalled(patience, recorder))
        player.check()
        frames = recorder.in_order()
        if frames:
            newest = frames[-1][1]
            self._wait_while_progressing(lambda: bool(getattr(newest, last)), recorder, LAST_RESULT_S)

    def reset_odometry(self):
        """
        Let the next frame be the odometry's first; nothing to do when it does not run.

        Without it the frames of a sequence that is played again may be too old for the odometry.
        """
        if 'visual_odometry' not in self._parameters:
            return
        answer = self.listener.call(
            Trigger, 'visual_odometry/reset', Trigger.Request(), CONNECT_S, self._group.check
        )
        if answer is None:
            raise NodeError(
                f'node visual_odometry did not answer visual_odometry/reset within {CONNECT_S:.0f} s'
            )

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
        try:
            self._group.stop()
        finally:
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

    def _last_output(self, name):
        lines = self._log(name).read_text(errors='replace').splitlines()
        return f"; its last output is '{lines[-1]}'" if lines else ''

    def _wait_while_progressing(self, condition, recorder, patience):
        """Wait for a condition; return False when nothing has happened for ``patience`` seconds."""
        progress, since = None, time.monotonic()

        def over():
            nonlocal progress, since
            present = self._progress(recorder)
            if present != progress:
                progress, since = present, time.monotonic()
            return condition() or time.monotonic() - since > patience

        self.wait_for(over, math.inf)
        return condition()

    def _progress(self, recorder):
        """Return something that changes as long as a sequence is being played."""
        counts = [recorder.count(name) for name in ('published_ns', 'keypoints_ns', 'odometry_ns')]
        return counts, self.value('sequence_player', 'images read'), self._sentence('sequence_player')

    def _why_stalled(self, patience, recorder):
        """Return the sentence for a player that does not get on."""
        images, keypoints, odometry = self._progress(recorder)[0]
        nodes = ', '.join(
            f"{name}: '{self._sentence(name) or 'no diagnostics came'}'"
            for name in ('sequence_player', *self._parameters)
        )
        return (
            f'waited for the end of the sequence, and nothing has happened for {patience:.0f} s: '
            f'{self.value("sequence_player", "images read") or 0} images were read, {images} published, '
            f'{keypoints} keypoints and {odometry} odometry messages came; {nodes}'
        )

    def _sentence(self, name):
        return self.diagnostics.get(name, ('',))[0]

    def _on_diagnostics(self, message, info):
        for status in message.status:
            self.diagnostics[status.name] = (
                status.message,
                {entry.key: entry.value for entry in status.values},
            )
