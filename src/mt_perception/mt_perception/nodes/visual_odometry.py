"""
The visual odometry node: keypoints in, the motion of the robot out.

``visual_odometry`` (executable). Subscribes ``perception/keypoints``, ``perception/label_info``,
``camera_info`` and ``/tf_static``; ``depth/image`` when the scale comes from a depth camera, and
``perception/global_descriptor`` when it is to find places again; publishes
``visual_odometry/odometry``, ``visual_odometry/state``, ``visual_odometry/path``,
``visual_odometry/map_points``, ``visual_odometry/keyframes`` and the transform odom → base_link (REP 105);
offers ``visual_odometry/reset`` and ``visual_odometry/save_trajectory``.
"""

import os
import sys
import threading
import time
from collections import deque
from pathlib import Path as FilePath

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from mt_msgs.msg import GlobalDescriptor, KeypointArray, VisualOdometryState
from mt_msgs.srv import SaveTrajectory
from mt_perception.errors import CameraError, ImageError, MtError
from mt_perception.nodes.camera_input import CameraInput
from mt_perception.nodes.camera_mount import CameraMount, mount_from_parameter
from mt_perception.nodes.class_names import ClassNames
from mt_perception.nodes.conversions import (
    cloud_from_points,
    depth_from_image,
    seconds_from_stamp,
    transform_to_message,
)
from mt_perception.nodes.feature_messages import keypoints_from_message, keypoints_to_message
from mt_perception.nodes.health import timing_values
from mt_perception.nodes.managed_node import ManagedNode
from mt_perception.nodes.matcher_parameters import matcher_of
from mt_perception.nodes.odometry_messages import BaseMotion, odometry_message, state_message
from mt_perception.nodes.odometry_parameters import odometry_parameters_of
from mt_perception.nodes.qos import input_qos, output_qos, subscription_events
from mt_perception.nodes.runner import run
from mt_perception.nodes.stamped_input import StampedInput
from mt_perception.nodes.timing import Rate, Timings
from mt_perception.nodes.visual_odometry_parameters import PARAMETERS
from mt_perception.nodes.worker import Worker
from mt_perception.odometry import OdometryState, VisualOdometry
from mt_perception.odometry.visual_odometry import check
from mt_perception.perception.sampling import with_depth
from mt_perception.sequences.trajectory_io import write_tum
from mt_perception.types import UNKNOWN_CLASS

SILENCE_S = 5.0
SAME_STAMP_S = 1e-6  # of messages about the same image, as far apart as seconds in floating point are
# why positions are not in metres, by the parameter scale_source
NOT_METRIC = {
    'depth': 'the keypoints carry no metric depth',
    'rgbd': 'no depth image has the stamp of a frame',
    'camera_height': 'too few map points are of a class of the ground',
}


class VisualOdometryNode(ManagedNode):
    """
    Follows the camera from its keypoints alone.

    A worker thread takes every frame in order; a short queue bridges a frame that takes longer (a
    keyframe with bundle adjustment). When the queue is full the oldest frame is dropped and counted:
    the odometry stays current rather than complete.
    """

    PARAMETERS = PARAMETERS

    def __init__(self, **arguments):
        self._matcher = None
        self._odometry = None
        self._camera = self._calibration = None
        self._worker = None
        self._keypoints = None
        self._mounts = None
        self._class_names = None
        self._depth = self._global = None
        self._publishers_by_name = {}
        self._own_services = []
        self._lock = threading.Lock()  # the odometry, between worker and services
        self._mount = None
        self._held = deque()
        self._path = deque()
        self._previous = None
        self._last = None
        self._sent = {}
        self._rate = Rate()
        self._published = Rate()
        self._timings = Timings()
        self._held_dropped = self._late = 0
        self._activated_at = 0.0
        super().__init__('visual_odometry', **arguments)

    def configure(self):
        """Load the matcher, make publishers and services."""
        p = self.parameters
        self.health.clear_all()
        mount_from_parameter(p)  # a wrong one is said now
        check(odometry_parameters_of(p))
        self._matcher = matcher_of(self)
        for name, message_type in (
            ('odometry', Odometry),
            ('state', VisualOdometryState),
            ('path', Path),
            ('map_points', PointCloud2),
            ('keyframes', KeypointArray),
        ):
            self._publishers_by_name[name] = self.create_lifecycle_publisher(
                message_type, f'visual_odometry/{name}', output_qos()
            )
        self._publishers_by_name['tf'] = self.create_lifecycle_publisher(TFMessage, '/tf', output_qos(100))
        self._own_services = [
            self.create_service(Trigger, 'visual_odometry/reset', self._on_reset),
            self.create_service(SaveTrajectory, 'visual_odometry/save_trajectory', self._on_save),
        ]

    def activate(self):
        """Start the worker and subscribe."""
        p = self.parameters
        self._activated_at = time.monotonic()
        self._rate, self._published, self._timings = Rate(), Rate(), Timings()
        self._held, self._held_dropped, self._late = deque(), 0, 0
        self._worker = Worker(self._work, depth=p.queue_size, on_error=self.report_bug, name='odometry')
        self._mounts = CameraMount(self)
        self._class_names = ClassNames(self, self._on_class_names)
        if p.scale_source == 'rgbd':
            self._depth = StampedInput(self, Image, 'depth/image', p.input_reliability, p.depth_tolerance)
        if p.use_global_descriptor:
            self._global = StampedInput(
                self, GlobalDescriptor, 'perception/global_descriptor', p.input_reliability, SAME_STAMP_S
            )
        self._camera = CameraInput(self, 'camera_info', p.rectified, self._on_camera)
        resolved = self.resolve_topic_name('perception/keypoints')
        self._keypoints = self.create_subscription(
            KeypointArray,
            'perception/keypoints',
            self._on_keypoints,
            input_qos(p.input_reliability, p.queue_size),
            event_callbacks=subscription_events(lambda text: self.health.error('qos', text), resolved),
        )

    def deactivate(self):
        """Unsubscribe and stop the worker; the map is kept for the next activation."""
        if self._keypoints is not None:
            self.destroy_subscription(self._keypoints)
            self._keypoints = None
        for waiting in (self._mounts, self._class_names, self._depth, self._global):
            if waiting is not None:
                waiting.stop_waiting()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        for name in ('_camera', '_mounts', '_class_names', '_depth', '_global'):
            if getattr(self, name) is not None:
                getattr(self, name).destroy()
                setattr(self, name, None)

    def cleanup(self):
        """Free the matcher, the map, the publishers and services."""
        while self._own_services:
            self.destroy_service(self._own_services.pop())
        while self._publishers_by_name:
            self.destroy_lifecycle_publisher(self._publishers_by_name.popitem()[1])
        if self._matcher is not None:
            if hasattr(self._matcher, 'close'):
                self._matcher.close()
            self._matcher = None
        self._forget()
        self._odometry = None

    def _forget(self):
        """Forget the motion so far; the next frame is the origin again."""
        if self._odometry is not None:
            self._odometry.reset()
        self._mount = None
        self._previous = self._last = None
        self._path = deque(maxlen=self.parameters.path_length)

    def _on_keypoints(self, message):
        """Hand a frame to the worker, or hold it until the camera is known."""
        self._rate.tick()
        if self._worker is None:
            return
        if self._camera.received:
            self._worker.put((message, time.perf_counter()))
            return
        if len(self._held) == self.parameters.queue_size:
            self._held.popleft()
            self._held_dropped += 1
        self._held.append((message, time.perf_counter()))

    def _on_camera(self):
        """Work on the frames that waited for the camera; a new calibration starts anew."""
        self.health.clear('camera')
        before, self._calibration = self._calibration, self._camera.signature
        if self._odometry is not None and self._calibration != before:
            self.get_logger().warning('camera_info changed: odometry starts anew with the new calibration')
            with self._lock:
                self._forget()
                self._odometry = None
        while self._held and self._worker is not None:
            self._worker.put(self._held.popleft())

    def _on_class_names(self, names):
        """Tell the odometry what the classes are called now."""
        with self._lock:
            if self._odometry is not None:
                self._odometry.set_classes(names)

    def _names_of_classes(self, keypoints):
        """Return {id: name}; keypoints without classes need not wait for it."""
        classified = bool((keypoints.class_id != UNKNOWN_CLASS).any())
        return self._class_names.wait(self.parameters.label_info_timeout if classified else 0.0)

    def _work(self, item):
        """Work on one frame; called by the worker."""
        message, received = item
        started = time.perf_counter()
        stamp = seconds_from_stamp(message.header.stamp)
        try:
            keypoints = keypoints_from_message(message)
            camera = self._camera.fit(keypoints.image_size)
            if self._depth is not None:
                keypoints = with_depth(keypoints, self._depth_at(stamp))
            described = self._description_at(stamp)
            with self._lock:
                if self._mount is None:
                    self._mount = self._mounts.find(self.parameters.base_frame, message.header.frame_id)
                if self._odometry is None:
                    self._odometry = VisualOdometry(
                        camera,
                        self._matcher,
                        odometry_parameters_of(self.parameters),
                        self._names_of_classes(keypoints),
                    )
                converted = time.perf_counter()
                result = self._odometry.track(stamp, keypoints, described)
                points = (
                    self._odometry.map_points()
                    if self._is_due('map_points', self.parameters.map_period)
                    else None
                )
                mount = self._mount
            self.health.clear('keypoints')
            self.health.clear('camera')
        except CameraError as error:
            self.health.error('camera', str(error))
            return
        except MtError as error:
            self.health.error('keypoints', str(error))
            return
        tracked = time.perf_counter()
        if result is self._last:
            if stamp < result.stamp:  # else it was sent twice
                self._report_late(result.stamp - stamp)
            return
        self.health.clear('late')
        self._publish(message.header, result, mount, points)
        done = time.perf_counter()
        with self._lock:
            if self._odometry is not None:
                self._odometry.finish()
                self._publish_keyframe(message.header, result)
        self._timings.add(
            {
                'wait': (started - received) * 1e3,
                'convert': (converted - started) * 1e3,
                **{stage: ms for stage, ms in result.timings_ms.items() if stage != 'total'},
                'publish': (done - tracked) * 1e3,
                'total': (done - received) * 1e3,
            }
        )

    def _depth_at(self, stamp):
        """Return the depth camera's image of a frame, None without."""
        message = self._depth.wait(stamp, self.parameters.depth_timeout)
        if message is None:
            self.health.warn(
                'depth',
                f'no image on {self._depth.topic} within {self.parameters.depth_tolerance:g} s of a frame: '
                'the scale is kept without it',
            )
            return None
        try:
            depth = depth_from_image(message)
        except ImageError as error:
            self.health.error('depth', str(error))
            return None
        self.health.clear('depth')
        return depth

    def _description_at(self, stamp):
        """Return the global descriptor [G] of a frame, None without."""
        if self._global is None:
            return None
        message = self._global.wait(stamp, self.parameters.global_descriptor_timeout)
        return None if message is None else np.array(message.descriptor, np.float32)

    def _report_late(self, seconds):
        self._late += 1
        self.health.warn(
            'late',
            f'keypoints {seconds:.2f} s older than the last ones were dropped: time that runs back by at '
            f"most {self.parameters.max_step_back_s:g} s (parameter 'max_step_back_s') counts as disorder; "
            'when a sequence begins again, call visual_odometry/reset',
        )

    def _is_due(self, name, period):
        """Tell whether a topic that goes out now and then is due, and has a subscriber."""
        if self._publishers_by_name[name].get_subscription_count() == 0:
            return False
        now = time.monotonic()
        if now - self._sent.get(name, -1e9) < period:
            return False
        self._sent[name] = now
        return True

    def _publish(self, header, result, mount, points):
        p = self.parameters
        if self._last is not None and result.stamp < self._last.stamp:
            self.get_logger().warning('time jumped back: odometry starts anew')
            self._path.clear()
            self._previous = None
        tracking = result.state == OdometryState.TRACKING
        self._report_state(result)
        out = Header(stamp=header.stamp, frame_id=p.odom_frame)
        now = BaseMotion.of(result, mount)
        previous = self._previous if tracking else None
        odometry = odometry_message(out, p.base_frame, now, previous, p.lost_variance)
        self._publishers_by_name['odometry'].publish(odometry)
        self._publishers_by_name['state'].publish(state_message(out, result))
        if p.publish_tf:
            transform = TransformStamped(header=out, child_frame_id=p.base_frame)
            transform.transform = transform_to_message(now.pose)
            self._publishers_by_name['tf'].publish(TFMessage(transforms=[transform]))
        if tracking:
            self._path.append(PoseStamped(header=out, pose=odometry.pose.pose))
        if self._path and self._is_due('path', p.path_period):
            self._publishers_by_name['path'].publish(Path(header=out, poses=list(self._path)))
        if points is not None:
            turned = points @ mount[:3, :3].T + mount[:3, 3]
            self._publishers_by_name['map_points'].publish(cloud_from_points(turned, out))

        self._previous = now if tracking else None
        self._last = result
        self._published.tick()

    def _publish_keyframe(self, header, result):
        """Publish the keyframe that the last frame has become, with the depths of the map."""
        publisher = self._publishers_by_name['keyframes']
        if not result.is_keyframe or publisher.get_subscription_count() == 0:
            return
        keyframe = self._odometry.newest_keyframe()
        if keyframe is not None and keyframe.stamp == result.stamp:
            publisher.publish(
                keypoints_to_message(keyframe.keypoints, header, 'float16', metric=keyframe.metric)
            )

    def _report_state(self, result):
        if result.state == OdometryState.LOST:
            self.health.warn(
                'lost',
                'odometry is lost: too few keypoints agree with the map; the pose is held with a large '
                'covariance until it finds the map again or starts a new one',
            )
        else:
            self.health.clear('lost')
        if result.state == OdometryState.TRACKING:
            reason = NOT_METRIC.get(self.parameters.scale_source)
            if result.metric or reason is None:
                self.health.clear('scale')
            else:
                self.health.warn('scale', f'the scale is arbitrary, not metres: {reason}')

    def _on_reset(self, request, response):
        with self._lock:
            self._forget()
        self.get_logger().info('odometry was reset: the next frame is the origin')
        response.success = True
        response.message = 'the next frame is the origin'
        return response

    def _on_save(self, request, response):
        with self._lock:
            trajectory = list(self._odometry.trajectory()) if self._odometry is not None else []
        path = FilePath(os.path.abspath(FilePath(request.path).expanduser()))
        try:
            if not trajectory:
                raise MtError(f"no pose has been estimated yet, so '{path}' was not written")
            write_tum(path, *zip(*trajectory))
        except MtError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.path, response.poses = True, str(path), len(trajectory)
        response.message = f'{len(trajectory)} poses written to {path}'
        return response

    def watch(self):
        """Say why nothing comes out."""
        if not self.is_active:
            return
        waiting, age = time.monotonic() - self._activated_at, self._rate.age()
        if min(waiting, waiting if age is None else age) > SILENCE_S:
            topic = self.resolve_topic_name('perception/keypoints')
            count = self.count_publishers('perception/keypoints')
            reason = 'nobody publishes' if count == 0 else f'{count} publisher(s) are silent on'
            self.health.warn('silence', f'no keypoints for {SILENCE_S:.0f} s: {reason} {topic}')
        elif age is not None:
            self.health.clear('silence')
        if age is not None and not self._camera.received:
            self.health.error(
                'camera',
                f'no camera_info on {self._camera.topic}: odometry cannot start without the calibration',
            )

    def summary(self):
        """Return the sentence and the numbers for the diagnostics."""
        last, worker = self._last, self._worker
        values = {
            'state': 'active' if self.is_active else 'inactive' if self.is_configured else 'unconfigured'
        }
        if self._matcher is not None:
            values['matcher'] = self._matcher.name
            if hasattr(self._matcher, 'engine'):
                values['engine'] = self._matcher.engine.name
        for name, publisher in list(self._publishers_by_name.items()):
            values[f'{name} subscribers'] = publisher.get_subscription_count()
        values['input hz'] = self._rate.hz()
        values['output hz'] = self._published.hz()
        values['frames in'] = self._rate.count
        values['frames out'] = self._published.count
        values['frames dropped'] = (
            (worker.dropped if worker is not None else 0) + self._held_dropped + self._late
        )
        if last is not None:
            values['odometry'] = last.state.value
            values['scale'] = 'metric' if last.metric else 'arbitrary'
            values['scale sigma'] = last.scale_sigma
            values['matches'] = last.n_matches
            values['inliers'] = last.n_inliers
            values['movable keypoints'] = last.n_movable
            values['map segment'] = last.segment
        values.update(timing_values(self._timings.statistics()))
        if not self.is_active:
            return 'not active', values
        return last.state.value if last is not None else 'waiting for keypoints', values


def main(arguments=None):
    """Run the node; the executable's entry point."""
    return run(VisualOdometryNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
