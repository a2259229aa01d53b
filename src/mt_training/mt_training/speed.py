"""
How fast a network is at which settings, and how right where it is trained.

::

    speed --config mask2former mask2former_light --size 1280x704 640x384
    speed --config mask2former --size 640x384 --vary queries=50 --vary queries=50,decoder_layers=3,width=128
    speed --checkpoint RUN/last.ckpt --size 480x352 --vary decoder_layers=1 --dataset camvid --root DIR

Every row is a network under the model contract in ONNX Runtime on the CPU: an experiment's own settings,
or these with what ``--vary`` changes of its ``model`` section. Without ``--checkpoint`` the weights are
random, which does not change the time. With one, what is varied must fit the trained weights (of mask2former
fewer ``decoder_layers``), and with ``--dataset`` each row is evaluated on it, in ``OUT/ROW``.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from mt_perception.errors import MtError
from mt_training.benchmark import summarise
from mt_training.checkpoints import write_text
from mt_training.evaluation.tables import format_table
from mt_training.export import check_size, export, load_net, parse_size
from mt_training.models import build_network
from mt_training.train import load_config

WARM_UP = 2  # runs that do not count
COLUMNS = {
    'parameters_m': 'parameters (M)',
    'multiply_adds_g': 'multiply-adds (G)',
    'ms': 'ms',
    'hz': 'Hz',
    'cpu_ms': 'CPU ms',
    'miou': 'mIoU',
}


def parse_changes(text):
    """
    Read 'key=value,key=value' (YAML values) of a model section.

    :raises MtError: it is something else.
    """
    try:
        changes = yaml.safe_load('{' + re.sub(r'(\w+)=', r'\1: ', text) + '}')
    except yaml.YAMLError:
        changes = None
    if changes is None or None in changes.values():
        raise MtError(f"--vary '{text}' is not KEY=VALUE[,KEY=VALUE…]")
    return changes


def vary(config, changes, trained=None):
    """
    Make a network with other settings.

    :param config: the experiment. :param changes: of its ``model`` section.
    :param trained: network whose weights it gets, or None for random ones.
    :return: (network in evaluation mode, the experiment with the changes).
    :raises MtError: the trained weights do not fit.
    """
    config = {**config, 'model': {**config['model'], **changes}}
    net = build_network(config['architecture'], **config['model']).eval()
    if trained is not None:
        state, own = trained.state_dict(), net.state_dict()
        wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
        if wrong:
            raise MtError(
                f'the trained weights do not fit {changes}: {wrong[0]} is missing or has another shape; '
                'train such a network, or compare without --checkpoint'
            )
        net.load_state_dict({name: state[name] for name in own})
    return net, config


def measure(path, size, rounds, threads):
    """
    Time an exported model.

    :param size: (width, height). :param rounds: timed runs. :param threads: 0 = one per core.
    :return: dict ``ms``, the median; ``hz``; ``cpu_ms``, processor time per run of all threads: with one
        thread on a busy machine about the time that an idle one would take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    image = np.random.default_rng(0).integers(0, 255, (1, size[1], size[0], 3), np.uint8)
    walls, cpus = [], []
    for _ in range(WARM_UP + rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        session.run(None, {'image': image})
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    wall, cpu = (float(np.median(values[WARM_UP:])) for values in (walls, cpus))
    return {'ms': 1e3 * wall, 'hz': 1 / wall, 'cpu_ms': 1e3 * cpu}


def evaluate(path, args, output):
    """Return the mean IoU of an exported model on the data set of the options; writes ``output``."""
    from mt_training.evaluation import segmentation
    from mt_training.evaluation.cli import build_parser

    words = ['segmentation', '--model', path, '--dataset', args.dataset, '--output', output]
    words += ['--threads', args.threads]
    for name in ('root', 'datasets', 'split', 'frames'):
        value = getattr(args, name)
        words += [] if value is None else [f'--{name}', value]
    return segmentation.run(build_parser().parse_args([str(word) for word in words]))['miou']


def compare(subjects, sizes, args, output):
    """
    Export, time and, where there is a data set, evaluate every combination.

    :param subjects: list of (name, experiment, changes, trained network or None).
    :param sizes: list of (width, height).
    :param output: folder; each row's model is there while it is measured.
    :return: list of dicts ``name``, ``size`` and those of ``COLUMNS`` that are known.
    """
    rows = []
    output.mkdir(parents=True, exist_ok=True)
    for name, config, changes, trained in subjects:
        net, changed = vary(config, changes, trained)
        for size in sizes:
            shown = f'{size[0]}x{size[1]}'
            model = output / f'{name.replace(" ", "_")}_{shown}.onnx'
            counted = summarise(changed['architecture'], changed['model'], size)
            try:
                export(net, changed, model, size=size, fixed=True)
                row = {
                    'name': name, 'size': shown, 'parameters_m': counted['parameters'] / 1e6,
                    'multiply_adds_g': counted['multiply_adds'] / 1e9,
                    **measure(model, size, args.rounds, args.threads),
                }  # fmt: skip
                if args.dataset:
                    row['miou'] = evaluate(model, args, output / model.stem)
            finally:
                model.unlink(missing_ok=True)
            rows.append(row)
    return rows


def main(argv=None):
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        prog='speed', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', nargs='+', default=[], help='experiments, with random weights')
    parser.add_argument('--checkpoint', help='instead: file written by train')
    parser.add_argument('--size', nargs='+', default=['640x384'], help='sizes of the input, WIDTHxHEIGHT')
    parser.add_argument(
        '--vary', action='append', default=[], metavar='KEY=VALUE[,…]', help='one more row per experiment'
    )
    parser.add_argument('--rounds', type=int, default=20, help='timed runs (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads, 0 = one per core')
    parser.add_argument('--dataset', help='evaluate segmentation on this data set too')
    for name, text in (
        ('root', 'its folder'),
        ('datasets', 'datasets.yaml'),
        ('split', 'part of it'),
        ('frames', 'A:B[:STEP] of it'),
    ):
        parser.add_argument(f'--{name}', help=text)
    parser.add_argument('--output', default='out/speed', help='folder for speed.json (default: %(default)s)')
    args = parser.parse_args(argv)
    try:
        sizes = [parse_size(text) for text in args.size]
        for size in sizes:
            check_size(size)
        if bool(args.config) == bool(args.checkpoint):
            raise MtError('give either --config or --checkpoint')
        if args.dataset and not args.checkpoint:
            raise MtError('--dataset needs --checkpoint: random weights are not worth evaluating')
        trained, own = load_net(args.checkpoint) if args.checkpoint else (None, None)
        experiments = [(own['architecture'], own)] if own else [(n, load_config(n)) for n in args.config]
        subjects = [
            (f'{name} {text}'.strip(), config, parse_changes(text), trained)
            for name, config in experiments
            for text in ('', *args.vary)
        ]
        with torch.inference_mode():
            rows = compare(subjects, sizes, args, Path(args.output))
        write_text(Path(args.output) / 'speed.json', json.dumps(rows, indent=2) + '\n')
    except MtError as error:
        print(f'speed: {error}', file=sys.stderr)
        return 1
    keys = [key for key in COLUMNS if key in rows[0]]
    print(format_table(
        ['settings', 'input', *(COLUMNS[key] for key in keys)],
        [[row['name'], row['size'], *(row[key] for key in keys)] for row in rows],
    ))  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
