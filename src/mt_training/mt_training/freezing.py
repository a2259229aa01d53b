"""Which parts of a network train: the stages of an experiment freeze the rest."""

import torch
from torch import nn

from mt_perception.errors import MtError


def reached_parameters(net, task, size=64):
    """Return the names of the parameters that the outputs of a task depend on."""
    training = net.training
    net.eval()
    grads = {p: (p.requires_grad, p.grad) for p in net.parameters()}
    try:
        for p in grads:
            p.requires_grad_(True)
            p.grad = None
        image = torch.rand(1, 3, size, size, device=next(net.parameters()).device) * 255
        with torch.enable_grad():
            found = net(image, [task])
            tensors = [t for v in found.values() for t in (v if isinstance(v, (list, tuple)) else [v])]
            sum(t.float().sum() for t in tensors if t.requires_grad).backward()
        return {name for name, p in net.named_parameters() if p.grad is not None}
    finally:
        for p, (wanted, grad) in grads.items():
            p.requires_grad_(wanted)
            p.grad = grad
        net.train(training)


def head_parameters(net, tasks):
    """
    Return the names of the parameters that only these tasks use: their heads.

    Found by what the outputs depend on, so it holds for every architecture; where decoders are shared between
    tasks, the head is what comes after the shared part.

    :raises MtError: the network has no such task, or nothing of its own for it.
    """
    known = net.tasks
    for task in tasks:
        if task not in known:
            raise MtError(f"train_heads: unknown task '{task}'; this network has: {', '.join(known)}")
    own = set().union(*(reached_parameters(net, t) for t in tasks))
    others = [reached_parameters(net, t) for t in known if t not in tasks]
    if others:
        own -= set().union(*others)
    if not own:
        raise MtError(f'train_heads: this network has no parameters that only {", ".join(tasks)} uses')
    return own


def left_out(net, only):
    """
    Return the parts of a network that are not trained when ``only`` these, named as its attributes, are.

    :raises MtError: the network has no such part.
    """
    parts = dict(net.named_children())
    for name in only:
        if name not in parts:
            raise MtError(f"train_only: unknown part '{name}'; this network has: {', '.join(parts)}")
    return [part for name, part in parts.items() if only and name not in only]


def freeze(net, backbone=False, train_heads=(), only=()):
    """
    Freeze parts of a network.

    :param backbone: freeze the whole encoder.
    :param train_heads: tasks; everything but their heads is frozen. Empty: nothing is.
    :param only: names of parts; all others are frozen. Empty: nothing is.
    :raises MtError: nothing would be left to train.
    """
    if backbone:
        net.encoder.requires_grad_(False)
    if train_heads:
        own = head_parameters(net, list(train_heads))
        for name, p in net.named_parameters():
            if name not in own:
                p.requires_grad_(False)
    for part in left_out(net, only):
        part.requires_grad_(False)
    if not any(p.requires_grad for p in net.parameters()):
        raise MtError('freeze_backbone, train_heads and train_only leave nothing to train')


def hold_statistics(net):
    """Keep the statistics of frozen batch norms as at run time; call it whenever training begins."""
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own:
            if not any(p.requires_grad for p in own):
                module.eval()
