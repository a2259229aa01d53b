"""Views and keyframes of a synthetic world, with a global descriptor that tells places apart, and a drift."""

import numpy as np

from mt_perception.odometry.geometry import inverse, se3_exp, skew
from mt_perception.place_recognition import Keyframe, View
from synthetic_world import World, pose_at

GLOBAL_DIM = 64
REACH = 6.0  # metres over which the global descriptor changes


class Places:
    """
    A ring road through a box of points, with views from any pose on it.

    :param radius: of the road in metres.
    :param n_points: of the world.
    """

    def __init__(self, radius=20.0, n_points=6000, seed=0):
        side = radius + 14
        self.radius = radius
        self.world = World(seed, n_points, (-side, -4, -side), (side, 2, side))
        rng = np.random.default_rng(seed + 100)
        self.frequency = rng.normal(0, 1 / REACH, (GLOBAL_DIM, 3))
        self.turn = rng.normal(0, 1.0, (GLOBAL_DIM, 3))
        self.phase = rng.uniform(0, 2 * np.pi, GLOBAL_DIM)

    def pose(self, angle):
        """Camera-to-world pose [4,4] on the ring, looking ahead; ``angle`` in radians."""
        x, z = -self.radius * np.cos(angle), self.radius * np.sin(angle)
        return pose_at(x=x, z=z, yaw=angle)

    def descriptor(self, pose):
        """Global descriptor [G] of an image: cosines of place and heading, by random frequencies."""
        vector = np.cos(self.frequency @ pose[:3, 3] + self.turn @ pose[:3, 2] + self.phase)
        return vector / np.linalg.norm(vector)

    def view(self, pose, number=0, stamp=None, scale=1.0, depth_noise=0.02, **image):
        """View from a pose; its depths are exact but for noise, in units of 1 / ``scale`` metres."""
        keypoints = self.world.image(pose, number, depth_noise=depth_noise, depth_scale=scale, **image)
        stamp = float(number) if stamp is None else stamp
        return View.create(stamp, keypoints, self.world.camera, self.descriptor(pose), 'camera')

    def keyframes(self, poses, drift=(0.0, 0.0, 0.0), first=0, seed=5, lost_at=None):
        """
        Keyframes along poses as odometry with a drift sees them.

        :param drift: per step (share of its length, degrees, logarithm of the scale), standard deviations.
        :param lost_at: keyframe at which odometry begins anew, somewhere else.
        :return: list of :class:`Keyframe`; odometry's origin is the first pose.
        """
        rng = np.random.default_rng(seed)
        out, present, scale, covariance = [], np.eye(4), 1.0, np.zeros((6, 6))
        for k, pose in enumerate(poses):
            if k:
                step = inverse(poses[k - 1]) @ pose
                length = np.linalg.norm(step[:3, 3])
                noise = np.concatenate(
                    [rng.normal(0, drift[0] * length, 3), rng.normal(0, np.radians(drift[1]), 3)]
                )
                scale *= np.exp(rng.normal(0, drift[2]))
                step[:3, 3] *= scale
                before, present = present, present @ step @ se3_exp(noise)
                lever = np.eye(6)
                lever[:3, 3:] = -skew(present[:3, 3] - before[:3, 3])
                covariance = lever @ covariance @ lever.T + np.eye(6) * 1e-6
            if k == lost_at:
                present = se3_exp(np.array([8.0, 0, -5.0, 0, 0.5, 0])) @ present
                covariance = np.eye(6) * 1e6
            number = first + k
            view = self.view(pose, number, scale=scale)
            out.append(Keyframe(float(number), present, covariance, view, metric=True))
        return out


def lap(places, n, laps=1.0):
    """Poses of ``n`` keyframes evenly spread over some laps of the ring."""
    return [places.pose(2 * np.pi * laps * k / n) for k in range(n)]
