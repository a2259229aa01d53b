"""
Several processes that together do what one would.

Every process takes its rows of the global batch; outputs and labels are then brought together, so that every
process computes the losses of the whole batch (losses over pairs, over the hardest pixels or over classes
cannot be averaged afterwards). Batch norm and dropout also see the whole batch. Under ``torchrun`` the rest
is Lightning's DDP.
"""

import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
import torch.nn.functional as F
from torch import nn

from mt_perception.errors import MtError

LONGEST_WAIT = datetime.timedelta(hours=12)  # of the others, while the first process prepares data


def rank():
    """Return the number of this process, 0 for one alone; before the processes have met, as torchrun says."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get('RANK', 0))


def world_size():
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get('WORLD_SIZE', 1))


def under_torchrun():
    """Tell whether torchrun started this process beside others."""
    return 'TORCHELASTIC_RUN_ID' in os.environ and world_size() > 1


def meet():
    """Let the processes that torchrun started find each other; nothing to do for one alone."""
    if under_torchrun() and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        dist.init_process_group('nccl' if torch.cuda.is_available() else 'gloo', timeout=LONGEST_WAIT)


def part():
    """End what :func:`meet` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


class first_process_first:
    """In ``with first_process_first():`` the first process goes alone, the others follow: it fills caches."""

    def __enter__(self):
        if dist.is_initialized() and rank() > 0:
            dist.barrier()

    def __exit__(self, kind, error, trace):
        if dist.is_initialized() and rank() == 0:
            dist.barrier()


def share(total, index=None, count=None):
    """
    Return the rows (start, stop) of a batch of ``total`` that process ``index`` of ``count`` takes.

    :raises MtError: there are fewer rows than processes.
    """
    index, count = rank() if index is None else index, world_size() if count is None else count
    if total < count:
        raise MtError(f'a batch of {total} cannot be shared by {count} processes: raise batch or start fewer')
    return index * total // count, (index + 1) * total // count


class _Gather(torch.autograd.Function):
    """
    Bring the rows of all processes together.

    Backward takes this process's rows times the number of processes: each computes the same loss of the same
    rows, and DDP averages the gradients of the parameters.
    """

    @staticmethod
    def forward(ctx, rows, total):
        sizes = [stop - start for start, stop in (share(total, i) for i in range(world_size()))]
        padded = F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, max(sizes) - len(rows))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.rows = share(total)
        return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, gradient):
        return gradient[slice(*ctx.rows)] * world_size(), None


def gather(rows, total, views=1):
    """
    Bring rows of all processes together, in the order of the global batch.

    :param rows: [views·B,…] of this process, the first views of its B pairs first.
    :param total: pairs of the global batch.
    :return: [views·total,…]; with gradients to this process's rows.
    """
    if world_size() == 1:
        return rows
    flags = rows.dtype == torch.bool
    rows = rows.byte() if flags else rows
    pairs = rows.unflatten(0, (views, -1)).transpose(0, 1)
    out = _Gather.apply(pairs, total).transpose(0, 1).flatten(0, 1)
    return out.bool() if flags else out


def average(tensor):
    """Average a tensor over the processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def add_up(tensor):
    """Add a tensor over the processes, in place; returns it."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


@dataclass
class Rows:
    """Where this process's rows lie in the batch that a network sees: pairs start:stop of total."""

    total: int = 0
    start: int = 0
    stop: int = 0

    def set(self, total):
        """Take this process's share of ``total`` pairs."""
        self.total, (self.start, self.stop) = total, share(total)

    def select(self, x, views):
        """Return this process's rows of a whole batch [views·total,…]."""
        return x.unflatten(0, (views, self.total))[:, self.start : self.stop].flatten(0, 1)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """
    Batch norm over the rows of all processes, on any device (PyTorch's own needs a GPU).

    Mean and variance come from the sums over all processes; running statistics as in ``nn.BatchNorm2d``.
    """

    def forward(self, x):
        """Normalise [B,C,H,W]."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        n = x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float32)
        sums = dist_functional.all_reduce(torch.cat([x.float().sum((0, 2, 3)), n]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x.float() - mean[:, None, None]
        var = dist_functional.all_reduce(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_((var * count / (count - 1)).to(self.running_var), momentum)
        out = centred * (var + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)


class _GlobalNoise:
    """Dropout whose mask is the rows of the mask one process would draw for the whole batch."""

    rows = None

    def forward(self, x):
        """Drop."""
        mine = self.rows.stop - self.rows.start
        if not self.training or world_size() == 1 or not mine or len(x) % mine:
            return super().forward(x)
        views = len(x) // mine
        whole = torch.ones(views * self.rows.total, *x.shape[1:], dtype=x.dtype, device=x.device)
        return x * self.rows.select(super().forward(whole), views)


class GlobalDropout(_GlobalNoise, nn.Dropout):
    """``nn.Dropout`` over the global batch."""


class GlobalDropout2d(_GlobalNoise, nn.Dropout2d):
    """``nn.Dropout2d`` over the global batch."""

    def forward(self, x):
        """Drop channels; only their first pixel is drawn for the whole batch."""
        if not self.training or world_size() == 1:
            return nn.Dropout2d.forward(self, x)
        pixel = super().forward(torch.ones_like(x[:, :, :1, :1]))
        return x * pixel


def globalise(net):
    """
    Make batch norm and dropout of a network see the rows of all processes; weights stay as they are.

    :return: (the network, the :class:`Rows` that the caller sets before each pass).
    """
    rows = Rows()
    if world_size() == 1:
        return net, rows
    if torch.cuda.is_available():
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif type(module) in (nn.Dropout, nn.Dropout2d):
            module.__class__ = GlobalDropout if type(module) is nn.Dropout else GlobalDropout2d
            module.inplace, module.rows = False, rows
    return net, rows
