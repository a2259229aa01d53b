"""``evaluate``: how good odometry and localisation are, and how quick the whole system."""

import argparse

from mt_perception.commands import exit_status
from mt_perception.errors import EvaluationError


def parser():
    """Return the command line's parser."""
    out = argparse.ArgumentParser(
        prog='evaluate',
        description='Measure on a sequence; writes metrics.json and pictures, prints a table.',
    )
    commands = out.add_subparsers(dest='command', required=True, metavar='odometry|localization|latency')
    for name, module, text in (
        ('odometry', _odometry(), 'trajectory against ground truth, offline'),
        ('localization', _localization(), 'single images in a saved map, offline'),
        ('latency', _latency(), 'latency and throughput through the real nodes and DDS'),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
    return out


def _odometry():
    from mt_perception.evaluation import odometry

    return odometry


def _localization():
    from mt_perception.evaluation import localization

    return localization


def _latency():
    from mt_perception.evaluation import latency

    return latency


def main(argv=None):
    """Run one evaluation; return 0, 1 after an error, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    return exit_status('evaluate', run, args, interrupted='interrupted; only what was finished is written')


def run(args):
    """Run the evaluation that was chosen; EvaluationError where it needs ROS 2 and there is none."""
    try:
        args.run(args)
    except ModuleNotFoundError as error:
        if error.name not in ('rclpy', 'mt_msgs'):
            raise
        raise EvaluationError(
            f"{args.command} runs the real nodes and needs ROS 2, but there is no module '{error.name}'"
        ) from None
