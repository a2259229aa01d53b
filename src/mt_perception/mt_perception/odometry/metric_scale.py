"""How many metres a unit of the map is, and poses in metres that never jump."""

from dataclasses import dataclass

import numpy as np

from mt_perception.odometry.geometry import inverse, to_camera
from mt_perception.odometry.ground import Ground
from mt_perception.odometry.scale import depth_ratio
from mt_perception.odometry.scale_filter import ScaleFilter


@dataclass(frozen=True)
class Noise:
    """
    How far what one keyframe says about the scale is off; standard deviations of its logarithm.

    :param own: of one keyframe, beside the spread of its points.
    :param run: keyframes in a row that err alike.
    :param common: of what all keyframes have in common, so that no number of them averages it out.
    """

    own: float
    run: int
    common: float

    def widen(self, seen):
        """Return (value, its sigma as one of a run) of what a keyframe says, (value, sigma) or None."""
        if seen is None:
            return None, None
        return seen[0], np.sqrt((seen[1] ** 2 + self.own**2) * self.run)


NOISE = {
    'depth': Noise(0.2, 8, 0.1),  # a network's depth
    'rgbd': Noise(0.01, 2, 0.01),  # a depth camera's
    'camera_height': Noise(0.05, 3, 0.02),  # kerbs and bumps; the height as it was measured
}
SCALE_SOURCES = (*NOISE, 'none')
# of the log scale of a map that was made as large as the one before, and of one whose size nothing gave
CARRIED_SIGMA, UNKNOWN_SIGMA = 0.3, 3.0


class MetricScale:
    """
    Carries what the map says, in units of its own, into metres.

    Each keyframe says something about the scale and, where the ground is in sight, how high the camera is
    above it in the map; a :class:`ScaleFilter` fuses both. The scale in use follows the estimate slowly
    (``scale_rate``), and a change of it leaves the camera where it is: positions handed out are ``factor ·
    map position + offset`` and never jump. :meth:`path` is what is known in the end, with the scale at every
    keyframe as all observations give it. Without a source all of it is the identity.

    :param parameters: :class:`OdometryParameters`.
    :ivar metric: what is handed out is in metres.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self._noise = NOISE.get(parameters.scale_source)
        self._log = 0.0  # of the factor in use
        self._offset = np.zeros(3)
        self._position = np.zeros(3)  # of the camera at the last frame, map units
        self._stamp = None
        self._filters = []  # (stamp of the first frame of a map, its ScaleFilter)
        self._first_variance = (
            np.inf
        )  # of the first value; a run of keyframes that err alike does not add to it
        self._ground = Ground()
        self._last_keyframe = None
        self.metric = False

    @property
    def factor(self):
        """Metres per map unit, as in use now."""
        return float(np.exp(self._log))

    @property
    def sigma(self):
        """Standard deviation of the logarithm of the factor in use; infinite when it is not metric."""
        if not self.metric:
            return float('inf')
        latest = self._filters[-1][1]
        variance = min(latest.variance, self._first_variance)
        return float(np.sqrt(variance + (latest.mean - self._log) ** 2 + self._noise.common**2))

    def start_map(self, stamp, estimate):
        """
        Go over to a new map, which begins where the camera is.

        :param stamp: of its first frame, seconds.
        :param estimate: :class:`ScaleEstimate` that the map was made metric with, or None when it was made
            as large as the one before (or of any size when it is the first).
        """
        if self._noise is None:
            return
        self._last_keyframe = None
        before = self._filters[-1][1] if self._filters else None
        if estimate is not None:
            self._first_variance = estimate.sigma**2 + self._noise.own**2
            own = np.sqrt(self._first_variance * self._noise.run)
            started = ScaleFilter(0.0, own, self.parameters.scale_drift, before)
            started.step(stamp)
            self._use(0.0)
            self.metric = True
        else:
            sigma = CARRIED_SIGMA if self.metric else UNKNOWN_SIGMA
            self._first_variance = sigma**2
            started = ScaleFilter(self._log, sigma, self.parameters.scale_drift, before)
        self._filters.append((stamp, started))

    def observe(self, keyframe, local_map, ground_classes):
        """
        Take in what a keyframe says about the scale.

        :param keyframe: :class:`Frame` whose points have been adjusted.
        :param local_map: :class:`LocalMap`.
        :param ground_classes: [K] ids of the classes that the camera's carrier moves on.
        """
        if self._noise is None:
            return
        rows = np.flatnonzero((keyframe.point_ids >= 0) & ~keyframe.movable)
        rows = rows[local_map.depth_sigma[keyframe.point_ids[rows]] == 0]
        local = to_camera(keyframe.world_to_camera, local_map.position[keyframe.point_ids[rows]])
        on_ground = np.isin(keyframe.keypoints.class_id[rows], ground_classes)
        height = self._height(keyframe, local[on_ground])
        if self.parameters.scale_source == 'camera_height':
            seen, height = height and (np.log(self.parameters.camera_height) - height[0], height[1]), None
        else:
            seen = self._from_depth(keyframe.keypoints.depth[rows], local[:, 2])
        latest = self._filters[-1][1]
        latest.step(keyframe.stamp, *self._noise.widen(seen), *NOISE['camera_height'].widen(height))
        if seen is not None and not self.metric:
            self._first_variance = seen[1] ** 2 + self._noise.own**2
            self._use(latest.mean)
            self.metric = True

    def forget(self, stamp):
        """Forget what :meth:`path` needs of the time before ``stamp``."""
        while len(self._filters) > 1 and self._filters[1][0] <= stamp:
            del self._filters[0]
        for _, one in self._filters:
            one.forget(stamp)

    def follow(self, stamp, position):
        """
        Go on to the next frame: the factor in use moves towards the estimate.

        :param position: [3] of the camera in the map.
        """
        if self.metric and self._stamp is not None:
            most = self.parameters.scale_rate * max(0.0, stamp - self._stamp)
            self._use(self._log + np.clip(self._filters[-1][1].mean - self._log, -most, most))
        self._stamp, self._position = stamp, position.copy()

    def outward(self, pose):
        """Return a pose [4,4] of the map as it is handed out."""
        out = pose.copy()
        out[:3, 3] = self.points(pose[:3, 3])
        return out

    def points(self, positions):
        """Return positions [..., 3] of the map as they are handed out."""
        return self.factor * positions + self._offset

    def covariance(self, spread, pose):
        """
        Return the covariance [6,6] of a pose of the map as it is handed out.

        An error of the scale moves the camera along the line from where the odometry started; how it grew
        on the way does not matter.
        """
        out = self.local_covariance(spread)
        if self.metric:
            away = self.points(pose[:3, 3])
            out[:3, :3] += self.sigma**2 * away[:, None] * away
        return out

    def local_covariance(self, spread):
        """Return a covariance [6,6] of the map in metres, as if the scale were known exactly."""
        unit = np.ones(6)
        unit[:3] = self.factor
        return spread * unit[:, None] * unit

    def path(self, stamps, poses):
        """
        Return poses of the map in metres, as known in the end.

        :param stamps: [N] seconds, ascending.
        :param poses: [N,4,4] of the map, or of one map after the other.
        :return: [N,4,4], the first where it was.
        """
        if not self.metric or len(poses) < 2:
            return poses
        logs = np.zeros(len(stamps))
        for first, one in self._filters:
            times, values = one.smoothed()
            later = stamps >= first
            logs[later] = np.interp(stamps[later], times, values)
        factor = np.exp((logs[1:] + logs[:-1]) / 2)
        out = poses.copy()
        steps = np.diff(poses[:, :3, 3], axis=0) * factor[:, None]
        out[1:, :3, 3] = out[0, :3, 3] + np.cumsum(steps, axis=0)
        return out

    def _use(self, log):
        """Change the factor in use; the camera stays where it is."""
        before = self.factor
        self._log = float(log)
        self._offset += (before - self.factor) * self._position

    def _from_depth(self, depths, map_depths):
        """Return (log of metres per map unit, its sigma) from depths [N] and those in the map, or None."""
        ratio = depth_ratio(depths, map_depths, self.parameters.scale_min_points)
        return None if ratio is None else (np.log(ratio.factor), ratio.sigma)

    def _height(self, keyframe, points):
        """Return (log of the camera's height in map units, its sigma) from ground points [N,3], or None."""
        world_to_camera = keyframe.world_to_camera.copy()
        if self._last_keyframe is not None:
            self._ground.learn_course(self._last_keyframe @ inverse(world_to_camera))
        self._last_keyframe = world_to_camera
        return self._ground.height(points)


def without_scale(covariance, position, scale_sigma):
    """
    Return the covariance [6,6] of a pose as if the scale were known exactly.

    :param covariance: [6,6] as it is handed out.
    :param position: [3] from where odometry started, along the same axes.
    :param scale_sigma: see :class:`OdometryResult`.
    """
    out = np.array(covariance, np.float64)
    if np.isfinite(scale_sigma):
        out[:3, :3] -= scale_sigma**2 * position[:, None] * position
    return out
