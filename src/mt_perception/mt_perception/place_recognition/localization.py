"""Where an image was taken, from the keyframes of a map that look like it."""

from dataclasses import dataclass

import numpy as np

from mt_perception.odometry.absolute_pose import covariance
from mt_perception.odometry.geometry import inverse
from mt_perception.place_recognition.verification import locate, occupied_cells


@dataclass
class Localization:
    """
    A pose in a map.

    :param pose: [4,4] camera to ``map``.
    :param covariance: [6,6] of (x, y, z, rotation about x, y, z), along the axes of ``map``.
    :param matches: keypoints of the image that match a known point of the map.
    :param inliers: those that agree with the pose.
    :param keyframe: number of the keyframe with most of them.
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
    Matches an image with several keyframes and locates it by all their points together.

    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param parameters: :class:`PlaceParameters`.
    """

    def __init__(self, matcher, parameters):
        self.matcher = matcher
        self.parameters = parameters

    def localize(self, view, keyframes, poses, numbers, scores):
        """
        Locate a view.

        :param view: :class:`View` of the image.
        :param keyframes: :class:`View` of each candidate.
        :param poses: [4,4] similarity, camera to ``map``, of each.
        :param numbers: of each in the map.
        :param scores: cosine of each one's global descriptor and the image's.
        :return: :class:`Localization`, or None.
        :raises ModelError: keypoints of different models.
        """
        p = self.parameters
        points, rows, source = [], [], []
        keypoints = view.keypoints
        for k, (keyframe, pose) in enumerate(zip(keyframes, poses)):
            pairs = np.asarray(self.matcher.match(keyframe.keypoints, keypoints).index, np.int64)
            pairs = pairs[np.isfinite(keyframe.depth[pairs[:, 0]])]
            local = keyframe.points(pairs[:, 0])
            points.append(local @ pose[:3, :3].T + pose[:3, 3])
            rows.append(pairs[:, 1])
            source.append(np.full(len(pairs), k))
        if not points or sum(map(len, points)) < p.localize_min_inliers:
            return None
        points, rows, source = np.concatenate(points), np.concatenate(rows), np.concatenate(source)
        rays = view.rays[rows]
        estimate = locate(points, rays, view.unit, p)
        if estimate is None:
            return None
        inlier = estimate.inlier
        seen = np.unique(rows[inlier])
        if len(seen) < p.localize_min_inliers or occupied_cells(rays[inlier], view) < p.min_cells:
            return None
        # a keypoint that several keyframes know counts once
        estimate.information = estimate.information * (len(seen) / inlier.sum())
        best = int(np.bincount(source[inlier]).argmax())
        return Localization(
            inverse(estimate.world_to_camera),
            covariance(estimate) * p.loop_sigma_factor**2,
            len(np.unique(rows)),
            len(seen),
            int(numbers[best]),
            float(scores[best]),
        )
