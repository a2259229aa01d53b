"""Growing and mending the local map at a new keyframe: new points, bundle adjustment, culling."""

import numpy as np
from scipy.spatial import cKDTree

from mt_perception.odometry import motion_check
from mt_perception.odometry.absolute_pose import CHI2_2D
from mt_perception.odometry.bundle_adjustment import Problem, adjust
from mt_perception.odometry.geometry import (
    inverse,
    project,
    reprojection_errors,
    to_camera,
    triangulate,
)
from mt_perception.odometry.movable import depth_offset, stand_still
from mt_perception.odometry.scale import depth_ratio
from mt_perception.odometry.search import search_epipolar, search_projected

FEWEST = 30  # points of sure depth a keyframe must see to be adjusted
INLIER_SIGMAS = np.sqrt(CHI2_2D)
# relative standard deviations of a depth that is the network's, or that of the nearest points in the image
KEYPOINT_DEPTH_SIGMA, NEIGHBOUR_DEPTH_SIGMA = 0.2, 0.7


class Mapper:
    """Works on one :class:`LocalMap` with :class:`OdometryParameters`."""

    def __init__(self, local_map, parameters, depth_sigma=None):
        """
        Work on a map.

        :param local_map: :class:`LocalMap`.
        :param depth_sigma: standard deviation of the logarithm of the depths at keypoints where they are good
            enough to take part in bundle adjustment, else None.
        """
        self.map = local_map
        self.parameters = parameters
        self.depth_sigma = depth_sigma

    def neighbours(self, keyframe):
        """Return the keyframes that share the most points with ``keyframe``, best first, then newest."""
        ids = self.map.seen_by(keyframe)
        shared = self.map.shared(ids)
        order = np.lexsort((-np.arange(len(shared)), -shared))
        ranked = [self.map.keyframes[i] for i in order if shared[i] > 0]
        return [k for k in ranked if k is not keyframe]

    def create_points(self, keyframe, other, pairs, min_angle):
        """
        Triangulate matched keypoints that show no map point yet.

        :param pairs: [M,2] keypoints of ``keyframe`` and of ``other``.
        :param min_angle: smallest angle between two rays in radians; below ``triangulation_min_angle_deg``
            the point's depth counts as unsure.
        """
        p = self.parameters
        pairs = pairs[(keyframe.point_ids[pairs[:, 0]] < 0) & (other.point_ids[pairs[:, 1]] < 0)]
        if len(pairs) == 0:
            return
        rays, rays_other = keyframe.rays[pairs[:, 0]], other.rays[pairs[:, 1]]
        points, angle = triangulate(rays, rays_other, keyframe.world_to_camera, other.world_to_camera)
        ok = (angle > min_angle) & self.fits(keyframe, rays, points) & self.fits(other, rays_other, points)
        ok &= self.believed(keyframe, pairs[:, 0], points) & self.believed(other, pairs[:, 1], points)
        pairs, points, angle = pairs[ok], points[ok], angle[ok]
        unsure = angle < np.radians(p.triangulation_min_angle_deg)
        depth_sigma = np.where(unsure, self.sigma(keyframe, other) / angle, 0.0)
        ids = self.map.add_points(points, keyframe.descriptors[pairs[:, 0]], keyframe, depth_sigma)
        self.map.observe(keyframe, pairs[:, 0], ids)
        self.map.observe(other, pairs[:, 1], ids)

    def sigma(self, *frames):
        """Standard deviation of a ray coordinate in the frames."""
        return self.parameters.keypoint_sigma_px * max(frame.unit for frame in frames)

    def fits(self, frame, rays, points):
        """Which points [N,3] lie in front of a frame and close to its rays [N,2]."""
        return reprojection_errors(points, rays, frame.world_to_camera) < INLIER_SIGMAS * self.sigma(frame)

    def believed(self, keyframe, rows, points):
        """Which points [N,3] may be what keypoints ``rows`` show, as far as those can move, [N] bool."""
        movable = keyframe.movable[rows]
        if not movable.any():
            return ~movable
        known = np.flatnonzero((keyframe.point_ids >= 0) & ~keyframe.movable)
        positions = self.map.position[keyframe.point_ids[known]]
        depth = keyframe.keypoints.depth
        offset = depth_offset(depth[known], to_camera(keyframe.world_to_camera, positions)[:, 2])
        local_depth = to_camera(keyframe.world_to_camera, points)[:, 2]
        tolerance = self.parameters.movable_depth_tolerance
        return ~movable | stand_still(depth[rows], local_depth, offset, tolerance)

    def triangulate_with(self, keyframe, other, min_similarity, min_angle):
        """Match free keypoints of two keyframes along epipolar lines and make points of them."""
        free, free_other = np.flatnonzero(keyframe.point_ids < 0), np.flatnonzero(other.point_ids < 0)
        pairs = search_epipolar(
            (keyframe.rays[free], keyframe.descriptors[free]),
            (other.rays[free_other], other.descriptors[free_other]),
            other.world_to_camera @ inverse(keyframe.world_to_camera),
            self.sigma(keyframe, other),
            self.parameters.search_ratio,
            min_similarity,
        )
        self.create_points(
            keyframe, other, np.stack([free[pairs[:, 0]], free_other[pairs[:, 1]]], 1), min_angle
        )

    def grow(self, keyframe, reference, pairs, neighbours, min_similarity):
        """
        Make points of keypoints that show none, as sure ones as there are.

        First those seen under a wide enough angle; when they are too few, those under smaller angles; when
        they still are, as on the spot, points whose depth is that at the keypoint or just like their
        neighbours'. What is unsure about a depth counts little in later poses once the camera moves on, and
        nothing while it only turns.
        """
        p = self.parameters
        for angle in (p.triangulation_min_angle_deg, p.triangulation_weak_angle_deg):
            if reference is not None and len(pairs):
                self.create_points(keyframe, reference, pairs[:, ::-1], np.radians(angle))
            for other in neighbours:
                self.triangulate_with(keyframe, other, min_similarity, np.radians(angle))
            if (keyframe.point_ids >= 0).sum() >= p.target_points:
                return
        self.guess_points(keyframe)

    def guess_points(self, keyframe):
        """Make points at guessed depths of the strongest keypoints that show none."""
        p = self.parameters
        mapped = np.flatnonzero(keyframe.point_ids >= 0)
        free = np.flatnonzero((keyframe.point_ids < 0) & ~keyframe.movable)
        free = free[: max(0, p.target_points - len(mapped))]
        if len(mapped) < 3 or len(free) == 0:
            return
        depth = to_camera(keyframe.world_to_camera, self.map.position[keyframe.point_ids[mapped]])[:, 2]
        _, near = cKDTree(keyframe.rays[mapped]).query(keyframe.rays[free], k=3)
        guess, depth_sigma = np.median(depth[near], axis=1), np.full(len(free), NEIGHBOUR_DEPTH_SIGMA)
        ratio = depth_ratio(keyframe.keypoints.depth[mapped], depth, p.scale_min_points)
        if ratio is not None:
            own = keyframe.keypoints.depth[free] / ratio.factor
            known = np.isfinite(own) & (own > 0)
            guess, depth_sigma = (
                np.where(known, own, guess),
                np.where(known, KEYPOINT_DEPTH_SIGMA, depth_sigma),
            )
        pose = keyframe.pose
        local = np.concatenate([keyframe.rays[free], np.ones((len(free), 1))], 1) * guess[:, None]
        ids = self.map.add_points(
            local @ pose[:3, :3].T + pose[:3, 3], keyframe.descriptors[free], keyframe, depth_sigma
        )
        self.map.observe(keyframe, free, ids)

    def settle(self, keyframe):
        """Triangulate points of unsure depth that ``keyframe`` and the keyframe that made them both see."""
        p = self.parameters
        rows = np.flatnonzero(keyframe.point_ids >= 0)
        rows = rows[self.map.depth_sigma[keyframe.point_ids[rows]] > 0]
        ids = keyframe.point_ids[rows]
        for maker in {k.id: k for k in self.map.keyframes if k is not keyframe}.values():
            mine = self.map.born[ids] == maker.id
            if not mine.any():
                continue
            place = np.full(self.map.size + 1, -1, np.int64)
            seen = np.flatnonzero(maker.point_ids >= 0)
            place[maker.point_ids[seen]] = seen
            made = place[ids[mine]]
            both = made >= 0
            point, row, made = ids[mine][both], rows[mine][both], made[both]
            rays, rays_maker = keyframe.rays[row], maker.rays[made]
            points, angle = triangulate(rays, rays_maker, keyframe.world_to_camera, maker.world_to_camera)
            ok = (angle > np.radians(p.triangulation_weak_angle_deg)) & self.fits(keyframe, rays, points)
            ok &= self.fits(maker, rays_maker, points)
            better = self.sigma(keyframe, maker) / angle
            ok &= better < self.map.depth_sigma[point]
            sure = angle > np.radians(p.triangulation_min_angle_deg)
            self.map.position[point[ok]] = points[ok]
            self.map.depth_sigma[point[ok]] = np.where(sure, 0.0, better)[ok]

    def fuse_into(self, ids, other, min_similarity):
        """Look for the points ``ids`` among the free keypoints of another keyframe."""
        ids = ids[~np.isin(ids, self.map.seen_by(other))]
        free = np.flatnonzero((other.point_ids < 0) & ~other.movable)
        if len(ids) == 0 or len(free) == 0:
            return
        radius = INLIER_SIGMAS * self.parameters.keypoint_sigma_px * other.unit
        rows, columns, _ = search_projected(
            project(to_camera(other.world_to_camera, self.map.position[ids])),
            self.map.descriptor[ids],
            other.tree,
            other.descriptors,
            radius,
            self.parameters.search_ratio,
            min_similarity,
        )
        ok = (other.point_ids[columns] < 0) & ~other.movable[columns]
        self.map.observe(other, columns[ok], ids[rows[ok]])

    def insert(self, keyframe, reference, pairs, min_similarity):
        """
        Add a tracked frame as keyframe and grow the map.

        :param keyframe: :class:`Frame` whose ``point_ids`` are the tracked map points.
        :param reference: keyframe that ``pairs`` belong to.
        :param pairs: [M,2] keypoints of ``reference`` and of ``keyframe`` that the matcher paired.
        :param min_similarity: smallest descriptor dot product accepted.
        """
        rows = np.flatnonzero(keyframe.point_ids >= 0)
        ids = keyframe.point_ids[rows]
        self.map.keyframes.append(keyframe)
        self.map.observe(keyframe, rows, ids)
        self.map.descriptor[ids] = keyframe.descriptors[rows]
        neighbours = self.neighbours(keyframe)[: self.parameters.neighbours]
        self.settle(keyframe)
        self.grow(keyframe, reference, pairs, neighbours, min_similarity)
        ids = self.map.seen_by(keyframe)
        for other in neighbours:
            self.fuse_into(ids, other, min_similarity)

    def sure_points(self, keyframe):
        """Ids of the points of sure depth that a keyframe observes."""
        ids = self.map.seen_by(keyframe)
        return ids[self.map.depth_sigma[ids] == 0]

    def adjust(self, keyframe, scale=1.0):
        """
        Bundle adjustment of the keyframes around ``keyframe``; outlying observations are dropped.

        Only points of sure depth take part, and keyframes that see enough of them move: while the camera
        turns on the spot, the guessed depths of the others would pull at the map.

        :param scale: metres per unit of the map.
        """
        p = self.parameters
        moving = [keyframe, *self.neighbours(keyframe)[: p.window - 1]]
        moving = [k for k in moving if len(self.sure_points(k)) >= FEWEST]
        if not moving:
            return None
        ids = np.unique(np.concatenate([self.sure_points(k) for k in moving]))
        ids = ids[self.map.observations[ids] >= 2]
        shared = self.map.shared(ids)
        order = np.lexsort((-np.arange(len(shared)), -shared))
        chosen = {id(k) for k in moving}
        others = [
            self.map.keyframes[i] for i in order if shared[i] > 0 and id(self.map.keyframes[i]) not in chosen
        ]
        fixed = others[: p.fixed_keyframes]
        if not fixed:
            oldest = min(moving, key=lambda k: k.id)
            moving.remove(oldest)
            fixed = [oldest]
        frames = moving + fixed
        if not moving or len(ids) < 10:
            return None
        problem, observations = self.problem(frames, len(moving), ids, scale)
        adjusted = adjust(problem, p.iterations)
        points, cameras = adjusted.points, adjusted.cameras
        if len(fixed) == 1 and self.depth_sigma is None:
            points, cameras = self.keep_scale(fixed[0], problem.points, points, cameras)
        self.map.position[ids] = points
        for k, frame in enumerate(moving):
            frame.world_to_camera = cameras[k]
        self.drop_outliers(frames, observations, adjusted.chi2)
        return adjusted

    def problem(self, frames, n_moving, ids, scale):
        """Collect the observations of points ``ids`` in ``frames``; return it with (frame, row) of each."""
        place = np.full(self.map.size + 1, -1, np.int64)
        place[ids] = np.arange(len(ids))
        camera, point, row = [], [], []
        for k, frame in enumerate(frames):
            rows = np.flatnonzero(frame.point_ids >= 0)
            index = place[frame.point_ids[rows]]
            rows, index = rows[index >= 0], index[index >= 0]
            camera.append(np.full(len(rows), k))
            point.append(index)
            row.append(rows)
        camera, point, row = np.concatenate(camera), np.concatenate(point), np.concatenate(row)
        order = np.argsort(point, kind='stable')
        camera, point, row = camera[order], point[order], row[order]
        rays, sigma, depth = np.zeros((len(order), 2)), np.zeros(len(order)), None
        if self.depth_sigma is not None:
            depth = np.full(len(order), np.nan)
        for k, frame in enumerate(frames):
            mine = camera == k
            rays[mine] = frame.rays[row[mine]]
            sigma[mine] = self.parameters.keypoint_sigma_px * frame.unit
            if depth is not None:
                depth[mine] = frame.keypoints.depth[row[mine]] / scale
        poses = np.stack([f.world_to_camera for f in frames])
        points = self.map.position[ids]
        problem = Problem(poses, n_moving, points, camera, point, rays, sigma, depth, self.depth_sigma)
        return problem, (camera, row)

    @staticmethod
    def keep_scale(anchor, before, after, cameras):
        """With one fixed camera the scale is free: keep the median distance of the points to it."""
        center = anchor.pose[:3, 3]
        factor = np.median(np.linalg.norm(before - center, axis=1))
        factor /= max(np.median(np.linalg.norm(after - center, axis=1)), 1e-12)
        cameras = cameras.copy()
        for camera in cameras:
            position = -camera[:3, :3].T @ camera[:3, 3]
            camera[:3, 3] = -camera[:3, :3] @ (center + factor * (position - center))
        return center + factor * (after - center), cameras

    def drop_outliers(self, frames, observations, chi2):
        """Forget observations that disagree, and points that fewer than two keyframes see after that."""
        camera, row = observations
        outlier = chi2 > CHI2_2D
        touched = []
        for k, frame in enumerate(frames):
            rows = row[(camera == k) & outlier]
            touched.append(frame.point_ids[rows])
            self.map.unobserve(frame, rows)
        touched = np.unique(np.concatenate(touched))
        self.map.remove(touched[self.map.observations[touched] < 2])

    def cull(self, keyframe):
        """Remove points that are hardly found again or keep not fitting, and the oldest keyframes."""
        p, ids = self.parameters, self.map.ids()
        age = keyframe.id - self.map.born[ids]
        rare = self.map.found[ids] < p.min_found_ratio * self.map.visible[ids]
        few = (age >= 2) & (age < 4) & (self.map.observations[ids] < p.min_observations)
        self.map.remove(ids[rare | few | (motion_check.moving(self.map, ids) & p.motion_check)])
        while len(self.map.keyframes) > p.map_keyframes:
            self.map.drop_keyframe(self.map.keyframes[0])
