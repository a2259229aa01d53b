"""
Depth losses; targets are metres, NaN where unknown.

All take ``log_depth`` [B,1,H/s,W/s], log metres at any stride s, and ``depth`` [B,H,W] metres, NaN or
non-positive where unknown; all are scalars, and 0 when nothing is known.
"""

import torch


def at_stride(depth, log_depth):
    """
    Take the target at the pixel each output stands for: (s//2, s//2) of its s×s cell, (2, 2) at stride 4.

    :param depth: [B,H,W].
    :param log_depth: [B,1,H/s,W/s].
    :return: (target [B,H/s,W/s], 1 where unknown; known [B,H/s,W/s] bool).
    """
    stride = depth.shape[-1] // log_depth.shape[-1]
    target = depth[..., stride // 2 :: stride, stride // 2 :: stride]
    known = torch.isfinite(target) & (target > 0)
    return torch.where(known, target, torch.ones_like(target)), known


def log_l1(log_depth, depth, gradient_weight=0.5):
    """
    Mean absolute error of log depth, with its horizontal and vertical differences.

    :param log_depth: [B,1,H/4,W/4] predicted log metres.
    :param depth: [B,H,W] metres, NaN or non-positive where unknown.
    :return: scalar; 0 when nothing is known.
    """
    target, known = at_stride(depth, log_depth)
    if not bool(known.any()):
        return log_depth.sum() * 0
    error = log_depth[:, 0] - target.log()
    loss = error.abs()[known].mean()
    for difference, both in _differences(error, known):
        if bool(both.any()):
            loss = loss + gradient_weight * difference.abs()[both].mean()
    return loss


def _differences(error, known):
    """Yield the differences of neighbours along x and y, and where both are known."""
    for axis in (-1, -2):
        n = error.shape[axis]
        both = known.narrow(axis, 1, n - 1) & known.narrow(axis, 0, n - 1)
        yield error.narrow(axis, 1, n - 1) - error.narrow(axis, 0, n - 1), both


def l1(log_depth, depth):
    """Mean absolute error in metres."""
    target, known = at_stride(depth, log_depth)
    if not bool(known.any()):
        return log_depth.sum() * 0
    return (log_depth[:, 0].exp() - target).abs()[known].mean()


def berhu(log_depth, depth, threshold=0.2):
    """
    Reverse Huber in metres: |e| up to c, then (e² + c²) / 2c; c = ``threshold`` × the batch's largest error.

    Laina et al., "Deeper Depth Prediction with Fully Convolutional Residual Networks", 2016, eq. 1.
    """
    target, known = at_stride(depth, log_depth)
    if not bool(known.any()):
        return log_depth.sum() * 0
    error = (log_depth[:, 0].exp() - target).abs()[known]
    c = (threshold * error.detach().max()).clamp(min=1e-6)
    return torch.where(error <= c, error, (error**2 + c**2) / (2 * c)).mean()


def scale_invariant_log(log_depth, depth, scale_weight=0.5, root=False):
    """
    Variance-like error of log depth, mean(d²) − λ mean(d)² of each image, averaged over images.

    Eigen et al., "Depth Map Prediction from a Single Image", 2014, eq. 4.

    :param scale_weight: λ: 0 is the plain mean square, 1 does not see the scale at all.
    :param root: take 10 × the square root of each image's error (Lee et al., "From Big to Small", 2019, eq.
        7).
    """
    target, known = at_stride(depth, log_depth)
    images = known.flatten(1).any(1)
    if not bool(images.any()):
        return log_depth.sum() * 0
    error = torch.where(known, log_depth[:, 0] - target.log(), torch.zeros_like(target))[images].flatten(1)
    count = known[images].flatten(1).sum(1)
    loss = error.square().sum(1) / count - scale_weight * (error.sum(1) / count).square()
    if root:
        loss = 10 * loss.clamp(min=1e-8).sqrt()
    return loss.mean()


def gradient(log_depth, depth, scales=4):
    """
    Differences of the log-depth error between neighbours, at ``scales`` resolutions.

    Li and Snavely, "MegaDepth", 2018, eq. 4: edges must be where they are in the target, whatever the scale.
    """
    target, known = at_stride(depth, log_depth)
    error = log_depth[:, 0] - target.log()
    loss = log_depth.sum() * 0
    for scale in range(scales):
        step = 2**scale
        for difference, both in _differences(error[:, ::step, ::step], known[:, ::step, ::step]):
            if bool(both.any()):
                loss = loss + difference.abs()[both].mean()
    return loss
