"""Place-recognition losses."""

import torch
import torch.nn.functional as F


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
