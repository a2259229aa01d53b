"""
Place-recognition losses.

All take ``first`` and ``second`` [B,G] of unit length, row i of both showing place ``places[i]``, and return
(scalar loss, recall@1 of ``first`` among ``second``). Rows whose ids differ by at most ``neighbours`` (a
number, or one per row as [B,1]) are not negatives of each other; only equal ids are positives.
"""

import torch
import torch.nn.functional as F

from mt_perception.errors import MtError


def info_nce(first, second, places, neighbours=0, temperature=0.1):
    """
    Each view must find the other view of its place among the batch (van den Oord et al., 2018).

    :param first: [B,G] unit length.
    :param second: [B,G] unit length; row i shows the place of row i of ``first``.
    :param places: [B] ids; rows whose ids differ by at most ``neighbours`` (a number, or one per row
        as [B,1]) are not negatives of each other.
    :return: (scalar loss, recall@1 within the batch).
    """
    similarity = first @ second.T / temperature
    close = (places[:, None] - places[None]).abs() <= neighbours
    close.fill_diagonal_(False)
    similarity = similarity.masked_fill(close, -1e4)
    target = torch.arange(len(first), device=first.device)
    loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
    return loss, (similarity.argmax(1) == target).float().mean()


def relations(places, neighbours=0):
    """
    Tell which of the 2B views (all first, then all second) belong together.

    :return: (positive, negative), both [2B,2B] bool; no view is its own positive.
    """
    close = (places[:, None] - places[None]).abs() <= neighbours
    close = close | close.T
    same = places[:, None] == places[None]
    positive = same.repeat(2, 2)
    positive.fill_diagonal_(False)
    return positive, ~(close | same).repeat(2, 2)


def _recall(first, second, places, neighbours):
    similarity = first @ second.T
    close = ((places[:, None] - places[None]).abs() <= neighbours).fill_diagonal_(False)
    best = similarity.masked_fill(close, -2).argmax(1)
    return (best == torch.arange(len(first), device=first.device)).float().mean()


def triplet(first, second, places, neighbours=0, margin=0.1, mining='semi_hard'):
    """
    Triplet margin loss on squared Euclidean distances, max(0, d(a,p) − d(a,n) + margin).

    :param mining: ``all``: the mean over the triplets that violate the margin; ``hard``: for each anchor the
        farthest positive and the nearest negative (Hermans et al., 2017, eq. 5); ``semi_hard``: for each
        positive the nearest negative that is farther than it, or where there is none the farthest negative
        (Schroff et al., "FaceNet", 2015, section 3.2).
    """
    views = torch.cat([first, second])
    positive, negative = relations(places, neighbours)
    distance = (2 - 2 * views @ views.T).clamp(min=0)
    recall = _recall(first, second, places, neighbours)
    if not bool((positive.any(1) & negative.any(1)).any()):
        return views.sum() * 0, recall
    if mining == 'hard':
        anchors = positive.any(1) & negative.any(1)
        far = distance.masked_fill(~positive, -1).amax(1)
        near = distance.masked_fill(~negative, torch.inf).amin(1)
        return F.relu(far - near + margin)[anchors].mean(), recall
    anchor, other = (positive & negative.any(1, keepdim=True)).nonzero(as_tuple=True)
    to_positive, to_negative = distance[anchor, other], distance[anchor]
    allowed = negative[anchor]
    if mining == 'all':
        loss = F.relu(to_positive[:, None] - to_negative + margin)[allowed]
        return loss.sum() / (loss > 0).sum().clamp(min=1), recall
    if mining != 'semi_hard':
        raise MtError(f"triplet: unknown mining '{mining}'; known: all, hard, semi_hard")
    farther = allowed & (to_negative > to_positive[:, None])
    nearest = to_negative.masked_fill(~farther, torch.inf).amin(1)
    farthest = to_negative.masked_fill(~allowed, -1).amax(1)
    chosen = torch.where(farther.any(1), nearest, farthest)
    return F.relu(to_positive - chosen + margin).mean(), recall


def multi_similarity(
    first, second, places, neighbours=0, alpha=2.0, beta=50.0, base=0.5, epsilon=0.1, mining=True
):
    """
    Multi-similarity loss with its pair mining (Wang et al., 2019, eq. 7, 8 and 10).

    A negative is kept when it is more similar than the least similar positive − ε, a positive when it is
    less similar than the most similar negative + ε.

    :param alpha: weight of positives' similarities. :param beta: of negatives'. :param base: λ.
    :param epsilon: margin of the mining.
    """
    views = torch.cat([first, second])
    positive, negative = relations(places, neighbours)
    similarity = views @ views.T
    recall = _recall(first, second, places, neighbours)
    if mining:
        least = similarity.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        most = similarity.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        positive, negative = (
            positive & (similarity < most + epsilon),
            negative & (similarity > least - epsilon),
        )

    def pull(x, mask):  # log(1 + Σ exp x), stable
        x = x.masked_fill(~mask, -torch.inf)
        return torch.logsumexp(torch.cat([torch.zeros_like(x[:, :1]), x], dim=1), dim=1)

    loss = (
        pull(-alpha * (similarity - base), positive) / alpha
        + pull(beta * (similarity - base), negative) / beta
    )
    return loss.mean(), recall
