"""The base of the project's lifecycle nodes: parameters, diagnostics, errors in one sentence, autostart."""

import traceback

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from mt_perception.errors import MtError
from mt_perception.nodes.health import Health
from mt_perception.nodes.parameters import NEVER, Parameter, Parameters

COMMON_PARAMETERS = (
    Parameter(
        'autostart',
        True,
        'Configure and activate at the start; false leaves that to a lifecycle manager or the launch file.',
        change=NEVER,
    ),
    Parameter(
        'diagnostics_period', 1.0, 'Seconds between messages on /diagnostics.', 0.1, 60.0, change=NEVER
    ),
)


class ManagedNode(LifecycleNode):
    """
    A lifecycle node whose steps are plain methods that raise :class:`MtError`.

    A subclass sets ``PARAMETERS`` and overrides :meth:`configure`, :meth:`activate`,
    :meth:`deactivate`, :meth:`cleanup` and :meth:`summary`. ``deactivate`` and ``cleanup`` must be
    harmless when there is nothing to undo: they also run after a step that failed half-way.

    :ivar parameters: :class:`Parameters`.
    :ivar health: :class:`Health`.
    :ivar on_work_done: called when the node's work is over (a sequence has been played).
    :ivar exit_status: status of the process once it ends.
    """

    PARAMETERS = ()

    def __init__(self, name, **arguments):
        super().__init__(name, **arguments)
        self.is_configured = False
        self.is_active = False
        self.on_work_done = lambda: None
        self.exit_status = 0
        self.parameters = Parameters(
            self, COMMON_PARAMETERS + self.PARAMETERS, lambda: self.is_configured, self.parameter_changed
        )
        self.health = Health(self, self.summary)
        self._timer = self.create_timer(self.parameters.diagnostics_period, self._tick)

    @property
    def autostart(self):
        """Whether the node configures and activates itself."""
        return self.parameters.autostart

    def start(self, stop=None):
        """
        Configure and activate.

        :param stop: :class:`~mt_perception.nodes.runner.StopSignal`; a request ends the start early.
        :return: whether the node is active now.
        """
        for trigger in (self.trigger_configure, self.trigger_activate):
            if stop is not None and stop.requested:
                return False
            if trigger() != TransitionCallbackReturn.SUCCESS:
                return False
        return True

    def free(self):
        """Undo everything, in any state."""
        self.is_active = False
        self.deactivate()
        self.cleanup()
        self.is_configured = False

    def configure(self):
        """Make what is slow or can fail: engines, files; publishers."""

    def activate(self):
        """Make subscriptions and threads."""

    def deactivate(self):
        """Undo :meth:`activate`."""

    def cleanup(self):
        """Undo :meth:`configure`."""

    def summary(self):
        """Return (sentence, {key: value}) for the diagnostics."""
        return '', {}

    def watch(self):
        """Look after what should have happened by now; called before each diagnostics message."""

    def parameter_changed(self, name, value):
        """Take over a parameter that changed while the node runs."""

    def on_configure(self, state):
        """See the base class."""
        result = self._step('configure', self.configure, self.cleanup)
        self.is_configured = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state):
        """See the base class."""
        super().on_activate(state)
        result = self._step('activate', self.activate, self.deactivate)
        self.is_active = result == TransitionCallbackReturn.SUCCESS
        if not self.is_active:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state):
        """See the base class."""
        self.is_active = False
        result = self._step('deactivate', self.deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state):
        """See the base class."""
        result = self._step('clean up', self.cleanup)
        self.is_configured = False
        self.health.clear_all()
        return result

    def on_shutdown(self, state):
        """See the base class."""
        return self._step('shut down', self.free)

    def on_error(self, state):
        """Free everything, so that the node can be configured again."""
        return self._step('recover', self.free)

    def _step(self, verb, step, undo=None):
        try:
            step()
            return TransitionCallbackReturn.SUCCESS
        except MtError as error:
            self.get_logger().error(f'cannot {verb}: {error}')
        except Exception:
            self.get_logger().fatal(f'cannot {verb}: this is a bug\n{traceback.format_exc()}')
        if undo is not None:
            undo()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.ERROR

    def report_bug(self, error):
        """Log an exception nobody expected; the node goes on with the next frame."""
        trace = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
        self.health.error(
            'bug', f'unexpected {type(error).__name__} while working on a frame; this is a bug\n{trace}'
        )

    def _tick(self):
        self.watch()
        self.health.publish()
