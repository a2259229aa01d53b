"""Start-up from two views: essential matrix or homography, cheirality and parallax tests, first points."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.odometry.geometry import inverse, reprojection_errors, robust_parameters, triangulate

# thresholds of the scores, χ² at 95 %: one degree of freedom (epipolar line), two (transferred point)
CHI2_1D, CHI2_2D = 3.841, 5.991
# of the bands around epipolar lines, in sigmas: a wide one finds a motion in noisy matches, but also one
# between two motions, which only a narrow one tells apart
WIDE, NARROW = 2, 1


@dataclass
class TwoView:
    """
    What two views say; the distance between them is 1.

    :param n_inliers: matches that fit the essential matrix or the homography.
    :param pose: [4,4] second camera to first camera; None when there is too little parallax, there are too
        few points or two solutions.
    :param points: [N,3] in the first camera's frame, NaN where not triangulated.
    :param good: [N] bool, which matches passed all tests.
    :param parallax: median angle in radians between the rays of the good points.
    """

    n_inliers: int
    pose: np.ndarray | None = None
    points: np.ndarray | None = None
    good: np.ndarray | None = None
    parallax: float = 0.0


def essential_score(essential, a, b, sigma):
    """Sum over matches and both directions of 5.991 − χ² of the distance to the epipolar line (ORB-SLAM)."""
    total, inlier = 0.0, np.ones(len(a), bool)
    for matrix, x, y in ((essential, a, b), (essential.T, b, a)):
        lines = x @ matrix.T
        distance = (lines * y).sum(1) ** 2 / np.maximum((lines[:, :2] ** 2).sum(1), 1e-18) / sigma**2
        total += np.where(distance < CHI2_1D, CHI2_2D - distance, 0).sum()
        inlier &= distance < CHI2_1D
    return total, inlier


def homography_score(homography, a, b, sigma):
    """Sum over matches and both directions of 5.991 − χ² of the transfer error (ORB-SLAM)."""
    total, inlier = 0.0, np.ones(len(a), bool)
    for matrix, x, y in ((homography, a, b), (np.linalg.inv(homography), b, a)):
        moved = x @ matrix.T
        with np.errstate(all='ignore'):
            error = ((moved[:, :2] / moved[:, 2:] - y[:, :2]) ** 2).sum(1) / sigma**2
        close = error < CHI2_2D
        total += np.where(close, CHI2_2D - error, 0).sum()
        inlier &= close
    return total, inlier


def candidate_motions(rays_a, rays_b, sigma, homography_ratio, width):
    """
    Return relative motions (second from first, [4,4]) that may explain the matches, and the model's inliers.

    It is the homography when its share of both scores is larger than ``homography_ratio``.

    :param width: of the band around an epipolar line in which RANSAC looks for inliers, in sigmas.
    """
    a = np.concatenate([rays_a, np.ones((len(rays_a), 1))], 1)
    b = np.concatenate([rays_b, np.ones((len(rays_b), 1))], 1)
    identity = np.eye(3)
    try:
        essential, _ = cv2.findEssentialMat(
            rays_a, rays_b, identity, identity, np.zeros(4), np.zeros(4), robust_parameters(width * sigma)
        )
        homography, _ = cv2.findHomography(rays_a, rays_b, robust_parameters(2 * sigma))
    except cv2.error:
        return [], np.zeros(len(rays_a), bool)
    essential_total, essential_inlier, homography_total, homography_inlier = 0.0, None, 0.0, None
    if essential is not None and essential.shape == (3, 3):
        essential_total, essential_inlier = essential_score(essential, a, b, sigma)
    if homography is not None and abs(np.linalg.det(homography)) > 1e-9:
        homography_total, homography_inlier = homography_score(homography, a, b, sigma)
    total = essential_total + homography_total
    if total == 0:
        return [], np.zeros(len(rays_a), bool)
    if homography_total / total > homography_ratio:
        _, rotations, translations, _ = cv2.decomposeHomographyMat(homography, identity)
        motions = [(r, t.ravel()) for r, t in zip(rotations, translations) if np.linalg.norm(t) > 1e-9]
        inlier = homography_inlier
    else:
        first, second, t = cv2.decomposeEssentialMat(essential)
        motions = [(r, s * t.ravel()) for r in (first, second) for s in (1, -1)]
        inlier = essential_inlier
    out = []
    for rotation, translation in motions:
        motion = np.eye(4)
        motion[:3, :3], motion[:3, 3] = rotation, translation / np.linalg.norm(translation)
        out.append(motion)
    return out, inlier


def initialize(rays_a, rays_b, sigma, parameters):
    """
    Relative pose and first points from matched rays.

    :param rays_a: [N,2] of the first view.
    :param rays_b: [N,2] of the second view.
    :param sigma: standard deviation of a ray coordinate.
    :param parameters: :class:`OdometryParameters`.
    :return: :class:`TwoView`.
    """
    if len(rays_a) < max(8, parameters.init_min_points):
        return TwoView(0)
    rays_a, rays_b = np.ascontiguousarray(rays_a), np.ascontiguousarray(rays_b)
    widths = (WIDE, NARROW) if parameters.motion_check else (WIDE,)
    found = [start_from(rays_a, rays_b, sigma, parameters, width) for width in widths]
    return max(found, key=lambda view: (0 if view.good is None else view.good.sum(), view.n_inliers))


def start_from(rays_a, rays_b, sigma, parameters, width):
    """Return the :class:`TwoView` of one search for the relative motion; see :func:`candidate_motions`."""
    motions, inlier = candidate_motions(rays_a, rays_b, sigma, parameters.homography_ratio, width)
    n_inliers = int(inlier.sum())
    if n_inliers < parameters.init_min_points or not motions:
        return TwoView(n_inliers)
    solutions = []
    for motion in motions:
        points, angle = triangulate(rays_a, rays_b, np.eye(4), motion)
        error = np.maximum(
            reprojection_errors(points, rays_a, np.eye(4)), reprojection_errors(points, rays_b, motion)
        )
        good = inlier & (error < np.sqrt(CHI2_2D) * sigma)
        solutions.append((int(good.sum()), motion, points, good, angle))
    solutions.sort(key=lambda solution: -solution[0])
    count, motion, points, good, angle = solutions[0]
    rival = solutions[1][0] if len(solutions) > 1 else 0
    if count < parameters.init_min_points or rival > 0.7 * count or count < 0.5 * n_inliers:
        return TwoView(n_inliers)
    parallax = float(np.median(angle[good]))
    if parallax < np.radians(parameters.init_min_parallax_deg):
        return TwoView(n_inliers)
    points = np.where(good[:, None], points, np.nan)
    return TwoView(n_inliers, inverse(motion), points, good, parallax)
