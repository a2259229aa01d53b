"""
How the losses of the tasks become one.

In an experiment, ``weighting: {kind: fixed | uncertainty | dwa | pcgrad}``; ``loss_weights`` are factors on
top of all of them. A loss that is exactly 0 (its task has no labels in this step) is left out.
"""

import torch
from torch import nn

from mt_perception.errors import MtError

REGRESSION = ('depth', 'photometric', 'distill/depth')  # their likelihood is not that of a classification


class FixedWeights(nn.Module):
    """
    Σ w L with the weights of the experiment.

    :param loss_weights: dict loss → w; a loss without weight counts once.
    """

    surgery = False

    def __init__(self, loss_weights):
        super().__init__()
        self.loss_weights = dict(loss_weights)

    def weighted(self, losses):
        """Return the weighted losses, dict loss → scalar."""
        return {key: self.loss_weights.get(key, 1.0) * value for key, value in losses.items()}

    def forward(self, losses):
        """Return the sum."""
        return sum(self.weighted(losses).values())

    def figures(self):
        """Return what is worth logging of the weights, dict of scalars."""
        return {}

    def end_epoch(self):
        """Take note of the end of an epoch."""


class UncertaintyWeights(FixedWeights):
    """
    Σ w (c exp(−s) L + s / 2) with a learnt log variance s per loss; c is ½ for regressions, else 1.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018, eq. 7 and 10.
    """

    def __init__(self, loss_weights):
        super().__init__(loss_weights)
        self.names = list(self.loss_weights)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def weighted(self, losses):
        """Return the weighted losses."""
        out = {}
        for key, value in losses.items():
            if key not in self.names:
                raise MtError(
                    f"weighting uncertainty: loss_weights has no '{key}'; give it a weight, such as 1.0"
                )
            s = self.log_variance[self.names.index(key)]
            factor = 0.5 if key in REGRESSION else 1.0
            there = (value.detach() != 0).to(value.dtype)
            out[key] = self.loss_weights[key] * there * (factor * torch.exp(-s) * value + s / 2)
        return out

    def figures(self):
        """Return the log variances."""
        return {f'log_variance/{k}': v for k, v in zip(self.names, self.log_variance.detach(), strict=True)}


class DynamicWeightAverage(FixedWeights):
    """
    Σ w λ L: tasks whose loss falls slowly weigh more. λ = K softmax(r / T), r = L(t−1) / L(t−2) of epochs.

    Liu et al., "End-to-End Multi-Task Learning with Attention", 2019, eq. 7. The first two epochs weigh 1.

    :param temperature: T.
    """

    def __init__(self, loss_weights, temperature=2.0):
        super().__init__(loss_weights)
        self.names, self.temperature = list(self.loss_weights), temperature
        for name in ('total', 'count', 'last', 'before'):
            self.register_buffer(name, torch.zeros(len(self.names), dtype=torch.float64))

    def factors(self):
        """Return λ [K]; 1 for losses not seen in both of the last two epochs."""
        known = (self.last > 0) & (self.before > 0)
        ratio = torch.where(known, self.last / self.before.clamp(min=1e-12), torch.ones_like(self.last))
        if not bool(known.any()):
            return torch.ones_like(ratio)
        share = (ratio / self.temperature).masked_fill(~known, -torch.inf).softmax(0) * known.sum()
        return torch.where(known, share, torch.ones_like(share))

    def weighted(self, losses):
        """Return the weighted losses; in training they count for the epoch's means."""
        factors, out = self.factors(), {}
        for key, value in losses.items():
            if key not in self.names:
                raise MtError(f"weighting dwa: loss_weights has no '{key}'; give it a weight, such as 1.0")
            index = self.names.index(key)
            if self.training:
                self.total[index] += value.detach().double()
                self.count[index] += (value.detach() != 0).double()
            out[key] = self.loss_weights[key] * factors[index].to(value.dtype) * value
        return out

    def figures(self):
        """Return the factors."""
        return {f'dwa/{k}': v.float() for k, v in zip(self.names, self.factors(), strict=True)}

    def end_epoch(self):
        """Remember the means of the epoch."""
        mean = self.total / self.count.clamp(min=1)
        self.before.copy_(self.last)
        self.last.copy_(mean)
        self.total.zero_()
        self.count.zero_()


class PcGrad(FixedWeights):
    """
    Weights as fixed; where gradients of two tasks conflict, each loses what works against the other.

    Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, algorithm 1, on the parameters that more
    than one task trains. The module does the surgery when it goes backward: see :func:`surgery`.
    """

    surgery = True


def project_conflicts(gradients, generator):
    """
    Algorithm 1: gradients without their conflicts, added up.

    :param gradients: [T,N], one row per task.
    :param generator: of the random order in which a task meets the others.
    :return: [N].
    """
    norms = gradients.square().sum(1)
    out = gradients.clone()
    for i in range(len(gradients)):
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if j != i and bool(norms[j] > 0):
                dot = out[i] @ gradients[j]
                if bool(dot < 0):
                    out[i] -= dot / norms[j] * gradients[j]
    return out.sum(0)


def surgery(losses, parameters, scale=1.0, generator=None, reduce=None):
    """
    Add to the gradients of ``parameters`` those of all losses, conflicts projected away.

    :param losses: weighted losses, one per task.
    :param parameters: those to train; with a graph to the losses.
    :param scale: factor on every gradient (loss scaling, accumulation).
    :param generator: see :func:`project_conflicts`.
    :param reduce: averages a flat gradient over the processes in place, or None.
    """
    losses = [loss for loss in losses if loss.requires_grad]
    rows, touched = [], []
    for index, loss in enumerate(losses):
        found = torch.autograd.grad(
            loss * scale, parameters, retain_graph=index + 1 < len(losses), allow_unused=True
        )
        touched.append([g is not None for g in found])
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for g, p in zip(found, parameters, strict=True)
            ]
        )
        if reduce is not None:
            reduce(flat)
        rows.append(flat)
    rows = torch.stack(rows)
    # a task whose loss is the constant 0 reaches every parameter of its head, but trains none
    trains = torch.stack(
        [torch.stack([g.any() for g in row.split([p.numel() for p in parameters])]) for row in rows]
    )
    shared = (trains.sum(0) > 1).repeat_interleave(
        torch.tensor([p.numel() for p in parameters], device=rows.device)
    )
    combined = rows.sum(0)
    if bool(shared.any()):
        combined[shared] = project_conflicts(rows[:, shared], generator)
    used = [any(column) for column in zip(*touched, strict=True)]
    for p, g, reached in zip(parameters, combined.split([p.numel() for p in parameters]), used, strict=True):
        if reached:
            g = g.view_as(p)
            p.grad = g.clone() if p.grad is None else p.grad + g


KINDS = {
    'fixed': FixedWeights,
    'uncertainty': UncertaintyWeights,
    'dwa': DynamicWeightAverage,
    'pcgrad': PcGrad,
}


def build_weighting(section, loss_weights):
    """
    Make the weighting of an experiment.

    :param section: ``{kind: …}`` with the options of that kind, or None for fixed weights.
    :param loss_weights: dict loss → weight.
    :raises MtError: an unknown kind or option.
    """
    options = dict(section or {})
    kind = options.pop('kind', 'fixed')
    if kind not in KINDS:
        raise MtError(f"weighting: unknown kind '{kind}'; known: {', '.join(KINDS)}")
    try:
        return KINDS[kind](loss_weights, **options)
    except TypeError:
        raise MtError(f"weighting: '{kind}' does not take {', '.join(options)}") from None
