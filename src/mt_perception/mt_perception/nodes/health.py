"""What a node says about itself: one DiagnosticStatus a second, and each problem once in the log."""

import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from mt_perception.nodes.qos import output_qos

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR
QUIET_S = 5.0


class Health:
    """
    The problems a node has, in sentences, and the numbers that describe its work.

    A problem has a key. Reporting it logs its sentence once; another sentence under the same key is
    logged when the last one is at least ``QUIET_S`` old. Clearing the problem takes it out of the
    diagnostics. All methods may be called from any thread.

    :param node: its logger, clock and name are used.
    :param summary: called without arguments before each message; returns (sentence, {key: value}).
    """

    def __init__(self, node, summary):
        self._node = node
        self._summary = summary
        self._lock = threading.Lock()
        self._problems = {}
        self._logged = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', output_qos(10))

    def warn(self, key, sentence):
        """Report something that works worse than it should."""
        self._report(key, WARN, sentence)

    def error(self, key, sentence):
        """Report something that does not work."""
        self._report(key, ERROR, sentence)

    def clear(self, key):
        """Say that the problem is gone."""
        with self._lock:
            self._problems.pop(key, None)

    def clear_all(self):
        """Forget all problems; the next one with the same sentence is logged anew."""
        with self._lock:
            self._problems.clear()
            self._logged.clear()

    def problems(self):
        """Return the sentences of the present problems, worst first."""
        with self._lock:
            present = sorted(self._problems.values(), key=lambda problem: problem[0], reverse=True)
        return [sentence for _, sentence in present]

    def publish(self):
        """Publish the present state on /diagnostics."""
        sentence, values = self._summary()
        with self._lock:
            present = sorted(self._problems.values(), key=lambda problem: problem[0], reverse=True)
        status = DiagnosticStatus(name=self._node.get_fully_qualified_name().lstrip('/'))
        status.hardware_id = 'mt_perception'
        status.level = present[0][0] if present else OK
        status.message = '; '.join(text for _, text in present) if present else sentence
        status.values = [KeyValue(key=key, value=to_text(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _report(self, key, level, sentence):
        now = time.monotonic()
        with self._lock:
            self._problems[key] = (level, sentence)
            text, when = self._logged.get(key, (None, 0.0))
            if text == sentence or (text is not None and now - when < QUIET_S):
                return
            self._logged[key] = (sentence, now)
        logger = self._node.get_logger()
        # Two call sites on purpose: rclpy remembers the severity per line.
        if level == ERROR:
            logger.error(sentence)
        else:
            logger.warning(sentence)


def to_text(value):
    """Return a value as diagnostics show it."""
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def timing_values(statistics):
    """
    Flatten stage timings for the diagnostics.

    :param statistics: {stage: {'p50': ms, …}} from :class:`mt_perception.nodes.timing.Timings`.
    :return: {'inference p50 ms': …}.
    """
    return {
        f'{stage} {name} ms': value for stage, values in statistics.items() for name, value in values.items()
    }
