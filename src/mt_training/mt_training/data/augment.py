"""
Augmentation that keeps every label right.

Geometry is one 3×3 matrix per view, applied to image, labels, depth, keypoints and intrinsics alike.
Changes of light touch the image only: :mod:`mt_training.data.light`.
"""

import cv2
import numpy as np

IGNORE = 255


def random_homography(rng, source, target, max_rotation=0.8, scale=(0.6, 1.6), perspective=0.25):
    """
    Draw a homography that maps a random part of the source image onto the target image.

    Half of the draws stay within ±10° so that upright scenes stay the common case.

    :param source: (width, height) of the source image in pixels.
    :param target: (width, height) of the view in pixels.
    :param max_rotation: radians.
    :param scale: range of the zoom, relative to the target being filled by the source.
    :param perspective: largest corner shift as a part of the view's size.
    :return: [3,3] float64, source pixels → view pixels.
    """
    (sw, sh), (tw, th) = source, target
    fill = max(tw / sw, th / sh)
    zoom = fill * np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))
    limit = 0.17 if rng.random() < 0.5 else max_rotation
    angle = rng.uniform(-limit, limit)
    similarity = _similarity(rng, source, target, zoom, angle)
    corners = np.array([[0, 0], [tw, 0], [tw, th], [0, th]], np.float32)
    shift = rng.uniform(-perspective / 2, perspective / 2, (4, 2)) * [tw, th]
    tilt = cv2.getPerspectiveTransform(corners, (corners + shift).astype(np.float32))
    return tilt.astype(np.float64) @ similarity


def random_crop(rng, source, target, scale=(0.75, 1.8), max_rotation=0.0, flip=False, of_pixels=False):
    """
    Draw a similarity (zoom, crop, optional roll and mirror): what a camera could do itself.

    :param scale: range of the zoom: 1 fills the view with the source.
    :param of_pixels: 1 is the source's own pixels instead, whatever the view's size.
    :return: ([3,3] source → view pixels, zoom); ``zoom`` multiplies the focal length.
    """
    (sw, sh), (tw, th) = source, target
    fill = 1.0 if of_pixels else max(tw / sw, th / sh)
    zoom = fill * np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))
    angle = rng.uniform(-max_rotation, max_rotation)
    matrix = _similarity(rng, source, target, zoom, angle)
    if flip and rng.random() < 0.5:
        matrix = mirror(target) @ matrix
    return matrix, zoom


def mirror(size):
    """Left for right in a view of ``size`` = (width, height): [3,3]."""
    return np.array([[-1, 0, size[0] - 1], [0, 1, 0], [0, 0, 1.0]])


def _similarity(rng, source, target, zoom, angle):
    """Zoom and turn about a random point for which the view stays in the source: [3,3] source → view."""
    source, target = np.array(source), np.array(target)
    room = np.maximum(0, source - target / zoom) / 2
    centre = source / 2 + rng.uniform(-1, 1, 2) * room
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    move = target / 2 - np.array([[c, -s], [s, c]]) @ centre
    return np.array([[c, -s, move[0]], [s, c, move[1]], [0, 0, 1]])


def view_intrinsics(matrix, camera):
    """
    Carry intrinsics along with a view.

    :param matrix: [3,3] source → view pixels.
    :param camera: :class:`mt_perception.camera.Camera` of the source, or None.
    :return: [3,3] float64 that projects the camera's points into the view; of a mirrored view the focal
        length along x is negative, of a rolled one the matrix is not upper triangular. NaN without a camera.
    """
    return np.full((3, 3), np.nan) if camera is None else matrix @ camera.matrix


def view_sizes(size, scales, multiple=32):
    """
    Sizes of the views of multi-scale training.

    :param size: (width, height) of scale 1.
    :param scales: factors.
    :param multiple: of which width and height are the nearest multiple, at least one.
    :return: list of (width, height), each once.
    """
    sizes = [tuple(max(1, round(v * s / multiple)) * multiple for v in size) for s in scales]
    return list(dict.fromkeys(sizes))


def warp_points(matrix, points):
    """Apply a [3,3] homography to [N,2] points."""
    points = np.asarray(points, np.float64).reshape(-1, 2)
    out = points @ matrix[:2, :2].T + matrix[:2, 2]
    w = points @ matrix[2, :2] + matrix[2, 2]
    return out / np.where(np.abs(w) < 1e-9, 1e-9, w)[:, None]


def warp_image(image, matrix, size):
    """Warp an RGB image to ``size`` = (width, height); smoothed first where the warp shrinks it."""
    shrink = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if shrink < 0.7:
        sigma = 0.5 * (1 / shrink - 1) + 0.2
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def warp_labels(labels, matrix, size, outside=IGNORE):
    """Warp class ids (nearest neighbour); what lies outside the source becomes ``outside``."""
    return cv2.warpPerspective(
        labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )


def warp_depth(depth, matrix, size):
    """Warp depth in metres (nearest neighbour, NaN outside); the caller rescales it for the zoom."""
    return cv2.warpPerspective(
        depth, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=float('nan')
    )
