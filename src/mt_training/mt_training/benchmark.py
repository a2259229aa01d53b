"""
Compare models.

``./mt run mt_training benchmark --summary [--config NAME …] [--size 512x384] [--output summary.json]``

The summary needs no weights and runs nothing: parameters, multiply-adds and activation memory follow from the
shapes alone.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
import yaml
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mt_perception.errors import MtError
from mt_training.export import check_size, parse_size
from mt_training.models import NETWORKS, available, build_network
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


def main(argv=None):
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(prog='benchmark', description='Compare models.')
    parser.add_argument(
        '--summary', action='store_true', required=True, help='parameters, multiply-adds, activation memory'
    )
    parser.add_argument('--config', nargs='*', default=[], help='experiments (default: all of the package)')
    parser.add_argument('--size', default='512x384', help='size of the input, WIDTHxHEIGHT')
    parser.add_argument('--output', help='JSON file to write the numbers to')
    args = parser.parse_args(argv)
    try:
        size = parse_size(args.size)
        check_size(size)
        rows = summary(args.config, size)
        if args.output:
            output = Path(args.output)
            output.parent.mkdir(parents=True, exist_ok=True)
            partial = output.with_suffix(f'.{os.getpid()}.part')
            partial.write_text(json.dumps({'size': size, 'models': rows}, indent=2))
            partial.replace(output)
    except MtError as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 1
    print(table(rows, size))
    return 0


if __name__ == '__main__':
    sys.exit(main())
