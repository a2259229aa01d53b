"""
Compare models.

::

    benchmark RUN/last.ckpt M.onnx M.fp16.onnx M.int8.onnx [--images DIR] [--tensorrt]
    benchmark --summary [--config NAME …] [--size 512x384] [--output summary.json]

Files run in turns in one process on the same images: median, 95th percentile, ratio to the first, megabytes,
and how far the results are from the first's. ``--tensorrt`` runs every float32 ONNX file with TensorRT too.

The summary needs no weights and runs nothing: parameters, multiply-adds and activation memory follow from the
shapes alone.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import torch
import yaml
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mt_perception.commands import exit_status
from mt_perception.errors import MtError
from mt_perception.evaluation.output import plain
from mt_training.checkpoints import write_text
from mt_training.comparison import compare
from mt_training.data.calibration import add_image_options, open_frames
from mt_training.evaluation.tables import format_table
from mt_training.export import check_size, parse_size
from mt_training.models import NETWORKS, available, build_network
from mt_training.timing import alternate
from mt_training.timing import summarise as summarise_times
from mt_training.train import CONFIGS, load_config


class ActivationMemory(TorchDispatchMode):
    """
    Follow the memory of the tensors that are made while it is active.

    :ivar peak: bytes alive at once, at most.
    """

    def __init__(self):
        """Start with nothing."""
        super().__init__()
        self.peak, self.alive = 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run ``function``; count the new storages among its results."""
        result = function(*args, **(kwargs or {}))
        given = {
            StorageWeakRef(x.untyped_storage()).cdata
            for x in tree_leaves((args, kwargs))
            if isinstance(x, torch.Tensor)
        }
        self.alive = {key: value for key, value in self.alive.items() if not value[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference.cdata not in given:
                    self.alive[reference.cdata] = (reference, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def summarise(architecture, model, size):
    """
    Count what a network needs for one image.

    :param architecture: see :func:`mt_training.models.build_network`.
    :param model: the experiment's section of that name.
    :param size: (width, height) in pixels.
    :return: dict ``parameters``, ``encoder_parameters``, ``multiply_adds`` (of convolutions and matrix
        products), ``activation_bytes`` (float32; the most that is alive at once in a forward pass, image
        included, weights not), ``tasks``.
    """
    with torch.device('meta'):
        net = build_network(architecture, **model).eval()
        image = torch.zeros(1, 3, size[1], size[0])
    operations, memory = FlopCounterMode(display=False), ActivationMemory()
    with torch.no_grad(), operations, memory:
        net(image, net.tasks)
    return {
        'parameters': sum(p.numel() for p in net.parameters()),
        'encoder_parameters': sum(p.numel() for p in net.encoder.parameters()),
        'multiply_adds': operations.get_total_flops() // 2,
        'activation_bytes': memory.peak + image.nbytes,
        'tasks': list(net.tasks),
    }


def experiments():
    """Return the names of the package's experiments whose network is for images and can be built here."""
    found = []
    for path in sorted(CONFIGS.glob('*.yaml')):
        content = yaml.safe_load(path.read_text())
        architecture = content.get('architecture') if isinstance(content, dict) else None
        if architecture in NETWORKS and available(architecture):
            found.append(path.stem)
    return found


def summary(names, size):
    """
    Summarise experiments.

    :param names: names of experiments; empty: all of the package.
    :return: dict name → see :func:`summarise`.
    """
    rows = {}
    for name in names or experiments():
        config = load_config(name)
        if config['architecture'] not in NETWORKS:
            raise MtError(f"'{name}' is not an experiment of a network for images")
        rows[name] = summarise(config['architecture'], config['model'], size)
    return dict(sorted(rows.items(), key=lambda item: item[1]['multiply_adds']))


def table(rows, size):
    """Format the summary as Markdown."""
    lines = [
        f'| model at {size[0]}x{size[1]} | parameters (M) | of these encoder | multiply-adds (G) '
        '| activations (MB) | tasks |',
        '|---|---|---|---|---|---|',
    ]
    for name, row in rows.items():
        numbers = [f'{row[key] / 1e6:.2f}' for key in ('parameters', 'encoder_parameters')]
        numbers += [f'{row["multiply_adds"] / 1e9:.2f}', f'{row["activation_bytes"] / 1e6:.1f}']
        lines.append(f'| {name} | ' + ' | '.join(numbers) + f' | {", ".join(row["tasks"])} |')
    return '\n'.join(lines)


def benchmark(runners, images, rounds, progress=True):
    """
    Time models in turns and compare what they say.

    :param runners: list of :class:`mt_training.formats.Runner`; the first is what others are compared with.
    :param images: list of [1,H,W,3] uint8.
    :param rounds: timed runs of each.
    :return: {name: dict ``kind``, ``megabytes``, ``p50_ms``, ``p95_ms``, ``ratio``, ``differences``}.
    """
    times = summarise_times(alternate({r.name: r.run for r in runners}, images, rounds, progress=progress))
    first, found = runners[0], {}
    for runner in runners:
        same = runner is first
        found[runner.name] = {
            'kind': runner.kind,
            'megabytes': runner.megabytes,
            **times[runner.name],
            'differences': {} if same else compare(first.run, runner.run, images),
        }
    return found


def print_benchmark(found):
    """Print what :func:`benchmark` found as two tables."""
    rows = [
        [name, r['kind'], *(r[key] for key in ('p50_ms', 'p95_ms', 'ratio', 'megabytes'))]
        for name, r in found.items()
    ]
    print(format_table(['model', 'runs in', 'ms, median', 'ms, p95', 'ratio', 'MB'], rows))
    keys = list(dict.fromkeys(key for r in found.values() for key in r['differences']))
    rows = [[name, *(r['differences'].get(k) for k in keys)] for name, r in found.items() if r['differences']]
    if rows:
        print()
        print(format_table([f'compared with {next(iter(found))}', *keys], rows))


def run_files(args, size):
    """Compare the files of the options; return the content of ``--output``."""
    from mt_perception.evaluation.machine import describe_machine
    from mt_perception.perception.images import resize
    from mt_training.formats import open_runners
    from mt_training.half import scene

    if args.rounds < 1:
        raise MtError('--rounds is at least 1')
    frames = open_frames(args)
    if frames is None:
        images = [scene(*size, seed) for seed in range(args.count)]
    else:
        step = max(1, len(frames) // args.count)
        chosen = range(0, len(frames), step)[: args.count]
        images = [resize(frames[index].image, size)[None].copy() for index in chosen]
    precisions = ('fp16', 'fp32') if args.tensorrt else ()
    logging.basicConfig(level=logging.WARNING, format='%(message)s', stream=sys.stderr)
    logger = logging.getLogger('benchmark')
    logger.setLevel(logging.INFO)  # building an engine takes minutes
    runners = open_runners(args.files, size, args.threads, precisions, logger=logger)
    found = benchmark(runners, images, args.rounds)
    print_benchmark(found)
    return {'size': size, 'rounds': args.rounds, 'models': found, 'machine': describe_machine()}


def run_summary(args, size):
    """Summarise the experiments of the options; return the content of ``--output``."""
    rows = summary(args.config, size)
    print(table(rows, size))
    return {'size': size, 'models': rows}


def main(argv=None):
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        prog='benchmark', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'files', nargs='*', metavar='FILE', help='checkpoints (.ckpt), exported models (.onnx)'
    )
    parser.add_argument(
        '--summary', action='store_true', help='instead: parameters, multiply-adds, activation memory'
    )
    parser.add_argument('--config', nargs='*', default=[], help='experiments (default: all of the package)')
    parser.add_argument('--size', default='512x384', help='size of the input, WIDTHxHEIGHT')
    parser.add_argument('--output', help='JSON file to write the numbers to')
    parser.add_argument('--rounds', type=int, default=30, help='timed runs of each (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads, 0 = one per core')
    parser.add_argument('--tensorrt', action='store_true', help='run ONNX files with TensorRT too')
    add_image_options(parser, 4, 'run')
    args = parser.parse_args(argv)
    return exit_status('benchmark', run, args)


def run(args):
    """Print, and write where asked, the comparison that the command line asks for."""
    size = parse_size(args.size)
    check_size(size)
    if args.summary == bool(args.files):
        raise MtError('give either files to compare, or --summary')
    found = (run_summary if args.summary else run_files)(args, size)
    if args.output:
        output = Path(args.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, json.dumps(plain(found), indent=2) + '\n')


if __name__ == '__main__':
    sys.exit(main())
