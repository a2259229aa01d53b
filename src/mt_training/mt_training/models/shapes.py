"""
Networks whose layers have other widths than their architecture says: what pruning leaves of them.

The ``model`` section of such a network's experiment has the key ``shapes``: {name of the layer: its shape}
for the layers that differ, [inputs, outputs, groups] of a convolution, [inputs, outputs] of a linear layer,
[channels] of a batch norm.
"""

import torch
from torch import nn

from mt_perception.errors import MtError

NORMS = nn.modules.batchnorm._BatchNorm


def shape_of(module):
    """Return the shape of a layer as the module says it, or None for other layers."""
    if isinstance(module, nn.Conv2d):
        return [module.in_channels, module.out_channels, module.groups]
    if isinstance(module, nn.Linear):
        return [module.in_features, module.out_features]
    return [module.num_features] if isinstance(module, NORMS) else None


def layer_shapes(net):
    """Return {name: shape} of all layers that have one."""
    shapes = {name: shape_of(module) for name, module in net.named_modules()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def reshape(net, shapes):
    """
    Give layers other widths, in place; their weights are random afterwards.

    :param shapes: {name: shape}.
    :raises MtError: a layer that the network does not have, or a shape that does not suit it.
    """
    own = layer_shapes(net)
    for name, shape in shapes.items():
        if name not in own or len(own[name]) != len(shape) or any(int(n) < 1 for n in shape):
            raise MtError(f"model.shapes: '{name}: {shape}' does not suit this network")
        _resize(net.get_submodule(name), [int(n) for n in shape])


def _resize(module, shape):
    if isinstance(module, NORMS):
        module.num_features = shape[0]
        for key in ('weight', 'bias'):
            setattr(module, key, nn.Parameter(torch.empty(shape[0])))
        for key in ('running_mean', 'running_var'):
            setattr(module, key, torch.empty(shape[0]))
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = shape
        module.weight = nn.Parameter(torch.empty(shape[1], shape[0]))
        if module.bias is not None:
            module.bias = nn.Parameter(torch.empty(shape[1]))
    else:
        module.in_channels, module.out_channels, module.groups = shape
        size = module.weight.shape[2:]
        module.weight = nn.Parameter(torch.empty(shape[1], shape[0] // shape[2], *size))
        if module.bias is not None:
            module.bias = nn.Parameter(torch.empty(shape[1]))
    module.reset_parameters()
