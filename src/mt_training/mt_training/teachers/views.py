"""
Several views of one image, so that a teacher can disagree with itself.

Where the views agree the label is trusted: test-time augmentation as confidence, also for models that give
class ids or depth alone.
"""

import cv2
import numpy as np

from mt_training.data.augment import warp_depth, warp_image, warp_labels
from mt_training.teachers.base import Prediction

ZOOM = 1.25
MAX_VIEWS = 4
DEPTH_SPREAD = 0.15  # of log depth between views, at which the confidence is 1/e


def view_matrices(size, count):
    """
    Return ``count`` (1–4) views as (matrix [3,3] image → view pixels, zoom).

    They are the image itself, mirrored, enlarged about the centre, and both.

    :param size: (width, height).
    """
    width, height = size
    mirror = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    move = np.array([width - 1, height - 1]) / 2 * (1 - ZOOM)
    zoom = np.array([[ZOOM, 0, move[0]], [0, ZOOM, move[1]], [0, 0, 1]])
    views = [(np.eye(3), 1.0), (mirror, 1.0), (zoom, ZOOM), (mirror @ zoom, ZOOM)]
    return views[:count]


def label(teacher, image, camera=None, views=2):
    """
    Label an image through several views.

    :param teacher: see :func:`mt_training.teachers.formats.open_teacher`.
    :param image: [H,W,3] uint8 RGB.
    :param views: 1–4.
    :return: dict with ``segmentation`` [H,W] uint8 (255 = none), ``segmentation_confidence`` [H,W] float32
        0–1, ``depth`` [H,W] float32 (NaN = unknown), ``depth_confidence``, as far as the teacher has them.
    """
    height, width = image.shape[:2]
    found = []
    for matrix, zoom in view_matrices((width, height), views):
        plain = np.array_equal(matrix, np.eye(3))
        seen = image if plain else warp_image(image, matrix, (width, height))
        # depth of the enlarged view is put right below: to the teacher it looks nearer by the zoom
        prediction = teacher.predict(seen, camera)
        found.append(_back(prediction, matrix, zoom, (width, height)))
    out = {}
    if 'segmentation' in teacher.tasks:
        ids, confidence = _vote(found)
        out['segmentation'] = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        out['segmentation_confidence'] = cv2.resize(confidence, (width, height))
    if 'depth' in teacher.tasks:
        depth, confidence = _agree([p.depth for p in found])
        out['depth'] = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        out['depth_confidence'] = cv2.resize(confidence, (width, height))
    return out


def _back(prediction, matrix, zoom, size):
    """Bring a view's prediction back to the image, at the teacher's own size; outside is unknown."""
    if np.array_equal(matrix, np.eye(3)):
        return prediction
    first = next(a for a in (prediction.ids, prediction.depth, prediction.probabilities) if a is not None)
    height, width = first.shape[-2:]
    # pixel centres of the teacher's grid and of the image, both from 0
    grow = np.array(
        [
            [size[0] / width, 0, 0.5 * size[0] / width - 0.5],
            [0, size[1] / height, 0.5 * size[1] / height - 0.5],
            [0, 0, 1],
        ]
    )
    back = np.linalg.inv(grow) @ np.linalg.inv(matrix) @ grow
    out = Prediction()
    if prediction.ids is not None:
        out.ids = warp_labels(prediction.ids, back, (width, height))
    if prediction.confidence is not None:
        out.confidence = _warp_plane(prediction.confidence, back, 0.0)
    if prediction.probabilities is not None:
        planes = [_warp_plane(p, back, np.nan) for p in prediction.probabilities]
        out.probabilities = np.stack(planes)
    if prediction.depth is not None:
        out.depth = warp_depth(prediction.depth, back, (width, height)) * np.float32(zoom)
    return out


def _warp_plane(plane, matrix, outside):
    size = plane.shape[1::-1]
    return cv2.warpPerspective(
        plane.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR, borderValue=float(outside)
    )


def _vote(predictions):
    """Return (ids [h,w] uint8, confidence [h,w] float32) of all views."""
    if predictions[0].probabilities is not None:
        total = np.zeros_like(predictions[0].probabilities)
        seen = np.zeros(total.shape[1:], np.float32)
        for prediction in predictions:
            known = np.isfinite(prediction.probabilities).all(axis=0)
            total += np.where(known, prediction.probabilities, 0)
            seen += known
        mean = total / np.maximum(seen, 1)
        return mean.argmax(axis=0).astype(np.uint8), mean.max(axis=0)
    ids = np.stack([p.ids for p in predictions])
    weights = np.stack(
        [np.ones(p.ids.shape, np.float32) if p.confidence is None else p.confidence for p in predictions]
    )
    known = ids != 255
    weights = np.where(known, weights, 0)
    support = np.stack([(weights * (ids == candidate)).sum(axis=0) for candidate in ids])
    support[~known] = -1
    best = support.argmax(axis=0)[None]
    chosen = np.take_along_axis(ids, best, 0)[0]
    confidence = np.take_along_axis(support, best, 0)[0] / np.maximum(known.sum(axis=0), 1)
    return chosen, np.maximum(confidence, 0).astype(np.float32)


def _agree(depths):
    """Return (median depth, confidence) of the views; one view alone is trusted."""
    if len(depths) == 1:
        return depths[0].astype(np.float32), np.isfinite(depths[0]).astype(np.float32)
    logs = np.log(np.stack(depths))
    known = np.isfinite(logs)
    any_known = known.any(axis=0)
    filled = np.where(known, logs, np.nan)
    filled[:, ~any_known] = 0
    spread = np.nanmax(filled, axis=0) - np.nanmin(filled, axis=0)
    depth = np.exp(np.nanmedian(filled, axis=0))
    confidence = np.where(any_known, np.exp(-spread / DEPTH_SPREAD), 0)
    return np.where(any_known, depth, np.nan).astype(np.float32), confidence.astype(np.float32)
