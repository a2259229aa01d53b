"""Depth losses; targets are metres, NaN where unknown."""

import torch


def at_stride(depth, prediction):
    """
    Take the depth at the middle of each cell of a coarser prediction: of a 4×4 cell, pixel (2, 2).

    :param depth: [B,H,W].
    :param prediction: [B,1,h,w].
    :return: [B,h,w].
    """
    stride = depth.shape[-1] // prediction.shape[-1]
    return depth[..., stride // 2 :: stride, stride // 2 :: stride]


def log_l1(log_depth, depth, gradient_weight=0.5):
    """
    Mean absolute error of log depth, with its horizontal and vertical differences.

    :param log_depth: [B,1,h,w] predicted log metres at any stride.
    :param depth: [B,H,W] metres, NaN or non-positive where unknown.
    :return: scalar; 0 when nothing is known.
    """
    target = at_stride(depth, log_depth)
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
