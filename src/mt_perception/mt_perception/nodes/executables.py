"""The nodes' executables: a signal ends them quietly while Python still imports what they need."""

import importlib
import os
import signal


def _run(name):
    for number in (signal.SIGINT, signal.SIGTERM):  # until the runner's own handlers are there
        signal.signal(number, lambda *_: os._exit(0))
    return importlib.import_module(f'mt_perception.nodes.{name}').main()


def perception():
    """Run the perception node."""
    return _run('perception')


def place_recognition():
    """Run the place recognition node."""
    return _run('place_recognition')


def sequence_player():
    """Run the sequence player."""
    return _run('sequence_player')


def visual_odometry():
    """Run the visual odometry node."""
    return _run('visual_odometry')
