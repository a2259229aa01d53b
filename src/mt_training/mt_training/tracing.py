"""Follow what a network does with an image, whatever its architecture."""

import contextlib

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
DROPOUTS = (nn.modules.dropout._DropoutNd,)
SIZE = 64  # pixels; of the image that is passed through a network to follow it


@contextlib.contextmanager
def every_path(net):
    """Let a network run all its parts, auxiliary heads too, while norms and dropout do as at run time."""
    before = {module: module.training for module in net.modules()}
    try:
        for module in before:
            module.training = not isinstance(module, (*NORMS, *DROPOUTS))
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training


def tensors(value):
    """Return the tensors in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [tensor for part in parts for tensor in tensors(part)]


def example(net, batch=1):
    """Return an image [batch,3,64,64] float RGB 0–255 on the network's device: noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, SIZE, SIZE, generator=generator) * 255
    return image.to(next(net.parameters()).device)


def replace_module(net, name, module):
    """Put ``module`` in the place of the one called ``name``."""
    parent, _, last = name.rpartition('.')
    setattr(net.get_submodule(parent), last, module)


def fold_batch_norms(net):
    """
    Fold every batch norm that directly follows a convolution into its weights, in place.

    :return: names of the norms that are gone.
    """
    names = {module: name for name, module in net.named_modules()}
    made, pairs, hooks = {}, [], []

    def after(module, _, out):
        made[id(out)] = (module, out)  # kept alive: the id stays its own

    def before(module, given):
        conv, out = made.get(id(given[0]), (None, None))
        if out is given[0]:
            pairs.append((conv, module))

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before))
    try:
        with every_path(net):
            net(example(net), net.tasks)
    finally:
        for hook in hooks:
            hook.remove()
    for conv, norm in pairs:
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        replace_module(net, names[norm], nn.Identity())
    return [names[norm] for _, norm in pairs]
