"""What every command does about errors of its user's: one sentence, and an exit status."""

import sys

from mt_perception.errors import MtError

INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def exit_status(name, work, *arguments, interrupted='interrupted'):
    """
    Do the work of a command; what goes wrong for its user is printed in one sentence.

    :param name: of the command, the first word of the sentence.
    :param work: function, called with ``arguments``.
    :param interrupted: what to say after Ctrl-C.
    :return: 0, 1 after a :class:`MtError`, 130 after Ctrl-C.
    """
    try:
        work(*arguments)
    except MtError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'\n{name}: {interrupted}', file=sys.stderr)
        return INTERRUPTED
    return 0
