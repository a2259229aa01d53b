"""
Make a network smaller: whole channels go, with everything that makes or reads only them.

::

    prune --checkpoint RUN/last.ckpt --output OUT --ratio 0.3 --images DIR
    prune --checkpoint RUN/last.ckpt --output OUT --macs 0.6 --finetune 5 --data ROOT --pretrained DIR
    prune --config mtnet_small --init mtnet_small --output OUT --importance taylor --data ROOT

With images (no labels needed) the layers that stay are fitted to make up for what goes.
OUT/pruned.ckpt with OUT/config.yaml is a network like any other: ``export --checkpoint OUT/pruned.ckpt``,
``train --config OUT/config.yaml --init OUT/pruned.ckpt``. ``--finetune`` trains it at once, in OUT/finetune;
a run that was stopped goes on with the same command. The table compares the exported files: OUT/before.onnx
and OUT/pruned.onnx.
"""

import argparse
import copy
import fnmatch
import itertools
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from mt_perception.errors import MtError
from mt_perception.inference.contract import read_model
from mt_training.benchmark import summarise
from mt_training.checkpoints import write_atomically
from mt_training.data.calibration import add_image_options, network_images, open_frames
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.tables import format_table
from mt_training.export import check_size, export, load_net, parse_size
from mt_training.pruning import channels
from mt_training.pruning.dependencies import find_groups
from mt_training.pruning.reconstruction import collect_moments, reconstruct
from mt_training.reports import print_report, report
from mt_training.stages import write_config
from mt_training.starting import add_start_options, load_start, short_training
from mt_training.tracing import example
from mt_training.train import build_module, open_data, train

BISECTIONS = 12  # halvings of the ratio's range when a number of multiply-adds is aimed at


def select(groups, patterns, exclude):
    """Return the groups of which a layer fits one of ``patterns`` and none fits one of ``exclude``."""

    def fits(group, chosen):
        return any(fnmatch.fnmatch(name, p) for name in group.producers for p in chosen)

    return [group for group in groups if fits(group, patterns) and not fits(group, exclude)]


def cost(net, config, size, chosen=None):
    """Return :func:`mt_training.benchmark.summarise` of a network, as it is or after removing ``chosen``."""
    shapes = dict(config['model'].get('shapes') or {})
    shapes.update(channels.planned_shapes(net, chosen or {}))
    return summarise(config['architecture'], {**config['model'], 'shapes': shapes}, size)


def plan(net, config, groups, worths, args, size):
    """
    Choose what goes.

    :return: (what :func:`mt_training.pruning.channels.remove` takes, ratio).
    :raises MtError: the wanted multiply-adds cannot be reached.
    """

    def at(ratio):
        kept = channels.choose(worths, ratio, args.allocation, args.multiple)
        return channels.masks(net, groups, kept)

    if args.macs is None:
        return at(args.ratio), args.ratio
    whole = cost(net, config, size)['multiply_adds']
    low, high = 0.0, channels.MOST
    if cost(net, config, size, at(high))['multiply_adds'] > args.macs * whole:
        least = cost(net, config, size, at(high))['multiply_adds'] / whole
        raise MtError(
            f'--macs {args.macs:g}: these channels take it to {least:.2f} of the multiply-adds at most'
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if cost(net, config, size, at(middle))['multiply_adds'] > args.macs * whole:
            low = middle
        else:
            high = middle
    return at(high), high


def rank(net, config, groups, args, output, moments):
    """
    Return the importance of the channels of every group.

    :param moments: of the images (energy), or None; taylor takes batches of the training data.
    """
    if args.importance == 'taylor':
        if args.data is None and not args.datasets:
            raise MtError('--importance taylor needs the training data: --data ROOT or --datasets FILE')
        cache = args.cache or output / 'cache'
        _, loader, _ = open_data(
            {**config, 'workers': 0}, args.data, args.pretrained, cache, config['seed'], None, args.datasets
        )
        module = build_module({**config, 'class_weights': None, 'distillation': []})
        module.net.load_state_dict(net.state_dict())
        module.eval()

        def losses():
            for batch in tqdm(itertools.islice(loader, args.batches), 'taylor', args.batches, disable=None):
                found, _ = module.losses(batch)
                yield sum(module.weighting.weighted(found).values())

        channels.accumulate_taylor(module.net, groups, losses())
        net = module.net
    return [channels.importance(net, group, args.importance, moments) for group in groups]


def prune(net, config, args, size, output, images=()):
    """
    Prune a network and write it.

    :param images: list of [1,H,W,3] uint8: what stays is fitted to what the network sees on them.
    :return: (the smaller network, its experiment, dict of numbers before and after).
    :raises MtError: nothing to prune, or data that is missing.
    """
    print('following channels through the network', file=sys.stderr)
    groups = select(find_groups(net), args.layers, args.exclude)
    if not groups:
        raise MtError('no channels can be pruned with these --layers and --exclude')
    moments = None
    if images:
        seen = (torch.from_numpy(image).permute(0, 3, 1, 2).float() for image in images)
        moments = collect_moments(net, groups, tqdm(seen, 'measuring', len(images), disable=None))
    worths = rank(net, config, groups, args, output, moments)
    chosen, ratio = plan(net, config, groups, worths, args, size)
    smaller = copy.deepcopy(net)
    if images:
        reconstruct(smaller, chosen, moments)
    channels.remove(smaller, chosen)
    with torch.no_grad():
        smaller(example(smaller), smaller.tasks)
    shapes = {**(config['model'].get('shapes') or {}), **channels.planned_shapes(net, chosen)}
    changed = {**config, 'model': {**config['model'], 'shapes': shapes}}
    before, after = cost(net, config, size), cost(net, config, size, chosen)
    numbers = {
        'ratio': ratio,
        'groups': len(groups),
        'channels': [sum(g.size for g in groups), sum(smaller_width(smaller, g) for g in groups)],
        **{key: [before[key], after[key]] for key in ('parameters', 'multiply_adds', 'activation_bytes')},
    }
    state = {'state_dict': {f'net.{key}': value for key, value in smaller.state_dict().items()}}
    write_config(output, changed)
    write_atomically(output / 'pruned.ckpt', lambda file: torch.save(state, file))
    return smaller, changed, numbers


def smaller_width(net, group):
    """Return how many channels of a group are left."""
    return net.get_submodule(group.producers[0]).weight.shape[0]


def build_parser():
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog='prune', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_start_options(parser)
    parser.add_argument('--output', required=True, help='folder for the smaller network')
    parser.add_argument('--ratio', type=float, default=0.3, help='part of the channels that goes')
    parser.add_argument(
        '--macs', type=float, help='or: multiply-adds to reach, as a part of the present ones'
    )
    parser.add_argument(
        '--importance', choices=channels.IMPORTANCES, help='default: energy with images, else l1'
    )
    parser.add_argument('--allocation', choices=('global', 'uniform'), default='global',
                        help='the least important of all, or the same part of every layer')  # fmt: skip
    parser.add_argument('--multiple', type=int, default=8, help='channels are kept in multiples of it')
    parser.add_argument(
        '--layers', nargs='*', default=['*'], metavar='PATTERN', help='layers that may shrink'
    )
    parser.add_argument('--exclude', nargs='*', default=[], metavar='PATTERN', help='layers that may not')
    parser.add_argument('--size', default='512x384', help='input size of the export and the multiply-adds')
    parser.add_argument('--held-out', type=int, default=8, metavar='N', help='images to compare on')
    parser.add_argument('--rounds', type=int, default=20, help='timed runs of either, 0: none')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads, 0 = one per core')
    add_image_options(parser, 32, 'fit and compare')
    group = parser.add_argument_group('training')
    group.add_argument('--finetune', type=int, default=0, metavar='EPOCHS', help='train the smaller network')
    group.add_argument('--data', help='root folder of the data sets that the experiment names by folder')
    group.add_argument('--pretrained', default='.', help='folder of the keypoint teacher, where sets need it')
    group.add_argument('--cache', help='data cache to share with other runs (default: OUT/cache)')
    group.add_argument(
        '--rate', type=float, default=0.3, help="learning rates, as a part of the experiment's"
    )
    group.add_argument('--batches', type=int, default=20, help='of taylor')
    group.add_argument('overrides', nargs='*', metavar='key=value', help='change a key of the experiment')
    return parser


def check(args, size):
    """Raise an MtError for numbers that mean nothing."""
    check_size(size)
    if not 0 < args.ratio < 1:
        raise MtError(f'--ratio {args.ratio:g} is not between 0 and 1')
    if args.macs is not None and not 0 < args.macs < 1:
        raise MtError(f'--macs {args.macs:g} is not between 0 and 1')
    if args.multiple < 1 or args.held_out < 1 or args.batches < 1 or args.finetune < 0 or args.rate <= 0:
        raise MtError('--multiple, --held-out and --batches are at least 1, --finetune 0, --rate above 0')


def run(args):
    """
    Prune, train where asked to, export, compare.

    :return: dict of numbers.
    :raises MtError: a network, data or options that cannot be used.
    """
    size, output = parse_size(args.size), Path(args.output)
    check(args, size)
    frames = open_frames(args)
    net, config, _ = load_start(args)
    output = OutputFolder(output).path
    short = short_training(config, args.finetune, args.rate, args.overrides)
    args.importance = args.importance or ('energy' if frames else 'l1')
    if args.importance == 'energy' and frames is None:
        raise MtError('--importance energy looks at images: give --images DIR or --dataset NAME')
    files, images, others = (output / 'before.onnx', output / 'pruned.onnx'), [], []
    if frames is not None:
        export(net, config, files[0], size=size)
        images, others = network_images(frames, read_model(files[0]), args.count, args.held_out)
    smaller, changed, numbers = prune(net, config, args, size, output, images)
    rows = [
        [key, *values, values[1] / values[0]] for key, values in numbers.items() if isinstance(values, list)
    ]
    print(format_table(['', 'before', 'pruned', 'ratio'], rows))
    if args.finetune:
        short['model'] = changed['model']
        cache = args.cache or output / 'cache'
        last = train(short, args.data, args.pretrained, output / 'finetune', output / 'pruned.ckpt', cache,
                     datasets=args.datasets)  # fmt: skip
        smaller, changed = load_net(last)
        print(f'trained {args.finetune} epochs: {last}')
    if frames is None:
        export(net, config, files[0], size=size)
        _, others = network_images(None, read_model(files[0]), 0, args.held_out)
    export(smaller, changed, files[1], size=size)
    found = report(*files, others, args.rounds, args.threads)
    print_report(found, ('before', 'pruned'))
    numbers = {**numbers, **found}
    OutputFolder(output).write_metrics({'task': 'prune', 'importance': args.importance, **numbers})
    print(f'results in {output}')
    return numbers


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    args = build_parser().parse_args(argv)
    try:
        run(args)
    except MtError as error:
        print(f'prune: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('prune: interrupted; the same command goes on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
