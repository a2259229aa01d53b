"""Depth losses; targets are metres, NaN where unknown."""

import torch

CELL_CENTRE = 2  # a stride-4 output is compared with pixel (2, 2) of its 4×4 cell


def _target(depth, stride=4):
    return depth[..., CELL_CENTRE::stride, CELL_CENTRE::stride]


def log_l1(log_depth, depth, gradient_weight=0.5):
    """
    Mean absolute error of log depth, with its horizontal and vertical differences.

    :param log_depth: [B,1,H/4,W/4] predicted log metres.
    :param depth: [B,H,W] metres, NaN or non-positive where unknown.
    :return: scalar; 0 when nothing is known.
    """
    target = _target(depth)
    known = torch.isfinite(target) & (target > 0)
    if not bool(known.any()):
        return log_depth.sum() * 0
    error = log_depth[:, 0] - torch.where(known, target, torch.ones_like(target)).log()
    loss = error.abs()[known].mean()
    for axis in (-1, -2):
        n = error.shape[axis]
        both = known.narrow(axis, 1, n - 1) & known.narrow(axis, 0, n - 1)
        difference = error.narrow(axis, 1, n - 1) - error.narrow(axis, 0, n - 1)
        if bool(both.any()):
            loss = loss + gradient_weight * difference.abs()[both].mean()
    return loss
