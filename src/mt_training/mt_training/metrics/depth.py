"""
Monocular depth after Eigen et al. (NeurIPS 2014, section 4.1), as monodepth2's evaluate_depth.py computes it.

Every number is computed per image on the pixels whose true depth lies in the evaluated range, then averaged
over the images. Predictions are clamped to that range. With median scaling the prediction of every image is
first multiplied by median(truth) / median(prediction), which hides a wrong scale: a metric model is judged
without.
"""

import numpy as np

MIN_DEPTH_M = 1e-3
MAX_DEPTH_M = 80.0
DELTA = 1.25


def valid_pixels(truth, min_depth=MIN_DEPTH_M, max_depth=MAX_DEPTH_M):
    """Mask [H,W] of the pixels that count: true depth known and strictly between the limits (metres)."""
    with np.errstate(invalid='ignore'):
        return np.isfinite(truth) & (truth > min_depth) & (truth < max_depth)


def median_ratio(prediction, truth, mask):
    """
    Scale that median scaling would apply: median(truth) / median(prediction) on the pixels of ``mask``.

    :return: NaN when nothing counts or the median prediction is not positive.
    """
    if not mask.any():
        return float('nan')
    median = np.median(prediction[mask].astype(np.float64))
    return float(np.median(truth[mask].astype(np.float64)) / median) if median > 0 else float('nan')


def depth_errors(prediction, truth, mask, min_depth=MIN_DEPTH_M, max_depth=MAX_DEPTH_M):
    """
    Errors of one image.

    :param prediction: [H,W] metres; what is not a number counts as ``min_depth``.
    :param truth: [H,W] metres.
    :param mask: [H,W] bool of :func:`valid_pixels`, with at least one pixel.
    :return: dict: ``abs_rel`` mean |d - d*| / d*, ``sq_rel`` mean (d - d*)² / d* in metres, ``rmse_m`` in
        metres, ``rmse_log`` of natural logarithms, ``delta_1``, ``delta_2``, ``delta_3`` = part of the pixels
        with max(d / d*, d* / d) < 1.25, 1.25², 1.25³.
    """
    true = truth[mask].astype(np.float64)
    predicted = np.nan_to_num(prediction[mask].astype(np.float64), nan=min_depth, posinf=max_depth)
    predicted = np.clip(predicted, min_depth, max_depth)
    error = predicted - true
    ratio = np.maximum(predicted / true, true / predicted)
    return {
        'abs_rel': float((np.abs(error) / true).mean()),
        'sq_rel': float((error**2 / true).mean()),
        'rmse_m': float(np.sqrt((error**2).mean())),
        'rmse_log': float(np.sqrt(((np.log(predicted) - np.log(true)) ** 2).mean())),
        'delta_1': float((ratio < DELTA).mean()),
        'delta_2': float((ratio < DELTA**2).mean()),
        'delta_3': float((ratio < DELTA**3).mean()),
    }
