"""Segmentation losses."""

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
    logits = F.interpolate(logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)
    return F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index)
