"""A world of points with known descriptors, seen by a camera on a known path: exact truth for odometry."""

import numpy as np

from mt_perception.camera import Camera
from mt_perception.types import UNKNOWN_CLASS, Keypoints

DESCRIPTOR_DIM = 32


class World:
    """
    Random points along a street (or around a room), each with a random unit descriptor.

    :param seed: of all randomness; each image has its own stream, so images do not depend on each other.
    :param n_points: number of points.
    :param low: [3] corner of the box the points fill, metres.
    :param high: [3] other corner.
    """

    def __init__(self, seed=0, n_points=4000, low=(-12, -4, 0), high=(12, 2, 90)):
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.points = rng.uniform(low, high, (n_points, 3))
        descriptors = rng.normal(size=(n_points, DESCRIPTOR_DIM))
        self.descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        self.classes = np.full(n_points, UNKNOWN_CLASS)
        self.camera = Camera.from_focal(640, 480, 500)

    def points_at(self, number):
        """Points [N,3] in the world when image ``number`` is taken."""
        return self.points

    def image(
        self,
        pose,
        number=0,
        *,
        noise_px=0.5,
        outliers=0.2,
        wrong=0.1,
        max_keypoints=300,
        depth_noise=None,
        depth_scale=1.0,
        camera=None,
        min_depth=2.0,
        max_depth=40.0,
    ):
        """
        Keypoints of an image taken at ``pose``.

        :param pose: [4,4] camera to world.
        :param number: of the image; selects the noise.
        :param noise_px: standard deviation of a keypoint's position.
        :param outliers: share of additional keypoints that show nothing of the world.
        :param wrong: share of keypoints with the descriptor of another visible point.
        :param depth_noise: relative noise of the depth at the keypoints; None = no depth.
        :param depth_scale: factor on that depth.
        :return: :class:`Keypoints`.
        """
        camera = camera or self.camera
        rng = np.random.default_rng((self.seed, 1, number))
        local = (self.points_at(number) - pose[:3, 3]) @ pose[:3, :3]
        ahead = np.flatnonzero((local[:, 2] > min_depth) & (local[:, 2] < max_depth))
        xy = camera.project(local[ahead])
        inside = ((xy >= 0) & (xy <= [camera.width - 1, camera.height - 1])).all(1)
        inside &= ~self.hidden(ahead, xy, local[ahead, 2], number)
        ids, xy = ahead[inside][:max_keypoints], xy[inside][:max_keypoints]
        descriptors = self.descriptors[ids] + rng.normal(0, 0.05, (len(ids), DESCRIPTOR_DIM))
        n_wrong = int(wrong * len(ids))
        if n_wrong > 1:
            swapped = rng.choice(len(ids), n_wrong, replace=False)
            descriptors[swapped] = descriptors[np.roll(swapped, 1)]
        depth = np.full(len(ids), np.nan)
        if depth_noise is not None:
            depth = local[ids, 2] * depth_scale * np.exp(rng.normal(0, depth_noise, len(ids)))
        xy = xy + rng.normal(0, noise_px, xy.shape)
        n_out = int(outliers * len(ids))
        xy = np.concatenate([xy, rng.uniform(0, [camera.width - 1, camera.height - 1], (n_out, 2))])
        descriptors = np.concatenate([descriptors, rng.normal(size=(n_out, DESCRIPTOR_DIM))])
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        depth = np.concatenate([depth, np.full(n_out, np.nan)])
        classes = np.concatenate([self.classes[ids], np.full(n_out, UNKNOWN_CLASS)])
        order = rng.permutation(len(xy))
        scores = np.linspace(1, 0.1, len(xy))
        return Keypoints.create(
            xy[order],
            scores,
            descriptors[order],
            (camera.width, camera.height),
            depth[order],
            classes[order],
            model_id='world',
        )

    def hidden(self, ids, xy, depth, number):
        """Which of the points ``ids``, seen at pixels ``xy`` [N,2] and ``depth`` [N], something hides."""
        return np.zeros(len(ids), bool)

    def empty(self):
        """Keypoints of a covered lens."""
        return Keypoints.create(
            np.zeros((0, 2)), np.zeros(0), np.zeros((0, DESCRIPTOR_DIM)), (640, 480), model_id='world'
        )


class Road(World):
    """
    A street whose road is seen: points of class 3 on a plane below the camera.

    :param height: of the camera above the road in metres.
    :param n_road: points on it.
    """

    def __init__(self, height=1.65, n_road=500, **world):
        super().__init__(**world)
        rng = np.random.default_rng((self.seed, 3))
        road = rng.uniform((-3, height, 0), (3, height, 90), (n_road, 3))
        self.points = np.concatenate([road, self.points])
        more = rng.normal(size=(n_road, DESCRIPTOR_DIM))
        more /= np.linalg.norm(more, axis=1, keepdims=True)
        self.descriptors = np.concatenate([more, self.descriptors])
        self.classes = np.full(len(self.points), 1)
        self.classes[:n_road] = 3


class Traffic(World):
    """
    A world in which one large body slides past: points on a slab that hides what is behind it.

    :param path: function of the number of the image to [3] position of the body.
    :param size: [3] metres.
    :param n_body: points on it.
    :param class_id: class of the body's points; all others are of class 0.
    """

    def __init__(self, path, size=(4.0, 3.0, 6.0), n_body=400, class_id=UNKNOWN_CLASS, **world):
        super().__init__(**world)
        rng = np.random.default_rng((self.seed, 2))
        self.path = path
        self.n_body = n_body
        self.body = (rng.uniform(size=(n_body, 3)) - 0.5) * size
        # first, so that they are not cut off when an image has more points than it may
        self.points = np.concatenate([self.body, self.points])
        more = rng.normal(size=(n_body, DESCRIPTOR_DIM))
        more /= np.linalg.norm(more, axis=1, keepdims=True)
        self.descriptors = np.concatenate([more, self.descriptors])
        self.classes = np.zeros(len(self.points), np.int64)
        self.classes[:n_body] = class_id

    def points_at(self, number):
        """Points [N,3] in the world when image ``number`` is taken."""
        points = self.points.copy()
        points[: self.n_body] = self.body + self.path(number)
        return points

    def hidden(self, ids, xy, depth, number):
        """Background inside the outline of the body."""
        mine = ids < self.n_body
        if not mine.any():
            return mine
        low, high = xy[mine].min(0), xy[mine].max(0)
        return ~mine & ((xy > low) & (xy < high)).all(1) & (depth > depth[mine].min())


def pose_at(x=0.0, y=0.0, z=0.0, yaw=0.0, pitch=0.0):
    """Camera-to-world pose; yaw about the axis that points down, pitch about that to the right; radians."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array(
        [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]
    )
    pose[:3, 3] = x, y, z
    return pose


def drive(n, step=0.6):
    """[n] poses of a car that swerves gently."""
    t = np.arange(n)
    return [
        pose_at(x=1.5 * np.sin(i / 12), y=0.1 * np.sin(i / 5), z=step * i, yaw=0.12 * np.cos(i / 12))
        for i in t
    ]
