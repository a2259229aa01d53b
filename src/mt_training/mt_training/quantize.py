"""
Make the 8-bit version of an exported model.

::

    quantize --model M.onnx --images DIR                                  static: ranges measured on images
    quantize --model M.onnx --mode dynamic
    quantize --mode qat --checkpoint RUN/last.ckpt --data ROOT --pretrained DIR --images DIR --work WORK

The first and final layers, the keypoints' location and all post-processing stay in floating point;
``--exclude`` keeps more. The result is under the model contract, with an id of its own. A table says what it
costs in every head and what it saves, measured in one run on images it was not calibrated on. Matchers know
a model by its id: ``--matcher lightglue.onnx`` writes one that takes the descriptors of the new model.

``--mode qat`` trains first, for a few epochs, with weights and activations rounded as in 8 bits; a run that
was stopped goes on with the same command.
"""

import argparse
import sys
from pathlib import Path

from mt_perception.errors import MtError
from mt_perception.inference.contract import read_model
from mt_training.data.calibration import add_image_options, network_images, open_frames
from mt_training.evaluation.output import OutputFolder
from mt_training.quantization.graph import adopt_matcher, quantised_path
from mt_training.quantization.post_training import METHODS, TARGETS, quantize_dynamic, quantize_static
from mt_training.reports import print_report, report
from mt_training.starting import add_start_options

MODES = ('static', 'dynamic', 'qat')


def build_parser():
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog='quantize', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--mode', choices=MODES, default='static', help='default: %(default)s')
    parser.add_argument('--model', metavar='M.onnx', help='exported perception model; not of qat')
    parser.add_argument('--output', metavar='FILE', help='default: the model with .int8.onnx')
    parser.add_argument('--exclude', nargs='*', default=[], metavar='PATTERN',
                        help='nodes that stay in floating point too, such as "*/depth/*"')  # fmt: skip
    parser.add_argument('--no-default-exclude', action='store_true', help='quantise sensitive layers too')
    parser.add_argument('--method', choices=METHODS, default='minmax',
                        help='how ranges follow from calibration (default: %(default)s)')  # fmt: skip
    parser.add_argument(
        '--target', choices=TARGETS, default='cpu', help='what runs it (default: %(default)s)'
    )
    parser.add_argument('--matcher', metavar='L.onnx', help='also write a copy of it for the new descriptors')
    parser.add_argument('--held-out', type=int, default=8, metavar='N', help='images to compare on')
    parser.add_argument('--rounds', type=int, default=20, help='timed runs of either, 0: none')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads, 0 = one per core')
    parser.add_argument('--report', metavar='OUT', help='folder to write the numbers to, as metrics.json')
    add_image_options(parser, 32)
    group = parser.add_argument_group('qat')
    add_start_options(group)
    group.add_argument('--data', help='root folder of the data sets that the experiment names by folder')
    group.add_argument('--pretrained', default='.', help='folder of the keypoint teacher, where sets need it')
    group.add_argument('--work', default='runs/qat', help='folder of the training (default: %(default)s)')
    group.add_argument('--cache', help='data cache to share with other runs (default: WORK/cache)')
    group.add_argument('--epochs', type=int, default=2, help='default: %(default)s')
    group.add_argument('--rate', type=float, default=0.1, help="learning rates, part of the experiment's")
    group.add_argument('--size', default='512x384', help='default input size, WIDTHxHEIGHT')
    group.add_argument('overrides', nargs='*', metavar='key=value', help='change a key of the experiment')
    return parser


def check(args):
    """Raise an MtError unless the options go together."""
    if args.mode == 'qat':
        if not args.output:
            raise MtError('--mode qat needs --output, the ONNX file to write')
    elif not args.model:
        raise MtError(f'--mode {args.mode} needs --model, an exported ONNX file')
    if args.held_out < 1 or args.rounds < 0:
        raise MtError('--held-out is at least 1, --rounds at least 0')


def run(args):
    """
    Quantise and compare.

    :return: what :func:`mt_training.reports.report` found.
    :raises MtError: a model, images or options that cannot be used.
    """
    check(args)
    frames = open_frames(args)
    if args.mode != 'dynamic' and frames is None:
        raise MtError(f'--mode {args.mode} measures ranges on images: give --images DIR or --dataset NAME')
    ranges, note, before = None, '', args.model
    if args.mode == 'qat':
        from mt_training.quantization.aware import train_aware

        before, ranges = train_aware(args)
        note = f'trained {args.epochs} epochs for 8-bit weights and activations'
    model = read_model(before, 'perception')
    output = Path(args.output or quantised_path(before))
    if output.resolve() == Path(before).resolve():
        raise MtError(f"--output '{output}' is the model itself")
    images, others = network_images(frames, model, args.count, args.held_out)
    keep = not args.no_default_exclude
    if args.mode == 'dynamic':
        metadata, count = quantize_dynamic(before, output, args.exclude, keep)
    else:
        metadata, count = quantize_static(
            before, output, images, args.method, args.target, args.exclude, keep, ranges, note
        )
    print(f'{output}: {metadata.model_id}, {count} nodes in 8 bits')
    if args.matcher:
        matcher = output.with_name(quantised_path(args.matcher).name)
        adopt_matcher(args.matcher, model.metadata.model_id, metadata.model_id, matcher)
        print(f'{matcher}: the matcher for its descriptors')
    if args.target == 'tensorrt':
        print('for TensorRT; on the CPU it runs too, but is not made for it')
    found = report(before, output, others, args.rounds, args.threads)
    print_report(found)
    if args.report:
        folder = OutputFolder(args.report)
        folder.write_metrics({'task': 'quantize', 'mode': args.mode, 'model_id': metadata.model_id, **found})
    return found


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    args = build_parser().parse_args(argv)
    try:
        run(args)
    except MtError as error:
        print(f'quantize: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('quantize: interrupted; the same command goes on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
