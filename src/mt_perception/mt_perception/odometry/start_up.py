"""Waiting for two views that a map can be started from."""

from dataclasses import dataclass, field

import numpy as np

from mt_perception.odometry.frame import Frame
from mt_perception.odometry.geometry import inverse, rotation_between
from mt_perception.odometry.two_view import TwoView, initialize

NO_PAIRS = np.zeros((0, 2), np.int64)


@dataclass
class Waiting:
    """
    A frame since the first view.

    :param frame: :class:`Frame`.
    :param pairs: [M,2] keypoints of the first view and of the frame that match.
    """

    frame: Frame
    pairs: np.ndarray = field(default_factory=lambda: NO_PAIRS)


class StartUp:
    """
    Keeps a first view and compares each new frame with it.

    A map needs parallax. Until there is enough, a frame's attitude is known as if the camera only turned.
    When too little of the first view is left in sight, a newer frame takes its place.

    :ivar reference: :class:`Frame`, the first view, or None.
    :ivar waiting: the :class:`Waiting` frames since then, the newest ``init_max_frames``.
    :ivar pairs: [M,2] keypoints of the first view and of the last frame that match.
    :ivar covariance: [6,6] of the pose that the first view was given.
    """

    def __init__(self, parameters, pose, covariance):
        """:param pose: [4,4] camera-to-world that the first frame is given."""
        self.parameters = parameters
        self.covariance = covariance
        self.reference = None
        self.waiting = []
        self.pairs = NO_PAIRS
        self._last = inverse(pose)

    def feed(self, frame, match):
        """
        Take the next frame and set its attitude.

        :param frame: :class:`Frame`.
        :param match: function of two frames that returns pairs [M,2].
        :return: :class:`TwoView` from which the map can start, or None.
        """
        enough = self.parameters.init_min_matches
        two_view = self._compare(frame, match)
        if two_view.pose is None and two_view.n_inliers < enough and self.waiting:
            self.reference, self.waiting = self.waiting[-1].frame, []
            two_view = self._compare(frame, match)
        if two_view.pose is not None:
            return two_view
        if two_view.n_inliers >= enough:
            self.waiting = [*self.waiting, Waiting(frame, self.pairs)][-self.parameters.init_max_frames :]
        else:
            frame.world_to_camera = self._last.copy()
            self.pairs = NO_PAIRS
            if self.reference is None or len(frame.rays) >= enough or len(self.reference.rays) < enough:
                self.reference, self.waiting = frame, []
        self._last = frame.world_to_camera
        return None

    def _compare(self, frame, match):
        """Match a frame to the first view and look for a relative pose."""
        if self.reference is None:
            return TwoView(0)
        self.pairs = match(self.reference, frame)
        rays_a, rays_b = self.reference.rays[self.pairs[:, 0]], frame.rays[self.pairs[:, 1]]
        sigma = self.parameters.keypoint_sigma_px * frame.unit
        turn = self._last @ self.reference.pose
        turn[:3, 3] = 0
        if len(self.pairs):
            turn[:3, :3], _ = rotation_between(rays_a, rays_b, sigma, turn[:3, :3])
        frame.world_to_camera = turn @ self.reference.world_to_camera
        depth = np.stack(
            [view.keypoints.depth[rows] for view, rows in zip((self.reference, frame), self.pairs.T)], 1
        )
        return initialize(rays_a, rays_b, sigma, self.parameters, depth)
