"""
Writes any sequence out in another format: ``python -m mt_perception.sequences.convert SOURCE TARGET``.

For instance a rendered street as a ROS 2 bag, or a bag as a folder that other tools read.
"""

import argparse
import sys

from mt_perception.commands import exit_status
from mt_perception.errors import SequenceError
from mt_perception.sequences import open_sequence
from mt_perception.sequences.writer import FORMATS, write_sequence


def _size(text):
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit()):
        raise SequenceError(f"size '{text}' is not of the form WIDTHxHEIGHT, for example 640x480")
    return int(width), int(height)


def main(argv=None):
    """Convert one sequence; return 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog='convert', description='Write a sequence out in another format.')
    parser.add_argument('source', help='folder, video, bag or rendered:SCENE[:SEED][:VARIANT]')
    parser.add_argument('target', help='folder to make')
    parser.add_argument('--format', choices=FORMATS, default='rgbd', help='default: %(default)s')
    parser.add_argument('--frames', metavar='A:B', help='part of the sequence')
    parser.add_argument('--size', metavar='WxH', help='image size, of rendered sequences only')
    args = parser.parse_args(argv)
    return exit_status('convert', run, args)


def run(args):
    """Convert the sequence that the command line names."""
    options = {}
    if args.size:
        options['width'], options['height'] = _size(args.size)
    sequence = open_sequence(args.source, args.frames, **options)
    write_sequence(sequence, args.target, args.format, progress=_progress)
    print(f'wrote {len(sequence)} frames of {sequence.name} to {args.target} ({args.format})')


def _progress(done, total):
    if sys.stderr.isatty():
        print(f'\r{done} of {total}', end='\n' if done == total else '', file=sys.stderr, flush=True)


if __name__ == '__main__':
    sys.exit(main())
