"""
Which layers have to lose the same channels, found by following channels through the network.

One channel of a layer's output is set to NaN. NaN survives every operation, so it marks what depends on that
channel: where it arrives at a convolution or linear layer, that layer *reads* the channel (and NaN is taken
out again, so that it goes no further); a batch norm or depthwise convolution on the way *follows* it. A
channel that reaches an output of the network, or is mixed with others on the way (attention, norms over
channels), stays. Layers whose outputs are added to each other arrive at the same inputs: they form one group.
This holds for every architecture; nothing is said by hand.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from mt_training.models.shapes import NORMS
from mt_training.tracing import every_path, example, tensors

PROBES = 3  # channels of a layer that are followed: first, middle, last; the others behave alike


@dataclass
class Group:
    """
    Layers that lose the same channels together.

    :param size: number of channels.
    :param producers: names of the layers that make them.
    :param followers: names of batch norms and depthwise convolutions on the way.
    :param readers: {(name, first input): inputs per channel} of the layers that read them; channel c is their
        inputs first + c · n … first + c · n + n − 1.
    """

    size: int
    producers: list = field(default_factory=list)
    followers: set = field(default_factory=set)
    readers: dict = field(default_factory=dict)


def is_depthwise(module):
    """Tell whether a module is a convolution with one filter per channel."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def is_producer(module):
    """Tell whether a module makes channels of its own out of all it reads."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def width_of(module):
    """Return the number of outputs of a producer."""
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


class Probe:
    """
    Follow some channels of one layer.

    :param net: the network. :param name: of the layer.
    :ivar found: {(name of a module, what it is): list of PROBES sets of its inputs}.
    :ivar stays: whether a channel reaches an output.
    """

    def __init__(self, net, name):
        self.net, self.module = net, net.get_submodule(name)
        self.names = {module: other for other, module in net.named_modules()}
        width = width_of(self.module)
        self.channels = [0, width // 2, width - 1]
        self.found, self.stays = {}, False

    def run(self):
        """Run the network on an image and note where the channels arrive; return self."""
        hooks = [self.module.register_forward_hook(self._mark)]
        for module in self.net.modules():
            if isinstance(module, NORMS) or is_depthwise(module) or is_producer(module):
                hooks.append(module.register_forward_pre_hook(self._arrive))
        try:
            with every_path(self.net):
                out = self.net(example(self.net, PROBES), self.net.tasks)
        finally:
            for hook in hooks:
                hook.remove()
        self.stays = any(bool(torch.isnan(t).any()) for t in tensors(out))
        return self

    def _mark(self, module, _, out):
        out = out.clone()
        for row, channel in enumerate(self.channels):
            if isinstance(module, nn.Linear):
                out[row, ..., channel] = torch.nan
            else:
                out[row, channel] = torch.nan
        return out

    def _arrive(self, module, given):
        x = given[0]
        bad = torch.isnan(x)
        if not bool(bad.any()):
            return None
        axis = x.dim() - 1 if isinstance(module, nn.Linear) else 1
        bad = bad.any(dim=[d for d in range(1, x.dim()) if d != axis]) if x.dim() > 2 else bad
        sets = [set(row.nonzero().flatten().tolist()) for row in bad]
        reads = is_producer(module)
        self.found[self.names[module], 'reader' if reads else 'follower'] = sets
        return (torch.nan_to_num(x, nan=0.0), *given[1:]) if reads else None

    def group(self):
        """Return what was found as a :class:`Group` of one producer, or None where channels have to stay."""
        width = width_of(self.module)
        group = Group(width, [self.names[self.module]])
        for (name, kind), sets in self.found.items():
            first, count = min(sets[0], default=0), len(sets[0])
            expected = [set(range(first + c * count, first + (c + 1) * count)) for c in self.channels]
            if not count or sets != expected:
                return None
            if kind == 'reader':
                group.readers[name, first] = count
            elif first or count > 1:
                return None  # it follows other channels besides: a norm over a concatenation
            else:
                group.followers.add(name)
        return None if self.stays or not group.readers else group


def find_groups(net, least=16):
    """
    Return the groups of channels that can be pruned.

    :param net: :class:`mt_training.models.network.Network`.
    :param least: layers with fewer channels are left as they are.
    :return: list of :class:`Group`, in the order in which the network names them.
    """
    probes = {}
    for name, module in net.named_modules():
        if is_producer(module):
            probes[name] = Probe(net, name).run()
    groups, blocked = [], set()  # blocked: what channels that stay arrive at
    for probe in probes.values():
        group = probe.group()
        if group is None:
            blocked.update((name, min(sets[0], default=0)) for (name, _), sets in probe.found.items())
        else:
            groups.append(group)
    merged = []
    for group in groups:
        same = [other for other in merged if _shares(group, other)]
        for other in same:
            merged.remove(other)
            group = _joined(other, group)
        merged.append(group)
    return [group for group in merged if group.size >= least and not _is_blocked(group, blocked)]


def _shares(first, second):
    return bool(set(first.readers) & set(second.readers) or first.followers & second.followers)


def _joined(first, second):
    """Join two groups; sizes or inputs per channel that differ make one that cannot be pruned (size 0)."""
    fits = first.size == second.size and all(
        second.readers.get(key, count) == count for key, count in first.readers.items()
    )
    return Group(
        first.size if fits else 0,
        first.producers + second.producers,
        first.followers | second.followers,
        {**first.readers, **second.readers},
    )


def _is_blocked(group, blocked):
    return any(key in blocked for key in (*group.readers, *((name, 0) for name in group.followers)))
