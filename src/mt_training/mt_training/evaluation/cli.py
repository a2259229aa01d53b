"""
``evaluate``: measure weights on labelled data.

::

    evaluate segmentation --dataset camvid --root DIR --split val --model M.onnx --output OUT
    evaluate depth        --dataset rgbd --root DIR --frames 320:400 --model M.onnx --output OUT
    evaluate keypoints    --dataset oxford_affine --root DIR --features model sift orb --output OUT
    evaluate vpr          --dataset corridor --root DIR --model M.onnx --output OUT
    evaluate all          --datasets datasets.yaml --model M.onnx --output OUT

Every one prints a table and writes ``metrics.json`` and pictures; ``--debug`` adds pictures of what the
network says.
"""

import argparse
import sys

from mt_perception.errors import MtError
from mt_training.evaluation import debug, depth, everything, keypoints, segmentation, vpr

TASKS = {
    'segmentation': segmentation,
    'depth': depth,
    'keypoints': keypoints,
    'vpr': vpr,
    'all': everything,
}


def build_parser():
    """Return the parser of the command with one subcommand per task."""
    parser = argparse.ArgumentParser(prog='evaluate', description='Measure weights on labelled data.')
    commands = parser.add_subparsers(dest='task', required=True, metavar='TASK')
    for name, module in TASKS.items():
        summary = module.__doc__.strip().splitlines()[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        debug.add_option(command)
    return parser


def evaluate(args):
    """
    Run one evaluation.

    :param args: parsed by :func:`build_parser`.
    :return: the content of its ``metrics.json``.
    :raises MtError: data, model or output that cannot be used.
    """
    result = TASKS[args.task].run(args)
    if args.debug and args.task != 'all':
        debug.write(args)
    return result


def main(argv=None):
    """
    Run the command.

    :param argv: arguments, None = of the process.
    :return: exit status: 0, or 1 after an error of the user's, which is printed in one sentence.
    """
    args = build_parser().parse_args(argv)
    try:
        evaluate(args)
    except MtError as error:
        print(f'evaluate {args.task}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'evaluate {args.task}: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
