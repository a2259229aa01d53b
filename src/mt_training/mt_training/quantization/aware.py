"""
Quantisation-aware training: a network learns to do with 8 bits.

Every convolution that will compute in 8 bits rounds its weights (per output channel) and its input (with a
range that is learned) in the forward pass; gradients pass the rounding as if it were not there. Ranges start
at the extremes of the first batch. Batch norms are folded first, so that what is trained is what is exported.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018; learned ranges as in Esser et al., "Learned Step Size Quantization", 2020.
"""

from pathlib import Path

import torch
from torch import nn

from mt_perception.errors import MtError
from mt_training.export import export, parse_size
from mt_training.quantization.graph import chosen_nodes, read_graph
from mt_training.starting import load_start, short_training
from mt_training.tracing import fold_batch_norms
from mt_training.train import train

LEVELS = 255  # steps of an 8-bit range
WEIGHT_LIMIT = {'cpu': 64, 'tensorrt': 127}  # largest integer weight, as the static quantiser uses it


def round_through(x):
    """Round; the gradient passes unchanged."""
    return x + (x.round() - x).detach()


def rounded_weight(weight, limit):
    """
    Round a weight [O,…] to integers within ±``limit`` of a step per output channel.

    The step, the largest magnitude / ``limit``, is not differentiated.
    """
    step = weight.detach().abs().flatten(1).amax(1).clamp(min=1e-8) / limit
    step = step.reshape(-1, *([1] * (weight.dim() - 1)))
    return round_through(weight / step).clamp(-limit, limit) * step


def rounded_activation(x, low, high, symmetric=False):
    """
    Round values to the 256 levels of a range that holds zero; what lies beyond is clipped.

    :param x: any shape. :param low: and ``high``: scalars, differentiable.
    :param symmetric: the range is widened to be the same on both sides of zero.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    step = ((high - low) / LEVELS).clamp(min=1e-8)
    zero = round_through(-low / step)
    return ((round_through(x / step) + zero).clamp(0, LEVELS) - zero) * step


class Rounding:
    """What a convolution becomes: see :func:`make_aware`."""

    rounding, limit, symmetric = True, 64, False

    def _conv_forward(self, x, weight, bias):
        if not self.rounding:
            return super()._conv_forward(x, weight, bias)
        if not bool(self.seen):
            with torch.no_grad():
                self.low.copy_(x.detach().amin())
                self.high.copy_(x.detach().amax())
                self.seen.fill_(True)
        x = rounded_activation(x, self.low.to(x.dtype), self.high.to(x.dtype), self.symmetric)
        return super()._conv_forward(x, rounded_weight(weight, self.limit), bias)


def make_aware(net, names, target='cpu'):
    """
    Let the convolutions called ``names`` round as in 8 bits, in place.

    They get the parameters ``low`` and ``high``, the range of their input, and a note whether it is known
    yet.
    """
    classes = {}
    for name in names:
        conv = net.get_submodule(name)
        kind = type(conv)
        if kind not in classes:
            classes[kind] = type(f'Rounding{kind.__name__}', (Rounding, kind), {})
        conv.__class__ = classes[kind]
        conv.limit, conv.symmetric = WEIGHT_LIMIT[target], target == 'tensorrt'
        conv.low, conv.high = (nn.Parameter(torch.zeros((), device=conv.weight.device)) for _ in range(2))
        conv.register_buffer('seen', torch.zeros((), dtype=torch.bool, device=conv.weight.device))


def aware_convolutions(model, net, chosen):
    """
    Find the modules of the convolutions that will compute in 8 bits.

    :param model: ONNX model of ``net`` with its batch norms folded, nodes named.
    :param chosen: names of the nodes in 8 bits.
    :return: {name of the module: name of its input in the ONNX model}.
    """
    modules = {f'net.{name}.weight': name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    found, chosen = {}, set(chosen)
    for node in model.graph.node:
        if node.op_type == 'Conv' and node.name in chosen and node.input[1] in modules:
            found[modules[node.input[1]]] = node.input[0]
    return found


def train_aware(args):
    """
    Train a network for 8 bits and export it.

    :param args: see :func:`mt_training.quantize.build_parser`.
    :return: (path of the float ONNX file in ``args.work``, {tensor: (low, high)} the learned ranges).
    :raises MtError: a checkpoint, data or options that cannot be used.
    """
    if args.epochs < 1 or not 0 < args.rate:
        raise MtError('--epochs is at least 1, --rate above 0')
    work, size = Path(args.work), parse_size(args.size)
    start, trained = work / 'start.onnx', work / 'trained.onnx'

    net, config, weights = load_start(args)
    fold_batch_norms(net)
    export(net, config, start, size=size)
    model = read_graph(start)
    chosen = chosen_nodes(model, args.exclude, not args.no_default_exclude)
    convolutions = aware_convolutions(model, net, chosen)

    def change(module):
        fold_batch_norms(module.net)
        make_aware(module.net, convolutions, args.target)

    changed = short_training(config, args.epochs, args.rate, args.overrides)
    last = train(
        changed, args.data, args.pretrained, work, weights, args.cache,
        datasets=args.datasets, change=change,
    )  # fmt: skip
    make_aware(net, convolutions, args.target)
    state = torch.load(last, map_location='cpu', weights_only=False)['state_dict']
    net.load_state_dict({k.removeprefix('net.'): v for k, v in state.items() if k.startswith('net.')})
    ranges = learned_ranges(net, convolutions)
    for name in convolutions:
        net.get_submodule(name).rounding = False
    export(net, config, trained, size=size)
    return trained, ranges


def learned_ranges(net, convolutions):
    """
    Return {tensor: (low, high)} for the inputs of the convolutions that :func:`make_aware` changed.

    A tensor that several of them read gets a range that holds all of theirs.
    """
    found = {}
    for name, tensor in convolutions.items():
        conv = net.get_submodule(name)
        low, high = (float(bound.detach()) for bound in (conv.low, conv.high))
        low, high = min(low, 0.0), max(high, 0.0)
        if tensor in found:
            low, high = min(low, found[tensor][0]), max(high, found[tensor][1])
        found[tensor] = (low, high)
    return found
