"""
Semantic segmentation: IoU from one confusion matrix over the whole split.

Definitions of the PASCAL VOC and Cityscapes evaluations (Everingham et al., IJCV 2010, section 4.4; Cordts et
al., CVPR 2016): counts are summed over all images before anything is divided, pixels labelled
``ignore_index`` are dropped before counting, IoU = TP / (TP + FP + FN).
"""

import numpy as np

from mt_perception.errors import EvaluationError

IGNORE_INDEX = 255


def confusion_matrix(target, prediction, classes, ignore_index=IGNORE_INDEX):
    """
    Count pixels by true and predicted class.

    :param target: [...] integer class ids; ``ignore_index`` = not labelled.
    :param prediction: same shape; an id ≥ ``classes`` means none of the classes, which is never right.
    :param classes: number of classes C.
    :return: [C, C+1] int64, row = true class, column = predicted class, last column = none of the classes.
    :raises EvaluationError: different shapes, or a label that is neither a class nor ``ignore_index``.
    """
    target, prediction = np.asarray(target), np.asarray(prediction)
    if target.shape != prediction.shape:
        raise EvaluationError(
            f'labels are {list(target.shape)} but the prediction is {list(prediction.shape)}'
        )
    counted = target != ignore_index
    target = target[counted].astype(np.int64)
    prediction = np.minimum(prediction[counted].astype(np.int64), classes)
    if target.size and (target.max() >= classes or target.min() < 0):
        wrong = target[(target >= classes) | (target < 0)][0]
        raise EvaluationError(
            f'labels hold the value {wrong}, which is neither one of the {classes} classes '
            f'nor {ignore_index} = ignore'
        )
    pairs = np.bincount(target * (classes + 1) + prediction, minlength=classes * (classes + 1))
    return pairs.reshape(classes, classes + 1)


def iou_per_class(confusion):
    """
    Intersection over union of every class.

    :param confusion: [C, C+1] of :func:`confusion_matrix`, summed over the split.
    :return: [C] float64 in 0–1; NaN for a class without a labelled pixel.
    """
    square = confusion[:, : len(confusion)]
    hits = np.diag(square).astype(np.float64)
    labelled = confusion.sum(1)
    union = labelled + square.sum(0) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=labelled > 0)


def mean_iou(confusion):
    """Mean IoU over the classes with labelled pixels (NaN without any)."""
    iou = iou_per_class(confusion)
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float('nan')


def pixel_accuracy(confusion):
    """Part of the labelled pixels with the right class (NaN without labelled pixels)."""
    total = confusion.sum()
    return float(np.trace(confusion[:, : len(confusion)]) / total) if total else float('nan')


def class_accuracy(confusion):
    """Recall of every class, TP / (TP + FN): [C] float64, NaN for a class without a labelled pixel."""
    labelled = confusion.sum(1)
    hits = np.diag(confusion[:, : len(confusion)]).astype(np.float64)
    return np.divide(hits, labelled, out=np.full(len(hits), np.nan), where=labelled > 0)
