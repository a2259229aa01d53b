"""Whether two views show the same place, and the motion between them."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.matching.nearest import NearestMatcher
from mt_perception.odometry.absolute_pose import ransac, refine
from mt_perception.odometry.geometry import (
    inverse,
    reprojection_errors,
    robust_parameters,
    to_camera,
    triangulate,
)
from mt_perception.place_recognition.similarity import adjoint, invert, scale_of, similarity

GRID = 4  # cells along each side of the image in which inliers are counted
CHI2_2D = 5.991
FLOOR_ANGLE = np.radians(0.1)  # no relative pose is better known than this …
FLOOR_SHARE = 0.005  # … and this share of the distance of the scene …
FLOOR_SCALE = 0.01  # … and this logarithm of a scale
SHAPE_SHARE = 0.05  # error of the shape of a map: what a view from elsewhere is off by, of the way there
UNKNOWN = 1e3  # standard deviation of what is not known, in units of the map or as a logarithm
DOUBT = 0.4  # of min_inliers, with which another matcher may find enough
ESSENTIAL_FACTOR = 1.5  # times min_inliers: without known positions more must agree


@dataclass
class Relation:
    """
    The motion between two views of one place.

    :param transform: [4,4] similarity that maps the later camera's frame into the earlier one's: its scale is
        the size of a unit of the later view in units of the earlier one.
    :param covariance: [7,7] of (rotation, translation, logarithm of the scale) of a perturbation on the
        right of ``transform``, along the later camera's axes, in radians and units of the later view.
    :param matches: keypoint pairs of the matcher.
    :param inliers: those that agree with ``transform``.
    :param has_length: the length of the translation is known; otherwise it is 1.
    :param has_scale: the scale is known; otherwise it is 1.
    :param distance: median distance of the inliers from the later camera along its axis, in its units.
    """

    transform: np.ndarray
    covariance: np.ndarray
    matches: int
    inliers: int
    has_length: bool = True
    has_scale: bool = True
    distance: float = float('nan')


class Verifier:
    """
    Compares views by their keypoints.

    Mutual nearest neighbours settle most cases in a tenth of the time; the matcher is asked where they
    leave a doubt.

    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param parameters: :class:`PlaceParameters`.
    """

    def __init__(self, matcher, parameters):
        self.matchers = matchers_in_turn(matcher)
        self.parameters = parameters

    def verify(self, earlier, later):
        """
        Return the :class:`Relation` of two :class:`View`, None when they do not show the same place.

        By the points of the view that knows more positions of matched keypoints (PnP), by the essential
        matrix when too few are known; enough inliers, spread over the image; and a scale on which the points
        known to both agree.

        :raises ModelError: keypoints of different models.
        """
        for matcher in self.matchers:
            matches = matcher.match(earlier.keypoints, later.keypoints)
            relation, inliers = self._relate(earlier, later, np.asarray(matches.index, np.int64))
            if relation is not None or inliers < DOUBT * self.parameters.min_inliers:
                return relation
        return None

    def _relate(self, earlier, later, pairs):
        """Return (:class:`Relation` or None, inliers) of two views by keypoint pairs [M,2]."""
        known = [int(np.isfinite(v.depth[pairs[:, k]]).sum()) for k, v in enumerate((earlier, later))]
        if max(known) < self.parameters.min_inliers:
            return self._by_essential(earlier, later, pairs)
        if known[0] >= known[1]:
            return self._by_points(earlier, later, pairs)
        relation, inliers = self._by_points(later, earlier, pairs[:, ::-1])
        return None if relation is None else turned_around(relation), inliers

    def _by_points(self, known, seen, pairs):
        """Locate the view ``seen`` by the points of ``known``; ``pairs`` [M,2] in that order."""
        p = self.parameters
        rows = pairs[np.isfinite(known.depth[pairs[:, 0]])]
        points, rays = known.points(rows[:, 0]), seen.rays[rows[:, 1]]
        estimate = locate(points, rays, seen.unit, p)
        if estimate is None:
            return None, 0
        inner = rows[estimate.inlier]
        if not self._enough(estimate.inlier, rays, seen, len(rows)):
            return None, len(inner)
        depth = to_camera(estimate.world_to_camera, points[estimate.inlier])[:, 2]
        scale = self._scale(depth, seen.depth[inner[:, 1]])
        if scale is None:
            return None, 0
        factor, scale_sigma, has_scale = scale
        transform = similarity(inverse(estimate.world_to_camera), factor)
        distance = float(np.median(depth)) / factor
        covariance = relation_covariance(estimate, transform, scale_sigma, distance, p.loop_sigma_factor)
        count = len(inner)
        return Relation(
            transform, covariance, len(pairs), count, has_scale=has_scale, distance=distance
        ), count

    def _enough(self, inlier, rays, view, total):
        """Whether inliers [N] bool are many enough, among ``total``, and not all in one corner."""
        p = self.parameters
        count = int(inlier.sum())
        if count < p.min_inliers or count < p.min_inlier_ratio * total:
            return False
        return occupied_cells(rays[inlier], view) >= p.min_cells

    def _scale(self, depth, own):
        """
        Compare depths [N] by the other view's map with a view's ``own``.

        :return: (ratio, standard deviation of its logarithm, whether it is known), None when points known to
            both contradict each other or the ratio is implausible.
        """
        p = self.parameters
        both = np.isfinite(own)
        if both.sum() < p.min_scale_points:
            return 1.0, np.log(p.max_scale_ratio), False
        ratio = np.log(depth[both] / own[both])
        median = np.median(ratio)
        spread = 1.4826 * np.median(np.abs(ratio - median))
        if spread > p.max_scale_spread or abs(median) > np.log(p.max_scale_ratio):
            return None
        sigma = p.loop_sigma_factor * 1.2533 * spread / np.sqrt(both.sum())
        return float(np.exp(median)), float(np.hypot(sigma, FLOOR_SCALE)), True

    def _by_essential(self, earlier, later, pairs):
        """As :meth:`_by_points`: rotation and direction of the translation by the epipolar geometry."""
        p = self.parameters
        if len(pairs) < p.min_inliers:
            return None, 0
        rays_a = np.ascontiguousarray(earlier.rays[pairs[:, 0]])
        rays_b = np.ascontiguousarray(later.rays[pairs[:, 1]])
        motion, inlier = essential_motion(rays_a, rays_b, p.keypoint_sigma_px * later.unit)
        count = int(inlier.sum())
        if motion is None or count < ESSENTIAL_FACTOR * p.min_inliers:
            return None, count
        if not self._enough(inlier, rays_b, later, len(pairs)):
            return None, count
        sigma = np.array([np.radians(1.0)] * 3 + [UNKNOWN] * 3 + [UNKNOWN])
        transform = inverse(motion)
        relation = Relation(
            transform, np.diag(sigma**2), len(pairs), count, has_length=False, has_scale=False
        )
        return relation, count


def matchers_in_turn(matcher):
    """Return the matchers to try: the quick one first, then ``matcher`` where that is another."""
    return [matcher] if matcher.name == 'nearest' else [NearestMatcher(), matcher]


def locate(points, rays, unit, parameters):
    """
    Pose of a view from points [N,3] seen along ``rays`` [N,2].

    :param unit: one nominal pixel of the view in normalised units.
    :return: :class:`mt_perception.odometry.absolute_pose.PoseEstimate`, or None.
    """
    p = parameters
    start = ransac(points, rays, p.ransac_threshold_px * unit, p.ransac_iterations)
    return None if start is None else refine(points, rays, start, p.keypoint_sigma_px * unit)


def occupied_cells(rays, view):
    """How many of ``GRID``² cells of the image hold one of ``rays`` [N,2]."""
    camera = view.camera
    corners = camera.normalize(np.array([[0, 0], [camera.width - 1, camera.height - 1]], np.float64))
    share = (rays - corners[0]) / (corners[1] - corners[0])
    cell = np.clip((share * GRID).astype(np.int64), 0, GRID - 1)
    return len(np.unique(cell[:, 0] * GRID + cell[:, 1]))


def essential_motion(rays_a, rays_b, sigma):
    """
    Motion of unit length between two views that most of the matched rays [N,2] agree with.

    :param sigma: standard deviation of a ray coordinate.
    :return: (second camera from first [4,4] or None, inliers [N] bool).
    """
    nobody = None, np.zeros(len(rays_a), bool)
    identity = np.eye(3)
    try:
        essential, _ = cv2.findEssentialMat(
            rays_a, rays_b, identity, identity, np.zeros(4), np.zeros(4), robust_parameters(2 * sigma)
        )
    except cv2.error:
        return nobody
    if essential is None or essential.shape != (3, 3):
        return nobody
    first, second, t = cv2.decomposeEssentialMat(essential)
    best = nobody
    for rotation in (first, second):
        for sign in (1, -1):
            motion = np.eye(4)
            motion[:3, :3], motion[:3, 3] = rotation, sign * t.ravel() / np.linalg.norm(t)
            points, _ = triangulate(rays_a, rays_b, np.eye(4), motion)
            error = np.maximum(
                reprojection_errors(points, rays_a, np.eye(4)), reprojection_errors(points, rays_b, motion)
            )
            inlier = error < np.sqrt(CHI2_2D) * sigma
            if best[0] is None or inlier.sum() > best[1].sum():
                best = motion, inlier
    return best


def relation_covariance(estimate, transform, scale_sigma, distance, widen):
    """
    Covariance [7,7] as in :class:`Relation` from the information of PnP.

    ``world_to_camera`` perturbed on the left by (translation, rotation) is its inverse perturbed on the right
    by the opposite; the translation goes from units of the points to units of the view. What the keypoints'
    noise does not explain is added: the points themselves are off, which shows the more the farther apart the
    views are.

    :param estimate: :class:`PoseEstimate` in the known view's unit.
    :param transform: [4,4] similarity, from the located view to the known one.
    :param scale_sigma: standard deviation of its logarithm.
    :param distance: of the scene in units of the located view.
    :param widen: factor on the standard deviations.
    """
    values, vectors = np.linalg.eigh(estimate.information)
    spread = widen**2 * (vectors / np.maximum(values, 1e-6)) @ vectors.T
    order = [3, 4, 5, 0, 1, 2]
    factor = scale_of(transform)
    shape = SHAPE_SHARE * np.linalg.norm(transform[:3, 3]) / factor
    out = np.zeros((7, 7))
    out[:6, :6] = spread[np.ix_(order, order)]
    out[3:6, :] /= factor
    out[:, 3:6] /= factor
    out[:3, :3] += (FLOOR_ANGLE**2 + (shape / distance) ** 2) * np.eye(3)
    out[3:6, 3:6] += ((FLOOR_SHARE * distance) ** 2 + shape**2) * np.eye(3)
    out[6, 6] = scale_sigma**2
    return out


def turned_around(relation):
    """Return the :class:`Relation` with earlier and later exchanged."""
    move = adjoint(relation.transform)
    return Relation(
        invert(relation.transform),
        move @ relation.covariance @ move.T,
        relation.matches,
        relation.inliers,
        relation.has_length,
        relation.has_scale,
        relation.distance * scale_of(relation.transform),
    )
