"""Recall@N counts every query."""

import numpy as np
import pytest

from mt_training.metrics.retrieval import rank_references, recall_at, recall_at_full_precision

SIMILARITY = np.array(
    [
        [0.9, 0.5, 0.1, 0.0],  # true: 0, first
        [0.8, 0.7, 0.6, 0.1],  # true: 2, third
        [0.2, 0.3, 0.4, 0.1],  # true: none
        [0.1, 0.2, 0.3, 0.4],  # true: 0 and 1, third
    ]
)
POSITIVES = [np.array([0]), np.array([2]), np.array([], int), np.array([0, 1])]


def test_recall_by_hand():
    """One of four at 1, three of four at 3; the query without a true reference stays in the denominator."""
    ranking = rank_references(SIMILARITY)
    assert ranking[1].tolist() == [0, 1, 2, 3]
    assert recall_at(ranking, POSITIVES, (1, 2, 3, 10)) == [0.25, 0.25, 0.75, 0.75]


def test_ties_keep_the_order_of_the_references():
    """Equal similarities are not broken by chance."""
    assert rank_references(np.zeros((1, 5))).tolist() == [[0, 1, 2, 3, 4]]


def test_full_precision_ends_at_the_first_mistake():
    """Only answers surer than the surest wrong one count, of the queries that can be answered."""
    assert recall_at_full_precision(SIMILARITY, POSITIVES) == pytest.approx(1 / 3)
    better = SIMILARITY.copy()
    better[0, 0] = 0.75  # now less sure than the wrong answer of query 1
    assert recall_at_full_precision(better, POSITIVES) == 0
    assert np.isnan(recall_at_full_precision(SIMILARITY, [np.array([], int)] * 4))
