"""
Start-up from two views: essential matrix and homography, cheirality and parallax tests, first points.

With little parallax a wrong turn explains the matches of two views almost as well as the true one, and
RANSAC's noise decides. So every motion that essential matrices and the homography suggest is refined together
with its points, and the one that explains most is taken, when no other comes near.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.odometry.bundle_adjustment import Problem, adjust
from mt_perception.odometry.geometry import (
    inverse,
    reprojection_errors,
    robust_parameters,
    to_camera,
    triangulate,
)

# thresholds of the scores, χ² at 95 %: one degree of freedom (epipolar line), two (transferred point)
CHI2_1D, CHI2_2D = 3.841, 5.991
# of a match that fits in neither view, in squared sigmas
MISFIT = 2 * CHI2_2D
# of the bands around epipolar lines, in sigmas: a wide one finds a motion in noisy matches, but also one
# between two motions, which only a narrow one tells apart
WIDTHS = (2, 1)
LIKELY = 0.6  # of the best candidate's points: what has fewer is not refined
CANDIDATES = 5  # that are refined at most
ITERATIONS = 20
FEWEST_DEPTHS = 10
NEAR = 2.0  # times an inlier's error: matches that take part in the refinement
# two refined motions are one below these angles in radians, of rotation and of direction; another motion that
# explains this share of what the best one does leaves open which is true
SAME_ROTATION, SAME_DIRECTION, RIVAL_SHARE = np.radians(0.5), np.radians(15), 0.9
# up to this share not, where the depths of its points differ so many times more from those of the keypoints
CLOSE_SHARE, RIVAL_SPREAD = 0.95, 1.3
# one with much less parallax is the simpler explanation: it leaves that open already with this share
SIMPLE_SHARE, SIMPLE_PARALLAX = 0.8, 0.5


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


def candidate_motions(rays_a, rays_b, sigma):
    """
    Return relative motions (second from first, [4,4]) that may explain the matches, and the most inliers.

    :return: (list of motions, number of matches that fit the best essential matrix or the homography).
    """
    a = np.concatenate([rays_a, np.ones((len(rays_a), 1))], 1)
    b = np.concatenate([rays_b, np.ones((len(rays_b), 1))], 1)
    identity = np.eye(3)
    motions, n_inliers = [], 0
    for width in WIDTHS:
        try:
            essential, _ = cv2.findEssentialMat(
                rays_a, rays_b, identity, identity, np.zeros(4), np.zeros(4), robust_parameters(width * sigma)
            )
        except cv2.error:
            continue
        if essential is not None and essential.shape == (3, 3):
            n_inliers = max(n_inliers, int(essential_score(essential, a, b, sigma)[1].sum()))
            first, second, t = cv2.decomposeEssentialMat(essential)
            motions += [(r, s * t.ravel()) for r in (first, second) for s in (1, -1)]
    try:
        homography, _ = cv2.findHomography(rays_a, rays_b, robust_parameters(2 * sigma))
    except cv2.error:
        homography = None
    if homography is not None and abs(np.linalg.det(homography)) > 1e-9:
        n_inliers = max(n_inliers, int(homography_score(homography, a, b, sigma)[1].sum()))
        _, rotations, translations, _ = cv2.decomposeHomographyMat(homography, identity)
        motions += [(r, t.ravel()) for r, t in zip(rotations, translations)]
    out = []
    for rotation, translation in motions:
        length = np.linalg.norm(translation)
        if length > 1e-9 and np.isfinite(rotation).all():
            motion = np.eye(4)
            motion[:3, :3], motion[:3, 3] = rotation, translation / length
            out.append(motion)
    return out, n_inliers


def examine(rays_a, rays_b, motion, sigma):
    """Triangulate under a motion: (points [N,3], which fit both views [N], angles [N] of their rays)."""
    points, angle = triangulate(rays_a, rays_b, np.eye(4), motion)
    error = np.maximum(
        reprojection_errors(points, rays_a, np.eye(4)), reprojection_errors(points, rays_b, motion)
    )
    return points, error < np.sqrt(CHI2_2D) * sigma, angle


def refine(rays_a, rays_b, motion, sigma):
    """
    Adjust a motion and the points of the matches that fit it, or nearly so, together.

    :return: (motion [4,4] with a unit distance, what it explains: by how much the squared errors of the
        matches, in sigmas, stay below ``MISFIT`` in sum).
    """
    points, _ = triangulate(rays_a, rays_b, np.eye(4), motion)
    error = np.maximum(
        reprojection_errors(points, rays_a, np.eye(4)), reprojection_errors(points, rays_b, motion)
    )
    # wrong matches left in would pull: little parallax leaves turning and moving nearly free
    rows = np.flatnonzero(error < NEAR * np.sqrt(CHI2_2D) * sigma)
    n = len(rows)
    if n < 8:
        return motion, 0.0
    rays = np.empty((2 * n, 2))
    rays[0::2], rays[1::2] = rays_b[rows], rays_a[rows]
    problem = Problem(
        np.stack([motion, np.eye(4)]),
        1,
        points[rows],
        np.tile([0, 1], n),
        np.repeat(np.arange(n), 2),
        rays,
        np.full(2 * n, sigma),
    )
    adjusted = adjust(problem, ITERATIONS, tolerance=1e-4)
    refined = adjusted.cameras[0].copy()
    length = np.linalg.norm(refined[:3, 3])
    if not length > 1e-9:
        return motion, 0.0
    refined[:3, 3] /= length
    explained = np.maximum(MISFIT - adjusted.chi2.reshape(-1, 2).sum(1), 0)
    return refined, float(explained.sum())


def same(one, other):
    """Return whether two motions [4,4] are one."""
    rotation = one[:3, :3].T @ other[:3, :3]
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    direction = np.arccos(np.clip(one[:3, 3] @ other[:3, 3], -1, 1))
    return angle < SAME_ROTATION and direction < SAME_DIRECTION


def depth_spread(rays_a, rays_b, motion, sigma, depth):
    """
    Return how far the depths of a motion's points differ from those the keypoints have, but for their scale.

    :param depth: [N,2] metres at the keypoints in the two views, NaN where unknown; None = nowhere known.
    :return: (median distance of the log ratio from its median, NaN with fewer than ``FEWEST_DEPTHS``;
        median angle in radians between the rays of the points).
    """
    points, good, angle = examine(rays_a, rays_b, motion, sigma)
    parallax = float(np.median(angle[good])) if good.any() else 0.0
    if depth is None:
        return np.nan, parallax
    spreads = []
    for known, local in zip(depth[good].T, (points[good], to_camera(motion, points[good]))):
        with np.errstate(invalid='ignore', divide='ignore'):
            logs = np.log(known / local[:, 2])
        logs = logs[np.isfinite(logs)]
        if len(logs) < FEWEST_DEPTHS:
            return np.nan, parallax
        spreads.append(np.median(np.abs(logs - np.median(logs))))
    return float(np.mean(spreads)), parallax


def ambiguous(refined, rays_a, rays_b, sigma, depth):
    """
    Whether another motion may be true as well as the one that explains most, the first of ``refined``.

    :param refined: list of (motion, what it explains), the most first.
    :param depth: [N,2] see :func:`depth_spread`, or None.
    """
    motion, explained = refined[0]
    rivals = [one for one in refined[1:] if one[1] > SIMPLE_SHARE * explained and not same(motion, one[0])]
    if not rivals:
        return False
    spread, parallax = depth_spread(rays_a, rays_b, motion, sigma, depth)
    for rival, other in rivals:
        rival_spread, rival_parallax = depth_spread(rays_a, rays_b, rival, sigma, depth)
        if rival_parallax < SIMPLE_PARALLAX * parallax:
            return True
        if other > CLOSE_SHARE * explained:
            return True
        if other > RIVAL_SHARE * explained and not rival_spread > RIVAL_SPREAD * spread:
            return True
    return False


def initialize(rays_a, rays_b, sigma, parameters, depth=None):
    """
    Relative pose and first points from matched rays.

    :param rays_a: [N,2] of the first view.
    :param rays_b: [N,2] of the second view.
    :param sigma: standard deviation of a ray coordinate.
    :param parameters: :class:`OdometryParameters`.
    :param depth: [N,2] metres at the keypoints in the two views, NaN where unknown; None = nowhere known. It
        tells which of two motions is true that explain the matches alike, as with a plane.
    :return: :class:`TwoView`.
    """
    if len(rays_a) < max(8, parameters.init_min_points):
        return TwoView(0)
    rays_a, rays_b = np.ascontiguousarray(rays_a), np.ascontiguousarray(rays_b)
    motions, n_inliers = candidate_motions(rays_a, rays_b, sigma)
    nothing = TwoView(n_inliers)
    if n_inliers < parameters.init_min_points or not motions:
        return nothing
    least = np.radians(parameters.init_min_parallax_deg)
    raw = []
    for motion in motions:
        _, good, angle = examine(rays_a, rays_b, motion, sigma)
        raw.append((int(good.sum()), float(np.median(angle[good])) if good.any() else 0.0, motion))
    most = max(count for count, _, _ in raw)
    if most < parameters.init_min_points:
        return nothing
    likely = sorted((one for one in raw if one[0] > LIKELY * most), key=lambda one: -one[0])[:CANDIDATES]
    if max(parallax for _, parallax, _ in likely) < least / 2:
        return nothing
    refined = [refine(rays_a, rays_b, motion, sigma) for _, _, motion in likely]
    refined.sort(key=lambda one: -one[1])
    if ambiguous(refined, rays_a, rays_b, sigma, depth):
        return nothing
    motion = refined[0][0]
    points, good, angle = examine(rays_a, rays_b, motion, sigma)
    count = int(good.sum())
    if count < max(parameters.init_min_points, 0.5 * n_inliers):
        return nothing
    parallax = float(np.median(angle[good]))
    if parallax < least:
        return nothing
    points = np.where(good[:, None], points, np.nan)
    return TwoView(n_inliers, inverse(motion), points, good, parallax)
