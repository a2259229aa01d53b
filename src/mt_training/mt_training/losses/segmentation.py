"""
Segmentation losses: logits [B,C,h,w] of any stride against class ids [B,H,W].

All have the same first arguments: ``labels`` are integers, ``ignore_index`` does not count, ``weights`` [C]
are class weights or None. All are scalars, and 0 when nothing is labelled.
"""

import torch
import torch.nn.functional as F


def cross_entropy(logits, labels, weights=None, ignore_index=255):
    """
    Cross entropy of logits brought to the labels' size.

    :param logits: [B,C,h,w].
    :param labels: [B,H,W] integer class ids; ``ignore_index`` does not count.
    :param weights: [C] class weights or None.
    :return: scalar; 0 when nothing is labelled.
    """
    labels = labels.long()
    if not bool((labels != ignore_index).any()):
        return logits.sum() * 0
    return F.cross_entropy(at_label_size(logits, labels), labels, weight=weights, ignore_index=ignore_index)


def at_label_size(logits, labels):
    """Bring logits [B,C,h,w] to the size of labels [B,H,W], bilinearly."""
    if logits.shape[-2:] == labels.shape[-2:]:
        return logits
    return F.interpolate(logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)


def known_pixels(logits, labels, ignore_index=255):
    """
    Return logits [N,C] and class ids [N] of the labelled pixels.

    :param logits: [B,C,h,w].
    :param labels: [B,H,W].
    """
    labels = labels.long()
    known = labels != ignore_index
    return at_label_size(logits, labels).movedim(1, -1)[known], labels[known]


def focal(logits, labels, weights=None, ignore_index=255, gamma=2.0):
    """
    Cross entropy that counts a pixel less the surer it is: −(1 − p)^γ log p.

    Lin et al., "Focal Loss for Dense Object Detection", 2017, eq. 4; with γ = 0 it is :func:`cross_entropy`,
    whose mean it takes: class weights count in the denominator too.
    """
    logits, labels = known_pixels(logits, labels, ignore_index)
    if not len(labels):
        return logits.sum() * 0
    log_p = F.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    loss = -((1 - log_p.exp()).clamp(min=0) ** gamma) * log_p
    if weights is None:
        return loss.mean()
    return (loss * weights[labels]).sum() / weights[labels].sum()


def dice(logits, labels, weights=None, ignore_index=255, smooth=1.0):
    """
    One minus the soft Dice coefficient, averaged over the classes present in the batch.

    Milletari et al., "V-Net", 2016, eq. 3, with sums in the denominator instead of sums of squares:
    1 − (2 Σ p y + s) / (Σ p + Σ y + s).

    :param smooth: s, in pixels.
    """
    logits, labels = known_pixels(logits, labels, ignore_index)
    if not len(labels):
        return logits.sum() * 0
    p = logits.softmax(dim=1)
    truth = F.one_hot(labels, p.shape[1]).to(p.dtype)
    total = truth.sum(0)
    score = (2 * (p * truth).sum(0) + smooth) / (p.sum(0) + total + smooth)
    return _class_mean(1 - score, total > 0, weights)


def lovasz(logits, labels, weights=None, ignore_index=255, per_image=False, every=1):
    """
    Lovász-softmax: the convex surrogate of one minus the Jaccard index, averaged over the classes present.

    Berman et al., "The Lovász-Softmax loss", 2018, eq. 11.

    :param per_image: average over the images instead of taking the batch as one.
    :param every: only every such row and column of the labels counts; sorting all pixels takes longer than a
        small network's forward pass.
    """
    if every > 1:
        start = every // 2
        labels = labels[:, start::every, start::every]
    if per_image:
        rows = [i for i in range(len(labels)) if bool((labels[i] != ignore_index).any())]
        if not rows:
            return logits.sum() * 0
        each = [lovasz(logits[i, None], labels[i, None], weights, ignore_index) for i in rows]
        return sum(each) / len(each)
    logits, labels = known_pixels(logits, labels, ignore_index)
    if not len(labels):
        return logits.sum() * 0
    p = logits.softmax(dim=1)
    present = torch.bincount(labels, minlength=p.shape[1]) > 0
    losses = p.new_zeros(p.shape[1])
    for c in present.nonzero()[:, 0].tolist():
        truth = (labels == c).to(p.dtype)
        errors, order = (truth - p[:, c]).abs().sort(descending=True)
        losses[c] = errors @ _lovasz_gradient(truth[order])
    return _class_mean(losses, present, weights)


def _lovasz_gradient(truth):
    """Return the gradient of the Lovász extension for errors in falling order (algorithm 1): [N] → [N]."""
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def _class_mean(losses, present, weights):
    """Average losses [C] over the classes present [C] bool, by ``weights`` where given."""
    share = present.to(losses.dtype) * (1 if weights is None else weights)
    return (losses * share).sum() / share.sum()


def ohem(logits, labels, weights=None, ignore_index=255, threshold=0.7, min_kept=0.0625):
    """
    Cross entropy over the hard pixels only: those whose true class has less than ``threshold`` probability.

    Online hard example mining (Shrivastava et al., 2016) as segmentation uses it. At least ``min_kept`` of
    the labelled pixels count, the hardest first. Which pixels count does not depend on class weights.

    :param threshold: probability.
    :param min_kept: part of the labelled pixels, 0–1.
    """
    logits, labels = known_pixels(logits, labels, ignore_index)
    if not len(labels):
        return logits.sum() * 0
    loss = F.cross_entropy(logits, labels, reduction='none')
    p = (-loss.detach()).exp()
    least = p.kthvalue(max(1, min(len(p), round(min_kept * len(p))))).values
    hard = (p < threshold) | (p <= least)
    if weights is None:
        return loss[hard].mean()
    return (loss * weights[labels])[hard].sum() / weights[labels][hard].sum()
