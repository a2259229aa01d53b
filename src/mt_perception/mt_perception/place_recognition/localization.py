"""Where an image was taken, from the keyframes of a map that look like it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from mt_perception.odometry.absolute_pose import covariance, refine
from mt_perception.odometry.geometry import inverse, project, to_camera
from mt_perception.odometry.search import search_projected
from mt_perception.place_recognition.keyframe import unpack_descriptors
from mt_perception.place_recognition.verification import SHAPE_SHARE, locate, matchers_in_turn, occupied_cells

AROUND = 10  # keyframes whose points are looked for in the image once its pose is known roughly
FACING = np.cos(np.radians(60))  # of the angle between the viewing directions of those and the image
SEARCH_PX = (12.0, 6.0)  # radius around the projected points, first and then
SEARCH_RATIO = 0.9  # best over second-best descriptor distance
QUANTILE = 0.05  # of the similarities of matches that agree: the least that is looked at in the search
FEWEST = 12  # inliers of a first pose


@dataclass
class Localization:
    """
    A pose in a map.

    :param pose: [4,4] camera to ``map``.
    :param covariance: [6,6] of (x, y, z, rotation about x, y, z), along the axes of ``map``.
    :param matches: keypoints of the image that match a known point of the map.
    :param inliers: those that agree with the pose.
    :param keyframe: number of the keyframe that led there.
    :param score: cosine of its global descriptor and the image's.
    """

    pose: np.ndarray
    covariance: np.ndarray
    matches: int
    inliers: int
    keyframe: int
    score: float


class Localizer:
    """
    Locates an image by the keyframe that agrees with it best, and then by all points around.

    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param parameters: :class:`PlaceParameters`.
    """

    def __init__(self, matcher, parameters):
        self.matchers = matchers_in_turn(matcher)
        self.parameters = parameters
        self._tolerant = replace(
            parameters,
            keypoint_sigma_px=parameters.localize_sigma_px,
            ransac_threshold_px=parameters.localize_threshold_px,
        )

    def localize(self, view, candidates, graph):
        """
        Locate a view.

        :param view: :class:`View` of the image.
        :param candidates: list of (number of a keyframe, cosine of its global descriptor and the image's).
        :param graph: :class:`MapGraph` with the keyframes and their poses.
        :return: :class:`Localization`, or None.
        :raises ModelError: keypoints of different models.
        """
        for matcher in self.matchers:
            found = self._localize(view, candidates, graph, matcher)
            if found is not None:
                return found
        return None

    def _localize(self, view, candidates, graph, matcher):
        """Locate a view with one matcher."""
        p = self.parameters
        best = None
        for number, score in candidates:
            keyframe, pose = graph.keyframes[number].view, graph.poses[number]
            found = self._by_keyframe(view, keyframe, pose, matcher)
            if found is not None and (best is None or found[0].n_inliers > best[0].n_inliers):
                best = (*found, int(number), float(score))
        if best is None:
            return None
        first, similarity, number, score = best
        estimate, rows = self._by_surroundings(view, first.world_to_camera, similarity, number, graph)
        if estimate is None or estimate.n_inliers < p.localize_min_inliers:
            return None
        if occupied_cells(view.rays[rows[estimate.inlier]], view) < p.min_cells:
            return None
        pose = inverse(estimate.world_to_camera)
        return Localization(
            pose,
            covariance(estimate) * p.loop_sigma_factor**2 + map_covariance(pose, number, graph),
            len(rows),
            estimate.n_inliers,
            number,
            score,
        )

    def _by_keyframe(self, view, keyframe, pose, matcher):
        """Return (:class:`PoseEstimate`, least similarity of its matches) by one keyframe, or None."""
        pairs = np.asarray(matcher.match(keyframe.keypoints, view.keypoints).index, np.int64)
        pairs = pairs[np.isfinite(keyframe.depth[pairs[:, 0]])]
        if len(pairs) < FEWEST:
            return None
        points = keyframe.points(pairs[:, 0]) @ pose[:3, :3].T + pose[:3, 3]
        estimate = locate(points, view.rays[pairs[:, 1]], view.unit, self._tolerant)
        if estimate is None or estimate.n_inliers < FEWEST:
            return None
        inner = pairs[estimate.inlier]
        similarity = (
            unpack_descriptors(keyframe.packed[inner[:, 0]]) * unpack_descriptors(view.packed[inner[:, 1]])
        ).sum(1)
        return estimate, float(np.quantile(similarity, QUANTILE))

    def _by_surroundings(self, view, world_to_camera, similarity, number, graph):
        """
        Look for the points of the keyframes around a pose near their projections, twice, and refine.

        :return: (:class:`PoseEstimate` or None, keypoints [M] it is made from).
        """
        points, packed = self._points_around(view, world_to_camera, number, graph)
        descriptors = unpack_descriptors(packed)
        own = unpack_descriptors(view.packed)
        tree = cKDTree(view.rays)
        estimate, rows = None, np.zeros(0, np.int64)
        for radius in SEARCH_PX:
            projected = project(to_camera(world_to_camera, points))
            index, rows, _ = search_projected(
                projected, descriptors, tree, own, radius * view.unit, SEARCH_RATIO, similarity
            )
            if len(rows) < FEWEST:
                return None, rows
            sigma = self.parameters.localize_sigma_px * view.unit
            estimate = refine(points[index], view.rays[rows], world_to_camera, sigma)
            world_to_camera = estimate.world_to_camera
        return estimate, rows

    def _points_around(self, view, world_to_camera, number, graph):
        """
        Return points [P,3] in ``map`` and their packed descriptors [P,D] that may be in the image.

        Those of the keyframe ``number`` and of the keyframes that show most of what the image shows.
        """
        direction = world_to_camera[2, :3]
        found = []
        for k, (keyframe, pose) in enumerate(zip(graph.keyframes, graph.poses)):
            if keyframe.view is None or keyframe.fixed != graph.keyframes[number].fixed:
                continue
            forward = pose[:3, 2] / np.linalg.norm(pose[:3, 2])
            if k != number and forward @ direction < FACING:
                continue
            known = np.flatnonzero(np.isfinite(keyframe.view.depth))
            points = keyframe.view.points(known) @ pose[:3, :3].T + pose[:3, 3]
            inside = in_image(view, project(to_camera(world_to_camera, points)))
            rank = np.inf if k == number else inside.sum()
            found.append((-rank, k, points[inside], keyframe.view.packed[known[inside]]))
        found.sort(key=lambda entry: entry[:2])
        points = np.concatenate([entry[2] for entry in found[:AROUND]])
        return points, np.concatenate([entry[3] for entry in found[:AROUND]])


def map_covariance(pose, number, graph):
    """
    Covariance [6,6] that the shape of the map adds, see ``SHAPE_SHARE``: more far from a keyframe.

    :param pose: [4,4] of the image.
    :param number: keyframe that led there.
    """
    there, view = graph.poses[number], graph.keyframes[number].view
    off = SHAPE_SHARE * np.linalg.norm(pose[:3, 3] - there[:3, 3])
    distance = np.nanmedian(view.depth) * np.linalg.norm(there[:3, 0])
    return np.diag(np.repeat([off**2, (off / distance) ** 2], 3))


def in_image(view, rays):
    """Which rays [N,2] fall into the image of a view, lens distortion neglected; False for NaN."""
    camera = view.camera
    corners = camera.normalize(np.array([[0, 0], [camera.width - 1, camera.height - 1]], np.float64))
    with np.errstate(invalid='ignore'):
        return ((rays >= corners[0]) & (rays <= corners[1])).all(1)
