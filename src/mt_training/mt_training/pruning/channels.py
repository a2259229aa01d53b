"""Rank channels, choose which to keep, and take the others out of the network."""

import numpy as np
import torch
from torch import nn

from mt_training.models.shapes import NORMS, shape_of
from mt_training.pruning.dependencies import is_depthwise
from mt_training.pruning.reconstruction import energy

IMPORTANCES = ('l1', 'bn', 'taylor', 'energy')
MOST = 0.8  # part of a group's channels that goes at most


def importance(net, group, kind='l1', moments=None):
    """
    Return how much each channel of a group matters, mean 1: [size] float64.

    l1: magnitude of the filters that make it (Li et al., "Pruning Filters for Efficient ConvNets", 2017),
    times the batch norm's scale where one follows. bn: magnitude of that scale alone (Liu et al., "Learning
    Efficient Convolutional Networks through Network Slimming", 2017); groups without batch norm: l1. taylor:
    squared change of the loss to first order (Molchanov et al., "Importance Estimation for Neural Network
    Pruning", 2019, eq. 8), from the gradients that :func:`accumulate_taylor` left in ``taylor``. energy: how
    much it moves what its readers give (:func:`mt_training.pruning.reconstruction.energy`), from ``moments``.
    """
    layers = [net.get_submodule(name) for name in group.producers]
    followers = [net.get_submodule(name) for name in sorted(group.followers)]
    norms = [module for module in followers if isinstance(module, NORMS)]
    scale = sum((norm.weight.detach().abs() for norm in norms), torch.zeros(group.size))
    with torch.no_grad():
        if kind == 'energy':
            worth = energy(net, group, moments)
        elif kind == 'taylor':
            worth = sum(layer.taylor for layer in layers)
        elif kind == 'bn' and norms:
            worth = scale
        else:
            worth = sum(layer.weight.abs().flatten(1).sum(1) for layer in layers)
            if norms:
                deviation = sum((n.running_var + n.eps).sqrt() for n in norms) / len(norms)
                worth = worth * scale / deviation
    worth = worth.cpu().numpy().astype(np.float64)
    return worth / max(worth.mean(), 1e-30)


def accumulate_taylor(net, groups, losses):
    """
    Add up the squared first-order change of the loss that each channel's removal would bring.

    :param net: the network whose channels are ranked.
    :param groups: their producers get ``taylor``, [channels].
    :param losses: iterable of scalars, each the loss of one batch.
    """
    layers = [net.get_submodule(name) for group in groups for name in group.producers]
    for layer in layers:
        layer.weight.requires_grad_(True)
        layer.taylor = torch.zeros(layer.weight.shape[0])
    for loss in losses:
        net.zero_grad()
        loss.backward()
        for layer in layers:
            if layer.weight.grad is not None:
                change = (layer.weight * layer.weight.grad).detach().flatten(1).sum(1)
                layer.taylor += change.square().cpu()
    net.zero_grad()


def choose(worths, ratio, allocation='global', multiple=8):
    """
    Choose the channels to keep.

    :param worths: list of [size] arrays, one per group.
    :param ratio: part of all channels that goes, 0–1.
    :param allocation: 'uniform': the same part of every group; 'global': the least important ones of all
        groups together, of a group ``MOST`` at most.
    :param multiple: the number of kept channels is rounded to a multiple of it (kernels like that).
    :return: list of sorted index arrays.
    """
    sizes = [len(worth) for worth in worths]
    rank = np.empty(sum(sizes), int)  # 0 is the least important of all; ranks, as many may be worth nothing
    rank[np.argsort(np.concatenate(worths), kind='stable')] = np.arange(sum(sizes))
    ranks = np.split(rank, np.cumsum(sizes)[:-1])
    kept = []
    for worth, size, places in zip(worths, sizes, ranks, strict=True):
        count = (places >= ratio * sum(sizes)).sum() if allocation == 'global' else size * (1 - ratio)
        count = max(count, size * (1 - MOST))
        count = int(np.clip(round(count / multiple) * multiple, min(multiple, size), size))
        kept.append(np.sort(np.argsort(-worth, kind='stable')[:count]))
    return kept


def masks(net, groups, kept):
    """Return {name of a layer: [kept inputs, kept outputs] as index tensors} of all layers that change."""
    inputs, outputs = {}, {}
    for group, indices in zip(groups, kept, strict=True):
        gone = np.setdiff1d(np.arange(group.size), indices)
        for name in (*group.producers, *group.followers):
            outputs.setdefault(name, set()).update(gone.tolist())
        for (name, first), count in group.readers.items():
            lost = (first + gone[:, None] * count + np.arange(count)).ravel()
            inputs.setdefault(name, set()).update(lost.tolist())
    found = {}
    for name in dict.fromkeys((*outputs, *inputs)):
        shape = shape_of(net.get_submodule(name))
        wide = shape[0], shape[1] if len(shape) > 1 else shape[0]
        lost = inputs.get(name, ()), outputs.get(name, ())
        if any(lost):
            found[name] = [torch.tensor([i for i in range(n) if i not in out]) for n, out in zip(wide, lost)]
    return found


def planned_shapes(net, chosen):
    """Return {name: shape} after :func:`remove`, as :mod:`mt_training.models.shapes` takes them."""
    shapes = {}
    for name, (inputs, outputs) in chosen.items():
        module = net.get_submodule(name)
        if isinstance(module, NORMS):
            shapes[name] = [len(outputs)]
        elif is_depthwise(module):
            shapes[name] = [len(outputs)] * 3
        else:
            groups = [module.groups] if isinstance(module, nn.Conv2d) else []
            shapes[name] = [len(inputs), len(outputs), *groups]
    return shapes


@torch.no_grad()
def remove(net, chosen):
    """Take channels out of a network, in place; ``chosen`` is of :func:`masks`."""
    shapes = planned_shapes(net, chosen)
    for name, (inputs, outputs) in chosen.items():
        module = net.get_submodule(name)
        for key in ('bias', 'running_mean', 'running_var'):
            value = getattr(module, key, None)
            if value is not None:
                _set(module, key, value[outputs])
        if isinstance(module, NORMS):
            module.num_features = shapes[name][0]
        elif isinstance(module, nn.Linear):
            module.in_features, module.out_features = shapes[name]
        else:
            module.in_channels, module.out_channels, module.groups = shapes[name]
        weight = module.weight[outputs]
        separate = isinstance(module, NORMS) or is_depthwise(module)
        _set(module, 'weight', weight if separate else weight[:, inputs])


def _set(module, key, value):
    """Put a tensor in the place of a parameter or buffer."""
    old = getattr(module, key)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value.clone(), requires_grad=old.requires_grad)
    setattr(module, key, value.clone() if not isinstance(value, nn.Parameter) else value)
