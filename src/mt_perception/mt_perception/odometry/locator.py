"""Finding where a frame was taken: poses against the local map."""

import numpy as np

from mt_perception.odometry import motion_check
from mt_perception.odometry.absolute_pose import ransac, refine
from mt_perception.odometry.geometry import project, to_camera
from mt_perception.odometry.movable import depth_offset, stand_still
from mt_perception.odometry.search import search_projected

FEWEST = 6  # correspondences a pose is looked for with
TRUSTED_SHARE = 0.6  # of inliers: the predicted pose was right, no RANSAC needed
RIVAL_SHARE = 0.5  # of the inliers' trust: as much among the others may be another motion
SPREAD = (
    2.5  # times the distance from the median similarity of true matches to their lower quartile: the least
)
PROBES = 128  # keypoints that decide which keyframe looks most like a frame
NO_IDS = np.zeros(0, np.int64)


class Locator:
    """
    Locates frames against one :class:`LocalMap`.

    :ivar similarity: smallest descriptor dot product of a match, learned from those that proved right, so
        that no threshold depends on the kind of features.
    :ivar misfits: [M] ids of the points matched for the last pose that did not fit it.
    """

    def __init__(self, local_map, parameters):
        """:param local_map: the map. :param parameters: :class:`OdometryParameters`."""
        self.map = local_map
        self.parameters = parameters
        self.similarity = None
        self.misfits = NO_IDS

    def locate(self, frame, ids, rows):
        """
        Pose from points seen as keypoints: from the frame's present pose, else by RANSAC.

        :param ids: [N] points.
        :param rows: [N] keypoints.
        :return: :class:`PoseEstimate`, or None with fewer than ``FEWEST``.
        """
        if len(ids) < FEWEST:
            return None
        trust = motion_check.trust(self.map, ids) if self.parameters.motion_check else np.ones(len(ids))
        estimate = self.refine(frame, ids, rows, frame.world_to_camera)
        if trust[estimate.inlier].sum() >= TRUSTED_SHARE * trust.sum():
            return estimate
        best = self._better(estimate, self._any_pose(frame, ids, rows), trust)
        if self.parameters.motion_check:
            rest = ~best.inlier
            if trust[rest].sum() > RIVAL_SHARE * trust[best.inlier].sum():
                other = self._any_pose(frame, ids[rest], rows[rest])
                if other is not None:
                    rest[rest] = other.inlier
                    other.inlier = rest
                best = self._better(best, other, trust)
        return best

    def _any_pose(self, frame, ids, rows):
        """Pose by RANSAC, without a guess; :class:`PoseEstimate` or None."""
        p = self.parameters
        sure = self.map.depth_sigma[ids] == 0
        if sure.sum() < p.min_inliers:
            sure[:] = True
        start = ransac(
            self.map.position[ids[sure]],
            frame.rays[rows[sure]],
            p.ransac_threshold_px * frame.unit,
            p.ransac_iterations,
        )
        return None if start is None else self.refine(frame, ids, rows, start)

    @staticmethod
    def _better(one, other, trust):
        """Return the estimate whose inliers have more trust, ``one`` on ties and when there is no other."""
        if other is None or trust[other.inlier].sum() <= trust[one.inlier].sum():
            return one
        return other

    def refine(self, frame, ids, rows, start):
        """Refine a pose from points ``ids`` seen as keypoints ``rows``; return :class:`PoseEstimate`."""
        sigma = self.parameters.keypoint_sigma_px * frame.unit
        return refine(self.map.position[ids], frame.rays[rows], start, sigma, self.map.displacement(ids))

    def search(self, frame, world_to_camera, ids=NO_IDS, rows=NO_IDS, widen=1):
        """
        Match the whole map around its projections and refine.

        :param world_to_camera: [4,4] the pose as far as it is known.
        :param ids: points already matched, with keypoints ``rows``.
        :param widen: factor on the search radius; above 1 the matches are not trusted without RANSAC.
        :return: (:class:`PoseEstimate` or None, ids, rows).
        """
        p, local_map = self.parameters, self.map
        others = local_map.ids()
        others = others[~np.isin(others, ids)]
        projected = project(to_camera(world_to_camera, local_map.position[others]))
        visible = frame.inside(projected)
        others, projected = others[visible], projected[visible]
        found, columns, _ = search_projected(
            projected,
            local_map.descriptor[others],
            frame.tree,
            frame.descriptors,
            widen * p.search_radius_px * frame.unit,
            p.search_ratio,
            self.floor,
        )
        free = ~np.isin(columns, rows)
        free &= self._believed(frame, world_to_camera, columns, others[found], rows, ids) | (
            ~frame.movable[columns]
        )
        ids, rows = np.concatenate([ids, others[found[free]]]), np.concatenate([rows, columns[free]])
        if len(ids) < FEWEST:
            return None, ids, rows
        frame.world_to_camera = world_to_camera
        if widen > 1:
            return self.locate(frame, ids, rows), ids, rows
        return self.refine(frame, ids, rows, world_to_camera), ids, rows

    def from_pairs(self, frame, keyframe, pairs):
        """
        Locate by matches to a keyframe and then by the whole map, starting at the frame's present pose.

        :param pairs: [M,2] keypoints of ``keyframe`` and of ``frame``.
        :return: (:class:`PoseEstimate` or None, ids, rows).
        """
        ids = keyframe.point_ids[pairs[:, 0]]
        usable = (ids >= 0) & ~frame.movable[pairs[:, 1]]
        ids, rows = ids[usable], pairs[usable, 1]
        estimate = self.locate(frame, ids, rows)
        self.misfits = NO_IDS
        if estimate is None or estimate.n_inliers < self.parameters.min_inliers / 2:
            return None, ids, rows
        self.misfits = ids[~estimate.inlier]
        return self.search(frame, estimate.world_to_camera, ids[estimate.inlier], rows[estimate.inlier])

    def _believed(self, frame, world_to_camera, rows, ids, known_rows, known_ids):
        """
        Tell which keypoints ``rows`` on movable things stand still where the points ``ids`` are, [N] bool.

        :param known_rows: keypoints that show the points ``known_ids``: the ratio of their depths is normal.
        """
        depth = frame.keypoints.depth

        def local_depth(points):
            return to_camera(world_to_camera, self.map.position[points])[:, 2]

        offset = depth_offset(depth[known_rows], local_depth(known_ids))
        tolerance = self.parameters.movable_depth_tolerance
        return stand_still(depth[rows], local_depth(ids), offset, tolerance)

    @property
    def floor(self):
        """Smallest similarity of a match; none before the first matches have proved right."""
        return -1.0 if self.similarity is None else self.similarity

    def learn(self, frame):
        """Follow how similar the descriptors of true matches are, and count which points are found again."""
        local_map = self.map
        ids = local_map.ids()
        visible = frame.inside(project(to_camera(frame.world_to_camera, local_map.position[ids])))
        local_map.visible[ids[visible]] += 1
        rows = np.flatnonzero(frame.point_ids >= 0)
        seen = frame.point_ids[rows]
        local_map.found[seen] += 1
        if self.parameters.motion_check:
            motion_check.note(local_map, seen, self.misfits)
        self.misfits = NO_IDS
        if len(rows) >= 10:
            similarity = (frame.descriptors[rows] * local_map.descriptor[seen]).sum(1)
            # from the middle of the distribution: what lies below the limit is never found, and the limit of
            # what is found would only rise
            middle, lower = np.quantile(similarity, (0.5, 0.25))
            low = float(middle - SPREAD * (middle - lower))
            self.similarity = low if self.similarity is None else 0.9 * self.similarity + 0.1 * low

    def most_alike(self, frame, count):
        """
        Return the ``count`` keyframes that look most like a frame, and the newest first of all.

        By the global descriptors where there are some, else by how many of the strongest keypoints have a
        similar one.
        """
        keyframes = self.map.keyframes
        alike = self._global_similarity(frame, keyframes[:-1])
        if alike is None:
            probes = frame.descriptors[:PROBES]
            alike = [int(((probes @ k.descriptors.T).max(1) >= self.floor).sum()) for k in keyframes[:-1]]
        order = np.lexsort((-np.arange(len(alike)), -np.array(alike, np.float64)))
        return [keyframes[-1], *(keyframes[i] for i in order)][:count]

    @staticmethod
    def _global_similarity(frame, keyframes):
        """Scalar products of global descriptors, None when some are missing or of another length."""
        known = [k.global_descriptor for k in keyframes]
        own = frame.global_descriptor
        if own is None or any(other is None or len(other) != len(own) for other in known):
            return None
        return [float(own @ other) for other in known]
