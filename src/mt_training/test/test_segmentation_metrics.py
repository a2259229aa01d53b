"""IoU is counted as the public evaluators count it."""

import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_training.metrics.segmentation import (
    class_accuracy,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)

TARGET = np.array([[0, 0, 0, 1], [1, 255, 255, 3]])
PREDICTION = np.array([[0, 0, 1, 1], [0, 2, 1, 3]])


def test_small_case_by_hand():
    """Ignored pixels count nowhere; a class without labels is left out of the mean."""
    confusion = confusion_matrix(TARGET, PREDICTION, 4)
    assert confusion.sum() == 6
    iou = iou_per_class(confusion)
    np.testing.assert_allclose(iou[[0, 1, 3]], [2 / 4, 1 / 3, 1])
    assert np.isnan(iou[2])
    assert mean_iou(confusion) == pytest.approx((2 / 4 + 1 / 3 + 1) / 3)
    assert pixel_accuracy(confusion) == pytest.approx(4 / 6)
    np.testing.assert_allclose(class_accuracy(confusion)[[0, 1, 3]], [2 / 3, 1 / 2, 1])


def test_a_class_that_is_none_of_them_is_a_miss():
    """A predicted id beyond the classes lowers the true class and no other."""
    confusion = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 254, 1, 1]), 2)
    np.testing.assert_allclose(iou_per_class(confusion), [1 / 2, 1])
    assert pixel_accuracy(confusion) == pytest.approx(3 / 4)


def test_counts_are_summed_before_dividing():
    """The IoU of a split is not the mean of its images' IoU."""
    first = confusion_matrix(np.zeros(10, int), np.zeros(10, int), 2)
    second = confusion_matrix(np.array([0, 1]), np.array([1, 1]), 2)
    assert mean_iou(first + second) == pytest.approx((10 / 11 + 1 / 2) / 2)


def test_agrees_with_torchmetrics():
    """The same numbers as torchmetrics on random labels."""
    torch = pytest.importorskip('torch')
    jaccard = pytest.importorskip('torchmetrics.functional.classification').multiclass_jaccard_index
    rng = np.random.default_rng(0)
    target = rng.integers(0, 7, (3, 40, 50))
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, 7, target.shape))
    target[rng.random(target.shape) < 0.1] = 255
    expected = jaccard(torch.tensor(prediction), torch.tensor(target), 7, average='none', ignore_index=255)
    total = sum(confusion_matrix(t, p, 7) for t, p in zip(target, prediction))
    np.testing.assert_allclose(iou_per_class(total), expected.numpy(), atol=1e-6)


def test_unknown_label_is_refused():
    """A label image of another data set is not counted as something."""
    with pytest.raises(EvaluationError, match='value 7'):
        confusion_matrix(np.array([0, 7]), np.array([0, 0]), 4)
    with pytest.raises(EvaluationError, match='labels are'):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 4)
