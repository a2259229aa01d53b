"""Homographies between the images of a plane: warping, changing the image size, estimating, judging."""

import cv2
import numpy as np

RANSAC_THRESHOLD_PX = 3.0
RANSAC_ITERATIONS = 5000


def warp_points(points, homography):
    """
    Map points by a homography.

    :param points: [N,2] pixels.
    :param homography: [3,3].
    :return: [N,2] float64 pixels; points that go behind the camera become infinite.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    mapped = points @ homography[:, :2].T + homography[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        out = mapped[:, :2] / mapped[:, 2:]
    # of the centre's side of the horizon: the sign of the third coordinate is that of the matrix' determinant
    out[mapped[:, 2] * np.sign(np.linalg.det(homography)) <= 0] = np.inf
    return out


def resize_matrix(size, new_size):
    """Homography from the pixels of an image to those of its resized copy; sizes are (width, height)."""
    sx, sy = new_size[0] / size[0], new_size[1] / size[1]
    # cv2.resize keeps pixel areas: the centre of pixel x lands on (x + 1/2) s - 1/2
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])


def resized_homography(homography, size_first, size_second, new_size):
    """Homography between two images after both are resized to ``new_size`` (width, height)."""
    first, second = resize_matrix(size_first, new_size), resize_matrix(size_second, new_size)
    out = second @ homography @ np.linalg.inv(first)
    return out / out[2, 2]


def inside(points, size):
    """Mask [N] of the points inside an image of ``size`` (width, height): 0 ≤ x < width, 0 ≤ y < height."""
    return ((points >= 0) & (points < np.array(size))).all(1)


def corner_error(estimated, homography, size):
    """
    Mean distance in pixels between the image corners mapped by two homographies.

    :param estimated: [3,3], or None when the estimation failed.
    :param homography: [3,3] ground truth.
    :param size: (width, height) of the first image.
    :return: infinity for a failed estimation.
    """
    if estimated is None:
        return float('inf')
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float64)
    with np.errstate(invalid='ignore'):
        distance = np.linalg.norm(warp_points(corners, estimated) - warp_points(corners, homography), axis=1)
    error = float(distance.mean())
    return error if np.isfinite(error) else float('inf')


def estimate_homography(first, second, threshold=RANSAC_THRESHOLD_PX, order=None):
    """
    Homography from matched points by OpenCV's RANSAC, its inliers refined by least squares.

    RANSAC draws its samples from a generator with a fixed seed, so the same matches in the same order give
    the same result; another ``order`` is another draw.

    :param first: [N,2] pixels.
    :param second: [N,2] pixels of the same points in the second image.
    :param threshold: largest reprojection error of an inlier in pixels.
    :param order: [N] permutation of the matches, None = as they are.
    :return: ([3,3] or None, [N] bool inliers).
    """
    none = np.zeros(len(first), bool)
    if len(first) < 4:
        return None, none
    order = np.arange(len(first)) if order is None else order
    cv2.setRNGSeed(0)
    homography, mask = cv2.findHomography(
        np.ascontiguousarray(first[order], np.float64),
        np.ascontiguousarray(second[order], np.float64),
        cv2.RANSAC,
        threshold,
        maxIters=RANSAC_ITERATIONS,
    )
    if homography is None or homography.shape != (3, 3) or mask is None:
        return None, none
    inliers = none.copy()
    inliers[order] = mask.ravel().astype(bool)
    return homography, inliers


def view_change(homography, size):
    """
    Rotation and scale between two views, at the centre of the first image.

    :return: (degrees 0–180 of rotation in the image plane, scale ≥ 1: how much larger one view shows the
        plane).
    """
    x, y = (size[0] - 1) / 2, (size[1] - 1) / 2
    w = homography[2] @ (x, y, 1)
    u, v = homography[:2] @ (x, y, 1) / w
    jacobian = (homography[:2, :2] - np.outer((u, v), homography[2, :2])) / w
    left, _, right = np.linalg.svd(jacobian)
    rotation = left @ right
    scale = np.sqrt(abs(np.linalg.det(jacobian)))
    angle = abs(np.degrees(np.arctan2(rotation[1, 0] - rotation[0, 1], rotation[0, 0] + rotation[1, 1])))
    return float(angle), float(max(scale, 1 / scale))
