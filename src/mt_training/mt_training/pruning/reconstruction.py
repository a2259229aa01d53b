"""
What the channels that stay can say for those that go.

Channels are redundant: one that goes is nearly a weighted sum of those that stay. What reads them gets these
weights added to its own, fitted by least squares to what the network sees on some images, without labels (He
et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017, section 3.1).
"""

import torch
from torch import nn

from mt_training.tracing import every_path

POSITIONS = 4096  # places of one map that count, drawn at random
RIDGE = 1e-4  # regularisation, relative to the mean energy of a channel


def collect_moments(net, groups, images):
    """
    Measure how the channels that layers read go together.

    :param net: network in evaluation mode.
    :param groups: of :func:`mt_training.pruning.dependencies.find_groups`.
    :param images: iterable of [1,3,H,W] float RGB 0–255.
    :return: {name of a reader: [C+1,C+1] float64, mean of the products of its inputs and 1}.
    """
    names = {net.get_submodule(name): name for group in groups for name, _ in group.readers}
    sums, counts, hooks = {}, {}, []
    generator = torch.Generator().manual_seed(0)

    def read(module, given):
        x = given[0].detach()
        x = x.flatten(2).transpose(1, 2) if isinstance(module, nn.Conv2d) else x
        x = x.reshape(-1, x.shape[-1])
        if len(x) > POSITIONS:
            x = x[torch.randperm(len(x), generator=generator)[:POSITIONS]]
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).double()
        name = names[module]
        sums[name] = sums.get(name, 0) + x.T @ x
        counts[name] = counts.get(name, 0) + len(x)

    for module in names:
        hooks.append(module.register_forward_pre_hook(read))
    try:
        with every_path(net):
            for image in images:
                net(image, net.tasks)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def energy(net, group, moments):
    """
    Return how much each channel of a group moves what its readers give, [size] float64.

    The variance of the channel (the mean square where the reader has no bias to take the mean) times the
    squared weights that read it.
    """
    worth = torch.zeros(group.size, dtype=torch.float64)
    for (name, first), count in group.readers.items():
        if name not in moments:
            continue
        layer, moment = net.get_submodule(name), moments[name]
        spread = moment.diagonal()[:-1]
        if layer.bias is not None:
            spread = spread - moment[-1, :-1].square()
        weight = layer.weight.detach().double().square().transpose(0, 1).flatten(1).sum(1)
        worth += (spread * weight)[first : first + group.size * count].reshape(group.size, count).sum(1)
    return worth.clamp(min=0)


@torch.no_grad()
def reconstruct(net, chosen, moments):
    """
    Let readers take over what they lose; call it before the channels are removed.

    :param chosen: of :func:`mt_training.pruning.channels.masks`. :param moments: of :func:`collect_moments`.
    """
    for name, (inputs, _) in chosen.items():
        layer, moment = net.get_submodule(name), moments.get(name)
        if moment is None or len(inputs) == len(moment) - 1:
            continue
        gone = torch.ones(len(moment) - 1, dtype=torch.bool)
        gone[inputs] = False
        gone = gone.nonzero()[:, 0]
        constant = [len(moment) - 1] if layer.bias is not None else []
        kept = torch.cat([inputs, torch.tensor(constant, dtype=inputs.dtype)])
        gram = moment[kept][:, kept]
        gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(kept), dtype=gram.dtype)
        share = torch.linalg.solve(gram, moment[kept][:, gone]).to(layer.weight.dtype)  # [kept,gone]
        lost = layer.weight[:, gone]
        taken = torch.einsum('og...,kg->ok...', lost, share[: len(inputs)])
        layer.weight[:, inputs] += taken
        if constant:
            layer.bias += torch.einsum('og...,g->o', lost, share[-1])
