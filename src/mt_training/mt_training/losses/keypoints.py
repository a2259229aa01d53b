"""Keypoint and descriptor losses."""

import torch
import torch.nn.functional as F


def cell_cross_entropy(logits, cells):
    """
    Classify each 4×4 cell into one of its pixels or none (DeTone et al., 2018, eq. 2).

    :param logits: [B,17,h,w].
    :param cells: [B,h,w] integer, 255 = ignored.
    :return: scalar; 0 when nothing is labelled.
    """
    cells = cells.long()
    if not bool((cells != 255).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits, cells, ignore_index=255)


def sample_descriptors(descriptors, points, stride=4):
    """
    Sample a map at pixels and normalise.

    :param descriptors: [B,D,H/s,W/s].
    :param points: [B,P,2] pixels of the H×W image.
    :param stride: s.
    :return: [B,P,D] unit length.
    """
    size = points.new_tensor([descriptors.shape[-1] * stride, descriptors.shape[-2] * stride])
    grid = (points + 0.5) / size * 2 - 1
    sampled = F.grid_sample(descriptors, grid[:, :, None], mode='bilinear', align_corners=False)[..., 0]
    return F.normalize(sampled.transpose(1, 2), dim=-1)


def dual_softmax(first, second, valid, temperature=0.07):
    """
    Every point must pick its partner among all points of the other view, in both directions.

    Sun et al., "LoFTR", 2021, eq. 2, as used for sparse points.

    :param first: [B,P,D] unit length.
    :param second: [B,P,D], row i corresponds to row i of ``first``.
    :param valid: [B,P] bool.
    :return: (scalar loss, accuracy of the nearest neighbour among the valid points).
    """
    similarity = first @ second.transpose(1, 2) / temperature
    similarity = similarity.masked_fill(~(valid[:, :, None] & valid[:, None]), -1e4)
    if not bool(valid.any()):
        return similarity.sum() * 0, similarity.new_tensor(0.0)
    target = torch.arange(first.shape[1], device=first.device).expand(first.shape[:2])
    rows = F.cross_entropy(similarity.flatten(0, 1), target.flatten(), reduction='none')
    columns = F.cross_entropy(similarity.transpose(1, 2).flatten(0, 1), target.flatten(), reduction='none')
    mask = valid.flatten()
    accuracy = (similarity.argmax(-1) == target)[valid].float().mean()
    return (rows + columns)[mask].mean() / 2, accuracy
