"""
Keypoints without labels: scores, offsets and descriptors learn from pairs related by a homography.

Tang et al., "Neural Outlier Rejection for Self-Supervised Keypoint Learning", 2020 (KP2D), equations 3 to 7,
without the outlier rejection network. Both views are seen by the same network; a point of the first belongs
to the point of the second that lies nearest to where the homography takes it.
"""

import torch
import torch.nn.functional as F

from mt_training.losses.keypoints import sample_descriptors

ASSOCIATION = 4.0  # pixels; points farther apart than this are not the same
MARGIN = 0.2  # of the triplet loss, between distances of unit vectors
RELAX = 8.0  # pixels; a point this close to the right one is never a negative


def keypoint_positions(offsets, size):
    """
    Turn offsets into pixels.

    :param offsets: [B,2,h,w] (x, y) in pixels from the centres of the cells.
    :param size: (width, height) of the image in pixels.
    :return: [B,h·w,2] pixels, cell by cell, rows first; pixel centres are whole numbers.
    """
    height, width = offsets.shape[-2:]
    step_x, step_y = size[0] / width, size[1] / height
    x = torch.arange(width, device=offsets.device, dtype=offsets.dtype) * step_x + (step_x - 1) / 2
    y = torch.arange(height, device=offsets.device, dtype=offsets.dtype) * step_y + (step_y - 1) / 2
    centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    return (centres + offsets).flatten(2).transpose(1, 2)


def warp(points, homography):
    """Apply [B,3,3] homographies to [B,N,2] points; what they send behind the camera becomes infinite."""
    out = points @ homography[:, :2, :2].transpose(1, 2) + homography[:, None, :2, 2]
    w = points @ homography[:, 2, :2, None] + homography[:, None, 2:, 2]
    return torch.where(w > 1e-6, out / w.clamp(min=1e-6), torch.full_like(out, float('inf')))


def inside(points, size):
    """Return which of [B,N,2] points lie in an image of ``size`` = (width, height): [B,N] bool."""
    x, y = points.unbind(-1)
    return (x >= 0) & (x <= size[0] - 1) & (y >= 0) & (y <= size[1] - 1)


def associate(points, candidates):
    """Return the index [B,N] of the nearest of the ``candidates`` [B,M,2] for each of ``points`` [B,N,2]."""
    with torch.no_grad():
        points = points.nan_to_num(posinf=1e6).clamp(-1e6, 1e6)
        return torch.cdist(points, candidates, compute_mode='donot_use_mm_for_euclid_dist').argmin(dim=2)


def score_and_location(scores, positions, homography, size, association=ASSOCIATION):
    """
    Repeatable points: near ones get nearer, and score higher the nearer they are (eq. 3, 6 and 7).

    :param scores: two of [B,N] in 0–1.
    :param positions: two of [B,N,2] pixels.
    :param homography: [B,3,3], pixels of the first view → the second.
    :param size: (width, height) of both views in pixels.
    :param association: pixels within which points belong together.
    :return: (score loss, location loss in pixels, part of the visible points with a partner); 0 without any.
    """
    there = warp(positions[0], homography)
    visible = inside(there, size)
    partner = associate(there, positions[1])
    target = positions[1].gather(1, partner[..., None].expand(-1, -1, 2))
    distance = torch.where(visible[..., None], there - target, torch.full_like(there, 1e3)).norm(dim=-1)
    together = visible & (distance < association)
    rate = together.sum() / visible.sum().clamp(min=1)
    if not bool(together.any()):
        nothing = sum(s.sum() for s in scores) * 0 + sum(p.sum() for p in positions) * 0
        return nothing, nothing, rate
    first, second = scores[0][together], scores[1].gather(1, partner)[together]
    distance = distance[together]
    error = distance.detach() - distance.detach().mean()
    score = ((first + second) / 2 * error).mean() + (first - second).square().mean()
    return score, distance.mean(), rate


def descriptor_triplet(first, second, positions, valid, margin=MARGIN, relax=RELAX):
    """
    Descriptors of one point are closer than those of any two points, by a margin (eq. 4, hardest negative).

    :param first: [B,N,D] unit length.
    :param second: [B,N,D], row i is the same point as row i of ``first``.
    :param positions: [B,N,2] pixels of the points in the second view.
    :param valid: [B,N] bool.
    :param margin: between the distances.
    :param relax: pixels; negatives are farther than this from the point.
    :return: (scalar, part of the valid points whose positive is closer than all negatives).
    """
    if not bool(valid.any()):
        return (first.sum() + second.sum()) * 0, first.new_tensor(0.0)
    similarity = first @ second.transpose(1, 2)
    with torch.no_grad():
        positions = positions.nan_to_num(posinf=1e6).clamp(-1e6, 1e6)
        apart = torch.cdist(positions, positions, compute_mode='donot_use_mm_for_euclid_dist') > relax
        allowed = apart & valid[:, None] & valid[:, :, None]
    negative = similarity.masked_fill(~allowed, -1.0).amax(dim=2)  # nothing allowed: as far as can be

    def euclidean(cosine):  # of unit vectors
        return (2 - 2 * cosine).clamp(min=1e-8).sqrt()

    positive = (first * second).sum(-1)
    loss = F.relu(euclidean(positive) - euclidean(negative) + margin)
    return loss[valid].mean(), (positive > negative)[valid].float().mean()


def kp2d_losses(out, batch, size, association=ASSOCIATION, margin=MARGIN, relax=RELAX):
    """
    Return the keypoint losses of a batch of pairs.

    Pairs with a homography train scores, offsets and, at the points found, descriptors; other pairs train
    descriptors at the labelled correspondences. The hardest negatives alone can draw all descriptors together
    before they tell anything apart, where the triplet loss stays at its margin: train them with a loss that
    looks at all negatives (:func:`mt_training.losses.keypoints.dual_softmax`) beside it.

    :param out: the network's output on the first views of all pairs, then the second ones: [2B,…].
    :param batch: ``homography`` [B,3,3] (NaN: the views are not related by one), ``points`` [B,2,P,2],
        ``points_valid`` [B,P].
    :param size: (width, height) of the views in pixels.
    :return: (dict ``keypoint_score``, ``keypoint_location``, ``keypoint_triplet``: scalars, dict of figures).
    """
    count = len(batch['points'])
    with torch.autocast(out['keypoint_scores'].device.type, enabled=False):
        scores, descriptors = out['keypoint_scores'].float().flatten(1), out['descriptors'].float()
        positions = keypoint_positions(out['keypoint_offsets'].float(), size)
        stride = size[0] // descriptors.shape[-1]
        related = torch.isfinite(batch['homography']).all(dim=2).all(dim=1)
        homography = batch['homography'][related]
        both = (slice(0, count), slice(count, None))
        own_scores, own = [scores[s][related] for s in both], [positions[s][related] for s in both]
        score, location, rate = score_and_location(own_scores, own, homography, size, association)
        triplets = []
        there = warp(own[0].detach(), homography)
        for rows, here, target, valid in (
            (related, own[0].detach(), there, inside(there, size)),
            (~related, *batch['points'][~related].unbind(1), batch['points_valid'][~related]),
        ):
            if not bool(rows.any()):
                continue
            where = target.nan_to_num(posinf=0.0)
            first = sample_descriptors(descriptors[both[0]][rows], here, stride)
            second = sample_descriptors(descriptors[both[1]][rows], where, stride)
            triplets.append(descriptor_triplet(first, second, target, valid, margin, relax))
        losses = {'keypoint_score': score, 'keypoint_location': location}
        losses['keypoint_triplet'] = sum(loss for loss, _ in triplets) / len(triplets)
        figures = {'associated': rate, 'hardest': sum(part for _, part in triplets) / len(triplets)}
    return losses, figures
