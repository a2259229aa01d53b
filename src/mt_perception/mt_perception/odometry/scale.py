"""How large the map is: map units against metres from the depth at keypoints."""

from dataclasses import dataclass

import numpy as np


@dataclass
class ScaleEstimate:
    """
    Metres per map unit.

    :param factor: multiply the map by this to make it metric.
    :param sigma: standard error of log(factor) from the spread of the points, without the bias of the depths.
    :param n_points: points it is made from.
    """

    factor: float
    sigma: float
    n_points: int


def depth_ratio(depths, map_depths, min_points):
    """
    Robust median of the ratio between given depths and depths in the map.

    :param depths: [N] metres along the optical axis, NaN where unknown.
    :param map_depths: [N] the same points' depths in map units.
    :param min_points: with fewer usable pairs there is no estimate.
    :return: :class:`ScaleEstimate` or None.
    """
    depths, map_depths = np.asarray(depths, np.float64), np.asarray(map_depths, np.float64)
    with np.errstate(invalid='ignore'):
        ok = np.isfinite(depths) & np.isfinite(map_depths) & (depths > 0) & (map_depths > 0)
    if ok.sum() < max(min_points, 1):
        return None
    ratio = np.log(depths[ok] / map_depths[ok])
    median = np.median(ratio)
    # 1.4826 MAD is a Gaussian's standard deviation; the median's standard error is 1.2533 sigma / sqrt(n)
    sigma = 1.2533 * 1.4826 * np.median(np.abs(ratio - median)) / np.sqrt(ok.sum())
    return ScaleEstimate(float(np.exp(median)), float(sigma), int(ok.sum()))
