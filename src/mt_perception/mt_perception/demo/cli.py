"""``./mt demo``: plays a sequence through the real nodes and writes ``report.html``."""

import argparse
import signal
from pathlib import Path

from mt_perception.commands import exit_status


def parser():
    """Return the command line's parser."""
    out = argparse.ArgumentParser(
        prog='demo',
        description='Play a sequence through the real ROS 2 nodes and write a page with what came out.',
    )
    out.add_argument(
        '--sequence',
        default='rendered:street',
        help='folder, bag or video, or rendered:SCENE[:SEED][:VARIANT] (default: rendered:street)',
    )
    out.add_argument('--frames', default=None, help='part of the sequence, A:B (default: all)')
    out.add_argument(
        '--rate', type=float, default=0.0, help="images per second (default: as the sequence's stamps say)"
    )
    out.add_argument(
        '--live',
        action='store_true',
        help='never wait for results: what comes too quickly for this machine is dropped, as from a camera',
    )
    out.add_argument('--model', type=Path, default=None, help='perception model (default: the one shipped)')
    out.add_argument('--engine', default='auto', choices=('auto', 'tensorrt', 'onnxruntime'))
    out.add_argument('--matcher', default='lightglue', choices=('lightglue', 'nearest'))
    out.add_argument(
        '--matcher-model', type=Path, default=None, help='matcher model (default: the one shipped)'
    )
    out.add_argument('--pictures', type=int, default=5, help='frames shown in the report (default: 5)')
    out.add_argument('--domain-id', type=int, default=None, help='ROS_DOMAIN_ID to use (default: a free one)')
    out.add_argument('--output', type=Path, default=Path('out/demo'), help='folder (default: out/demo)')
    return out


def main(argv=None):
    """Run the demo; return 0, 1 after an error, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, interrupt)
    return exit_status('demo', run, args, interrupted='interrupted, all nodes have ended')


def run(args):
    """Run the demo; what takes long to import comes now, so that --help is quick."""
    from mt_perception.demo import run as demo

    demo.run(args)


def interrupt(number, frame):
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt
