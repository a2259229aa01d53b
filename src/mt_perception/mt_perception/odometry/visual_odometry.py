"""Monocular visual odometry with a local map; see :class:`VisualOdometry`."""

from collections import deque
from dataclasses import replace
from time import perf_counter

import numpy as np

from mt_perception.errors import MtError
from mt_perception.matching.nearest import NearestMatcher
from mt_perception.odometry.absolute_pose import covariance
from mt_perception.odometry.classes import Classes
from mt_perception.odometry.frame import Frame
from mt_perception.odometry.geometry import (
    inverse,
    project,
    ray_angles,
    se3_exp,
    se3_log,
    skew,
    to_camera,
)
from mt_perception.odometry.local_map import LocalMap
from mt_perception.odometry.locator import Locator
from mt_perception.odometry.mapped_keyframe import mapped_keyframe
from mt_perception.odometry.mapping import Mapper
from mt_perception.odometry.metric_scale import SCALE_SOURCES, MetricScale
from mt_perception.odometry.parameters import OdometryParameters
from mt_perception.odometry.records import Record
from mt_perception.odometry.result import OdometryResult, OdometryState, ReferenceMatches
from mt_perception.odometry.scale import depth_ratio
from mt_perception.odometry.standstill import Standstill
from mt_perception.odometry.start_up import NO_PAIRS, StartUp

WIDE_SEARCH = 4  # times the search radius when only the motion model says where the camera is
RELOCALIZE_FACTOR = 1.5  # times min_inliers, before a pose without prediction is believed
# by scale source: of the logarithm of the depths at keypoints, where bundle adjustment is to know them
DEPTH_SIGMA = {'rgbd': 0.02}
CHEAP_FACTOR = 2  # times relocalize_keyframes: compared by mutual nearest neighbours


class VisualOdometry:
    """
    Follow one camera through keypoints alone; no ROS, no threads, the same input gives the same poses.

    A map starts from two views (:mod:`start_up`); it keeps a scale of its own, which :mod:`metric_scale`
    carries into metres for whatever is handed out. Every frame is matched to a reference keyframe, located by
    PnP, matched to the local map around the projections and located again (:mod:`locator`). Keyframes grow
    the map and adjust it (:mod:`mapping`).

    :param camera: :class:`mt_perception.camera.Camera`; keypoints of another image size get a scaled camera.
    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param parameters: :class:`OdometryParameters`.
    :param class_names: names of the keypoints' classes, see :meth:`set_classes`.
    :ivar state: :class:`OdometryState` of the last frame.
    :ivar segment: counts maps: it grows when a new one starts after a loss.
    :raises MtError: parameters that contradict each other.
    """

    def __init__(self, camera, matcher, parameters=None, class_names=()):
        """See the class."""
        self.camera = camera
        self.matcher = matcher
        self._nearest = NearestMatcher()
        self.parameters = parameters or OdometryParameters()
        check(self.parameters)
        self._map = None
        self._cameras = {(camera.width, camera.height): camera}
        self.set_classes(class_names)
        self.reset()

    def set_classes(self, class_names):
        """
        Say what the class ids of the keypoints mean; until then no class is anything special.

        :param class_names: {id: name}, or the names in the order of their ids.
        """
        self._classes = Classes.of(class_names, self.parameters)

    def reset(self):
        """Forget everything; the next frame is the origin again."""
        self.state = OdometryState.INITIALIZING
        self.segment = 0
        self._scale = MetricScale(self.parameters)
        self._keyframe_count = 0
        self._records = deque(maxlen=self.parameters.trajectory_frames)
        self._last = self._sent = None
        self._median_depth = None
        self._origin = np.zeros((6, 6)), np.zeros(3)
        self._set_map(None)
        self._start_up = StartUp(self.parameters, np.eye(4), np.zeros((6, 6)))

    @property
    def metric(self):
        """Whether positions are in metres."""
        return self._scale.metric

    def track(self, stamp, keypoints, global_descriptor=None):
        """
        Take the next frame.

        :param stamp: seconds. A stamp that is not newer than the last is dropped (the last result is
            returned again); one that lies more than ``max_step_back_s`` back means that time started anew,
            and so does the odometry.
        :param keypoints: :class:`mt_perception.types.Keypoints`.
        :param global_descriptor: [G] of the image, unit length, where there is one: it finds the keyframes to
            look at when lost.
        :return: :class:`OdometryResult`; :meth:`finish` does the rest of the work.
        """
        self.finish()
        start = perf_counter()
        if self._last is not None and stamp <= self._last.stamp:
            if self._last.stamp - stamp <= self.parameters.max_step_back_s:
                return self._sent
            self.reset()
        self._timings = {}
        if len(keypoints) > self.parameters.max_keypoints:
            keypoints = keypoints.select(slice(self.parameters.max_keypoints))
        movable = self._classes.is_movable(keypoints, self.parameters.movable_min_others)
        camera = self._camera_of(keypoints.image_size)
        frame = Frame(stamp, keypoints, camera, movable, global_descriptor)
        self._check_model(frame)
        if self._map is None:
            result = self._wait(frame)
        elif self.state == OdometryState.LOST:
            result = self._recover(frame)
        else:
            result = self._follow(frame)
        result.n_keypoints, result.n_movable = len(frame.rays), int(frame.movable.sum())
        result.timings_ms = {**self._timings, 'total': (perf_counter() - start) * 1e3}
        self._last = result
        self._sent = self._outward(result)
        return self._sent

    def finish(self):
        """
        Do what the last frame leaves to do after its pose is known: a new keyframe grows and adjusts the map.

        Whoever passes poses on calls this after it; :meth:`track` calls it where nobody has. The stages it
        takes are added to the ``timings_ms`` of the last result.
        """
        if self._pending is None:
            return
        start = perf_counter()
        frame, reference, pairs = self._pending
        self._pending = None
        self._timings = self._last.timings_ms
        self._timed('mapping', self._mapper.insert, frame, reference, pairs, self._locator.floor)
        self._timed('bundle_adjustment', self._mapper.adjust, frame, self._scale.factor)
        self._timed('culling', self._mapper.cull, frame)
        self._timed('scale', self._scale.observe, frame, self._map, self._classes.ground)
        self._scale.forget(self._records[0].stamp)
        self._standstill.moved()
        self._timings['total'] += (perf_counter() - start) * 1e3

    def trajectory(self):
        """
        Return the poses of all frames as known now, with later corrections of their keyframes and scale.

        :return: list of (stamp in seconds, pose [4,4]).
        """
        self.finish()
        if not self._records:
            return []
        stamps = np.array([record.stamp for record in self._records])
        poses = np.array([record.pose for record in self._records])
        return list(zip(stamps.tolist(), self._scale.path(stamps, poses)))

    def tracked(self):
        """Return for each entry of :meth:`trajectory` whether its pose was located against a map."""
        return [record.tracked for record in self._records]

    def map_points(self):
        """Return the points of the local map whose depth is sure, [N,3] float32 in the world."""
        if self._map is None:
            return np.zeros((0, 3), np.float32)
        ids = self._map.ids()
        sure = ids[self._map.depth_sigma[ids] == 0]
        return self._scale.points(self._map.position[sure]).astype(np.float32)

    def newest_keyframe(self):
        """
        Return the newest keyframe as :class:`MappedKeyframe`, None before the first.

        After :meth:`finish`, which gives a new keyframe its points.
        """
        if self._map is None or self._pending is not None:
            return None
        return mapped_keyframe(self._map.keyframes[-1], self._map, self._scale.factor, self.metric)

    # ---------------------------------------------------------------- start

    def _set_map(self, local_map):
        """Work on another map, or on none."""
        self._pending = None
        for keyframe in self._map.keyframes if self._map is not None else ():
            keyframe.release()
        self._map = local_map
        self._mapper = Mapper(local_map, self.parameters, DEPTH_SIGMA.get(self.parameters.scale_source))
        self._locator = Locator(local_map, self.parameters)
        self._reference = None
        self._standstill = Standstill(self.parameters.still_after_s)
        self._velocity = np.zeros(6)
        self._lost_frames = 0
        self._start_up = None

    def _check_model(self, frame):
        """Start anew at the last pose when the descriptors cannot be compared with the old ones any more."""
        known = self._reference or (self._start_up and self._start_up.reference)
        if known is None or known.comparable(frame):
            return
        if self._map is not None:
            self.segment += 1
        self._set_map(None)
        self.state = OdometryState.INITIALIZING
        self._start_up = StartUp(self.parameters, self._last.pose, self._huge())

    def _wait(self, frame):
        """Look for two views that a map can start from."""
        two_view = self._start_up.feed(frame, self._match_still)
        if two_view is not None:
            return self._make_map(frame, two_view)
        spread = self._huge() if self._records else np.zeros((6, 6))
        return self._unlocated(frame, self._start_up.pairs, spread, self._start_up.reference)

    def _make_map(self, frame, two_view):
        """Build the first map, fix its scale, adjust it and locate the frames since the first view."""
        started = self._start_up
        reference, pairs = started.reference, started.pairs[two_view.good]
        points = two_view.points[two_view.good]
        relative = two_view.pose.copy()
        depths = np.concatenate([points[:, 2], to_camera(inverse(relative), points)[:, 2]])
        factor = self._first_scale(reference, frame, pairs, depths)
        relative[:3, 3] *= factor
        start = reference.pose
        frame.world_to_camera = inverse(start @ relative)
        self._set_map(LocalMap(frame.descriptors.shape[1]))
        for view in (reference, frame):
            self._number(view)
            self._map.keyframes.append(view)
        ids = self._map.add_points(
            to_camera(start, points * factor), frame.descriptors[pairs[:, 1]], reference
        )
        self._map.observe(reference, pairs[:, 0], ids)
        self._map.observe(frame, pairs[:, 1], ids)
        self._timed('bundle_adjustment', self._mapper.adjust, frame, self._scale.factor)
        # covariances in the map are relative to its start
        self._origin = started.covariance, self._scale.points(start[:3, 3])
        self._locate_waiting(reference, started.waiting)
        self.state = OdometryState.TRACKING
        rows = np.flatnonzero(frame.point_ids >= 0)
        estimate = self._locator.refine(frame, frame.point_ids[rows], rows, frame.world_to_camera)
        own = covariance(estimate)
        frame.covariance = self._chain(reference, frame, own)
        self._locator.learn(frame)
        previous = self._records[-1]
        self._set_velocity(inverse(previous.pose), frame.world_to_camera, frame.stamp - previous.stamp)
        self._reference = frame
        self._records.append(Record(frame.stamp, frame, frame.world_to_camera, tracked=True))
        return self._result(
            frame,
            frame.covariance,
            own,
            is_keyframe=True,
            n_matches=len(started.pairs),
            n_inliers=len(rows),
            matches=display(reference, frame, started.pairs, rows),
        )

    def _first_scale(self, reference, frame, pairs, depths):
        """
        Return the factor from two-view units to those of the map.

        Metres where depth gives them (only roughly where the scale comes from something else), else what
        makes the map as large as the one before.
        """
        p = self.parameters
        known = (reference.keypoints.depth[pairs[:, 0]], frame.keypoints.depth[pairs[:, 1]])
        estimate = None
        if p.scale_source != 'none':
            estimate = depth_ratio(np.concatenate(known), depths, p.scale_min_points)
        self._scale.start_map(reference.stamp, None if p.scale_source == 'camera_height' else estimate)
        if estimate is not None and (p.scale_source != 'camera_height' or self._median_depth is None):
            return estimate.factor
        return (self._median_depth or p.initial_median_depth) / np.median(depths)

    def _locate_waiting(self, reference, waiting):
        """Locate the frames between the two first views against the new map."""
        records = {}
        for record in reversed(self._records):
            records[record.stamp] = record
            if record.stamp <= reference.stamp:
                break
        for one in waiting:
            frame, pairs = one.frame, one.pairs
            ids = reference.point_ids[pairs[:, 0]]
            estimate = self._locator.locate(frame, ids[ids >= 0], pairs[ids >= 0, 1])
            if self._enough(estimate):
                records[frame.stamp].anchor_to(reference, estimate.world_to_camera, tracked=True)
        records[reference.stamp].anchor_to(reference, reference.world_to_camera, tracked=True)

    # ---------------------------------------------------------------- tracking

    def _follow(self, frame):
        """Locate a frame against the map, starting from where the motion model expects it."""
        p, locator = self.parameters, self._locator
        gap = frame.stamp - self._last.stamp
        motion = self._velocity * gap if gap <= p.max_gap_s else np.zeros(6)
        guess = se3_exp(motion) @ inverse(self._last.pose)
        frame.world_to_camera = guess
        pairs = self._match(self._reference, frame, self._nearest)
        found = self._timed('locate', locator.from_pairs, frame, self._reference, pairs)
        if not self._enough(found[0], least=p.nearest_min_inliers) and self.matcher.name != 'nearest':
            frame.world_to_camera = guess
            pairs = self._match(self._reference, frame)
            found = self._timed('locate', locator.from_pairs, frame, self._reference, pairs)
        if not self._enough(found[0]):
            found = self._timed('locate', locator.search, frame, guess, widen=WIDE_SEARCH)
        if not self._enough(found[0]):
            self.state = OdometryState.LOST
            self._lost_frames = 0
            self._standstill.moved()
            return self._hold(frame, pairs, self._reference)
        return self._accept(frame, pairs, *found, gap)

    def _enough(self, estimate, least=None):
        """Whether a pose has enough inliers, ``least`` or those without which a frame is lost."""
        least = self.parameters.min_inliers if least is None else least
        return estimate is not None and estimate.n_inliers >= least

    def _accept(self, frame, pairs, estimate, ids, rows, gap):
        """Take over a pose that was found, and make a keyframe when it is time."""
        p = self.parameters
        reference, inlier = self._reference, estimate.inlier
        frame.world_to_camera = self._standstill.settle(frame.stamp, estimate)
        frame.point_ids[rows[inlier]] = ids[inlier]
        self._locator.learn(frame)
        self._set_velocity(inverse(self._last.pose), frame.world_to_camera, gap)
        own = covariance(estimate)
        frame.covariance = self._chain(reference, frame, own)
        self._median_depth = float(
            np.median(to_camera(frame.world_to_camera, self._map.position[ids[inlier]])[:, 2])
        )
        matches = display(reference, frame, pairs, rows[inlier])
        # while the camera rests there is nothing to learn, and adjusting the map would move it
        rests = self._standstill.held is not None and self._enough(estimate, p.nearest_min_inliers)
        is_keyframe = not rests and self._wants_keyframe(frame, reference)
        if is_keyframe:
            self._number(frame)
            self._pending = (frame, reference, pairs)
            self._reference = frame
        else:
            self._reference = self._best_reference(frame)
        self.state = OdometryState.TRACKING
        self._start_up = None
        self._records.append(Record(frame.stamp, self._reference, frame.world_to_camera, tracked=True))
        return self._result(
            frame,
            frame.covariance,
            own,
            is_keyframe=is_keyframe,
            n_matches=len(rows),
            n_inliers=int(inlier.sum()),
            matches=matches,
        )

    def _wants_keyframe(self, frame, reference):
        """Decide by what of the reference is in view, how far points have moved and how many there are."""
        p, local_map = self.parameters, self._map
        ids, known = local_map.seen_by(frame), local_map.seen_by(reference)
        angle = ray_angles(local_map.position[ids], frame.pose[:3, 3], reference.pose[:3, 3])
        some, median = np.degrees(np.quantile(angle, (0.75, 0.5)))
        in_view = frame.inside(project(to_camera(frame.world_to_camera, local_map.position[known])))
        overlap = float(in_view.mean()) if len(known) else 0.0
        if overlap < p.keyframe_min_overlap:
            return True
        if some < p.keyframe_min_parallax_deg:
            return False
        return bool(
            overlap < p.keyframe_overlap or median > p.keyframe_parallax_deg or len(ids) < p.target_points
        )

    def _best_reference(self, frame):
        """Return the keyframe that sees the most of the points tracked now; the newer one on ties."""
        shared = self._map.shared(self._map.seen_by(frame))
        return self._map.keyframes[len(shared) - 1 - int(np.argmax(shared[::-1]))]

    # ---------------------------------------------------------------- loss

    def _recover(self, frame):
        """Look for the camera in the old map; after a while also for the start of a new one."""
        p = self.parameters
        pairs, keyframe = NO_PAIRS, None
        for keyframe, matcher in self._places_to_look(frame):
            pairs = self._match(keyframe, frame, matcher)
            frame.world_to_camera = keyframe.world_to_camera
            found = self._timed('locate', self._locator.from_pairs, frame, keyframe, pairs)
            if self._enough(found[0], RELOCALIZE_FACTOR * p.min_inliers):
                self._reference = keyframe
                return self._accept(frame, pairs, *found, np.inf)
        if len(frame.rays) >= p.init_min_matches:
            self._lost_frames += 1
        if self._lost_frames > p.lost_frames:
            if self._start_up is None:
                self._start_up = StartUp(p, self._last.pose, self._huge())
            two_view = self._start_up.feed(frame, self._match_still)
            if two_view is not None:
                self.segment += 1
                return self._make_map(frame, two_view)
            return self._unlocated(frame, pairs, self._huge(), keyframe)
        return self._hold(frame, pairs, keyframe)

    def _places_to_look(self, frame):
        """Return the (keyframe, matcher) that a lost frame is compared with, the cheap matcher first."""
        count = self.parameters.relocalize_keyframes
        keyframes = self._locator.most_alike(frame, CHEAP_FACTOR * count)
        cheap = [(keyframe, self._nearest) for keyframe in keyframes]
        if self.matcher.name == 'nearest':
            return cheap
        return cheap + [(keyframe, self.matcher) for keyframe in keyframes[:count]]

    def _hold(self, frame, pairs, keyframe):
        """Report the last pose for a frame that could not be located."""
        frame.world_to_camera = inverse(self._last.pose)
        return self._unlocated(frame, pairs, self._huge(), keyframe)

    def _unlocated(self, frame, pairs, spread, reference):
        """Report a frame whose pose is not located against a map; ``pairs`` are with ``reference``."""
        self._records.append(Record(frame.stamp, self._reference, frame.world_to_camera, tracked=False))
        matches = display(reference, frame, pairs, np.zeros(0, np.int64))
        return self._result(frame, spread, spread, n_matches=len(pairs), matches=matches)

    # ---------------------------------------------------------------- helpers

    def _outward(self, result):
        """Return a result of the map in metres; it shares everything else with the original."""
        scale = self._scale
        scale.follow(result.stamp, result.pose[:3, 3])
        pose, spread, own = scale.outward(result.pose), result.covariance, result.local_covariance
        if result.state == OdometryState.TRACKING:
            start, position = self._origin
            spread = scale.covariance(spread, result.pose) + moved_covariance(start, pose[:3, 3] - position)
            own = scale.local_covariance(own)
        return replace(
            result,
            pose=pose,
            covariance=spread,
            local_covariance=own,
            metric=scale.metric,
            scale_sigma=scale.sigma,
        )

    def _camera_of(self, image_size):
        """Camera for an image of this size."""
        size = tuple(int(v) for v in image_size)
        if size not in self._cameras:
            self._cameras[size] = self.camera.scaled(*size)
        return self._cameras[size]

    def _match(self, reference, frame, matcher=None):
        """Pairs [M,2] of keypoints of ``reference`` and ``frame`` by a matcher, by default the odometry's."""
        matches = self._timed('match', (matcher or self.matcher).match, reference.keypoints, frame.keypoints)
        return np.asarray(matches.index, np.int64).reshape(-1, 2)

    def _match_still(self, reference, frame):
        """The same without keypoints on movable things."""
        pairs = self._match(reference, frame)
        return pairs[~reference.movable[pairs[:, 0]] & ~frame.movable[pairs[:, 1]]]

    def _number(self, frame):
        """Give a keyframe its id."""
        frame.id = self._keyframe_count
        self._keyframe_count += 1

    def _set_velocity(self, before, after, gap):
        """Twist per second between two world-to-camera poses."""
        usable = 0 < gap <= self.parameters.max_gap_s
        self._velocity = se3_log(after @ inverse(before)) / gap if usable else np.zeros(6)

    def _chain(self, reference, frame, own):
        """Covariance of a frame: its reference keyframe's, moved to it, and ``own`` of the pose estimate."""
        return moved_covariance(reference.covariance, frame.pose[:3, 3] - reference.pose[:3, 3]) + own

    def _huge(self):
        """Covariance of a pose that is not known, as it is handed out."""
        return np.eye(6) * self.parameters.lost_variance

    def _timed(self, stage, function, *arguments, **named):
        """Call a function and add its time to a stage."""
        began = perf_counter()
        out = function(*arguments, **named)
        self._timings[stage] = self._timings.get(stage, 0.0) + (perf_counter() - began) * 1e3
        return out

    def _result(self, frame, spread, own, **more):
        """
        Build the result of a frame in units of the map.

        :param spread: [6,6] covariance since the map started, or as it is handed out of a pose not located.
        :param own: [6,6] within the map.
        """
        return OdometryResult(
            frame.stamp,
            self.state,
            frame.pose,
            spread.copy(),
            own.copy(),
            segment=self.segment,
            **more,
        )


def moved_covariance(spread, step):
    """Return the covariance [6,6] of a pose carried over to one ``step`` [3] away and rigidly tied to it."""
    move = np.eye(6)
    move[:3, 3:] = -skew(step)
    return move @ spread @ move.T


def check(parameters):
    """
    Check what no single value's range can say.

    :raises MtError: parameters that contradict each other.
    """
    if parameters.scale_source not in SCALE_SOURCES:
        raise MtError(
            f"parameter 'scale_source' is '{parameters.scale_source}', not one of {', '.join(SCALE_SOURCES)}"
        )
    if parameters.scale_source == 'camera_height' and not parameters.camera_height > 0:
        raise MtError(
            "scale_source camera_height needs parameter 'camera_height': metres from the ground to the camera"
        )


def display(reference, frame, pairs, inlier_rows):
    """Return the :class:`ReferenceMatches` of pairs [M,2]; ``inlier_rows`` of the frame fit the pose."""
    if reference is None or reference is frame or len(pairs) == 0:
        return ReferenceMatches()
    return ReferenceMatches(
        reference.stamp,
        reference.keypoints.xy[pairs[:, 0]],
        frame.keypoints.xy[pairs[:, 1]],
        np.isin(pairs[:, 1], inlier_rows),
    )
