"""Says what the long first preparation is doing."""

import sys
import time


class Progress:
    """
    Prints one line per step to standard error, and keeps a running line up to date on a terminal.

    Nothing is printed for a preparation that has nothing to do.
    """

    LOG_INTERVAL_S = 15.0

    def __init__(self, stream=None):
        """Print to ``stream``, by default standard error."""
        self.stream = stream or sys.stderr
        self.started = time.monotonic()
        self.downloaded_mb = 0.0
        self.did_something = False
        self._step_started = self._last_note = self.started
        self._line_open = False

    def step(self, text):
        """Begin a step."""
        self._close_line()
        self.did_something = True
        self._step_started = self._last_note = time.monotonic()
        print(f'mt: {text}', file=self.stream, flush=True)

    def note(self, text):
        """Say how far the step is: always on a terminal, now and then in a log."""
        now = time.monotonic()
        seconds = f'{now - self._step_started:.0f} s'
        if self.stream.isatty():
            print(f'\r\033[Kmt:   {text} ({seconds})'[:110], end='', file=self.stream, flush=True)
            self._line_open = True
        elif now - self._last_note > self.LOG_INTERVAL_S:
            print(f'mt:   {text} ({seconds})', file=self.stream, flush=True)
            self._last_note = now

    def finish(self):
        """Say what it took, if anything was done."""
        self._close_line()
        if self.did_something:
            seconds = time.monotonic() - self.started
            took = f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.1f} min'
            size = f', {self.downloaded_mb:.0f} MB downloaded' if self.downloaded_mb >= 1 else ''
            print(f'mt: ready after {took}{size}', file=self.stream, flush=True)

    def _close_line(self):
        if self._line_open:
            print('\r\033[K', end='', file=self.stream, flush=True)
            self._line_open = False
