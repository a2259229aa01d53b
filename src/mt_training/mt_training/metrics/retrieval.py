"""
Visual place recognition: Recall@N.

A query counts as recognised at N when one of the N most similar references is a true one (Arandjelović et
al., NetVLAD, CVPR 2016, section 5.1). Queries without any true reference stay in the denominator, as in the
public evaluators of gmberton (deep-visual-geo-localization-benchmark, VPR-methods-evaluation).
"""

import numpy as np


def rank_references(similarity):
    """
    Order the references of every query from the most to the least similar.

    :param similarity: [Q,R].
    :return: [Q,R] int64; equal similarities in the order of the references.
    """
    return np.argsort(-similarity, axis=1, kind='stable')


def recall_at(ranking, positives, numbers):
    """
    Recall@N.

    :param ranking: [Q,R] of :func:`rank_references`.
    :param positives: list of Q arrays of true reference indices; may be empty.
    :param numbers: values of N.
    :return: list of floats, of all queries.
    """
    found = [np.isin(row, true) for row, true in zip(ranking, positives)]
    return [float(np.mean([hits[:n].any() for hits in found])) if found else float('nan') for n in numbers]


def recall_at_full_precision(similarity, positives):
    """
    Part of the queries that can be recognised before the first mistake, when only the surest are accepted.

    Each query answers with its most similar reference; the threshold on the similarity is the lowest one with
    which no accepted answer is wrong (the recall at 100 % precision of loop closure evaluations).

    :param similarity: [Q,R].
    :param positives: list of Q arrays of true reference indices.
    :return: float, of the queries that have a true reference; NaN when none has.
    """
    possible = sum(len(true) > 0 for true in positives)
    if not possible:
        return float('nan')
    answer, best = similarity.argmax(1), similarity.max(1)
    right = np.array([a in set(np.asarray(true).tolist()) for a, true in zip(answer, positives)])
    highest_wrong = best[~right].max() if (~right).any() else -np.inf
    return float((right & (best > highest_wrong)).sum() / possible)
