"""Read depth and class maps at sub-pixel places."""

from dataclasses import replace

import numpy as np

# neighbours whose depth differs by more than this ratio lie on another surface and are not mixed in
SURFACE_RATIO = 1.1


def sample_depth(depth, xy):
    """
    Bilinear depth at ``xy`` from the valid pixels of one surface.

    Of the four pixels around a point those count that are valid (finite, positive) and within
    ``SURFACE_RATIO`` of the nearest valid one, so that a point at the edge of an object does not get a depth
    between object and background.

    :param depth: [H,W] float32 metres, NaN or ≤ 0 where unknown.
    :param xy: [N,2] pixels of ``depth``; outside the map the border counts.
    :return: [N] float32 metres, NaN where none of the four pixels is valid.
    """
    height, width = depth.shape
    x = np.clip(xy[:, 0], 0, width - 1)
    y = np.clip(xy[:, 1], 0, height - 1)
    x0, y0 = x.astype(np.intp), y.astype(np.intp)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    values = np.stack([depth[y0, x0], depth[y0, x1], depth[y1, x0], depth[y1, x1]])
    fx, fy = x - x0, y - y0
    weights = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    valid = np.isfinite(values) & (values > 0)
    weights = np.where(valid, weights, 0)
    values = np.where(valid, values, np.float32(np.nan))
    nearest = np.take_along_axis(values, weights.argmax(0)[None], 0)
    with np.errstate(invalid='ignore', divide='ignore'):
        ratio = values / nearest
        weights = np.where((ratio < SURFACE_RATIO) & (ratio > 1 / SURFACE_RATIO), weights, 0)
        out = (np.where(weights > 0, values, 0) * weights).sum(0) / weights.sum(0)
    return out.astype(np.float32)


def sample_classes(segmentation, xy):
    """
    Class id of the pixel nearest to ``xy``.

    :param segmentation: [H,W] uint8 class ids.
    :param xy: [N,2] pixels of ``segmentation``; outside the map the border counts.
    :return: [N] uint8.
    """
    height, width = segmentation.shape
    x = np.clip(np.rint(xy[:, 0]), 0, width - 1).astype(np.intp)
    y = np.clip(np.rint(xy[:, 1]), 0, height - 1).astype(np.intp)
    return segmentation[y, x]


def with_depth(keypoints, depth):
    """
    Return keypoints with the depth that a depth camera measured at their place.

    :param keypoints: :class:`mt_perception.types.Keypoints`.
    :param depth: [H,W] float32 metres, registered to their image though perhaps of another size, NaN or ≤ 0
        where unknown; None when there is none.
    """
    if depth is None:
        return replace(keypoints, depth=np.full(len(keypoints), np.nan, np.float32))
    size = np.array([depth.shape[1], depth.shape[0]], np.float32)
    scale = size / np.array(keypoints.image_size, np.float32)
    xy = (keypoints.xy + np.float32(0.5)) * scale - np.float32(0.5)
    return replace(keypoints, depth=sample_depth(depth, xy))
