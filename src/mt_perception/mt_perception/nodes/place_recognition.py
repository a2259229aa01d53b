"""
The place recognition node: keyframes in, loops, the corrected path and map → odom out.

``place_recognition`` (executable). Subscribes ``visual_odometry/keyframes``,
``visual_odometry/odometry``, ``visual_odometry/state``, ``perception/global_descriptor``,
``perception/keypoints``, ``camera_info`` and ``/tf_static``; publishes
``place_recognition/loop_closures``, ``place_recognition/path``, ``place_recognition/graph`` (markers) and
the transform map → odom (REP 105); offers ``place_recognition/save_map``, ``load_map``, ``localize``,
``get_path`` and ``reset``.
"""

import os
import sys
import threading
import time
from collections import deque
from pathlib import Path as FilePath

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry, Path
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from mt_msgs.msg import GlobalDescriptor, KeypointArray, LoopClosure, VisualOdometryState
from mt_msgs.srv import GetPath, LoadMap, Localize, SaveMap
from mt_perception.errors import CameraError, MtError
from mt_perception.nodes.camera_input import CameraInput
from mt_perception.nodes.camera_mount import MOUNT_PARAMETERS, CameraMount, mount_from_parameter
from mt_perception.nodes.conversions import (
    pose_from_message,
    pose_to_message,
    seconds_from_stamp,
    stamp_key,
    transform_to_message,
)
from mt_perception.nodes.feature_messages import global_descriptor_from_message, keypoints_from_message
from mt_perception.nodes.health import timing_values
from mt_perception.nodes.managed_node import ManagedNode
from mt_perception.nodes.matcher_parameters import MATCHER_PARAMETERS, matcher_of
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.nodes.place_messages import (
    base_in_map,
    camera_pose,
    graph_markers,
    lever_covariance,
    loop_message,
    path_message,
)
from mt_perception.nodes.place_parameters import place_parameters, place_parameters_of
from mt_perception.nodes.qos import output_qos
from mt_perception.nodes.runner import run
from mt_perception.nodes.stamp_join import StampJoin
from mt_perception.nodes.timing import Rate, Timings
from mt_perception.nodes.worker import Worker
from mt_perception.odometry.geometry import inverse
from mt_perception.odometry.metric_scale import without_scale
from mt_perception.place_recognition import Keyframe, PlaceRecognition, View
from mt_perception.place_recognition.smoothing import SmoothTransform

SILENCE_S = 5.0
TOPICS = {  # name used below: (topic, type); the first is the rare one
    'keyframe': ('visual_odometry/keyframes', KeypointArray),
    'odometry': ('visual_odometry/odometry', Odometry),
    'state': ('visual_odometry/state', VisualOdometryState),
    'descriptor': ('perception/global_descriptor', GlobalDescriptor),
    'keypoints': ('perception/keypoints', KeypointArray),
}


class PlaceRecognitionNode(ManagedNode):
    """
    Finds places seen before and corrects the map by them.

    A worker thread takes the keyframes in order. ``odom`` and the poses in it stay as odometry says; what the
    loops correct is the transform map → odom, which moves smoothly.
    """

    PARAMETERS = (
        *MATCHER_PARAMETERS,
        Parameter('map_frame', 'map', 'Frame of the corrected map (REP 105).', change=UNCONFIGURED),
        Parameter('publish_tf', True, 'Publish the transform map_frame → odom.'),
        *MOUNT_PARAMETERS,
        Parameter(
            'rectified',
            False,
            'The images are rectified already (image_rect): use P of camera_info and no distortion.',
            change=UNCONFIGURED,
        ),
        Parameter(
            'queue_size',
            20,
            'Keyframes that may wait while one is worked on; then the oldest is dropped.',
            1,
            1000,
            change=UNCONFIGURED,
        ),
        Parameter(
            'correction_speed',
            1.0,
            'Metres per second that a correction may move the robot in the map; 0 = at once.',
            0.0,
            1000.0,
            change=UNCONFIGURED,
        ),
        Parameter(
            'correction_turn_deg',
            10.0,
            'Degrees per second that a correction may turn the robot in the map; 0 = at once.',
            0.0,
            36000.0,
            change=UNCONFIGURED,
        ),
        Parameter(
            'path_period',
            0.5,
            'Seconds between two messages on place_recognition/path, and on place_recognition/graph.',
            0.0,
            60.0,
        ),
        Parameter(
            'map_file', '', 'Saved map that is loaded at the start; empty = none.', change=UNCONFIGURED
        ),
        *place_parameters(),
    )

    def __init__(self, **arguments):
        self._matcher = self._places = self._worker = None
        self._camera = self._mounts = None
        self._inputs, self._publishers_by_name, self._own_services = [], {}, []
        self._lock = threading.Lock()  # the map, between worker and services
        self._mount = None
        self._correction, self._located, self._jump = np.eye(4), True, False
        self._smooth = SmoothTransform(0, 0)
        self._joins, self._sent = None, {}
        self._held = deque()
        self._rate, self._timings = Rate(), Timings()
        self._loops = self._keyframes = 0
        self._anew = False
        self._activated_at = 0.0
        super().__init__('place_recognition', **arguments)

    # ---------------------------------------------------------------- life

    def configure(self):
        """Load the matcher and the map, make publishers and services."""
        p = self.parameters
        self.health.clear_all()
        mount_from_parameter(p)
        self._matcher = matcher_of(self)
        self._places = PlaceRecognition(self._matcher, place_parameters_of(p))
        self._smooth = SmoothTransform(p.correction_speed, np.radians(p.correction_turn_deg))
        if p.map_file:
            count = self._places.load(FilePath(p.map_file).expanduser())
            self.get_logger().info(f'{count} keyframes loaded from {p.map_file}')
        self._look_at_graph()
        for name, message_type in (('loop_closures', LoopClosure), ('path', Path), ('graph', MarkerArray)):
            self._publishers_by_name[name] = self.create_lifecycle_publisher(
                message_type, f'place_recognition/{name}', output_qos(50)
            )
        self._publishers_by_name['tf'] = self.create_lifecycle_publisher(TFMessage, '/tf', output_qos(100))
        self._own_services = [
            self.create_service(service, f'place_recognition/{name}', callback)
            for name, service, callback in (
                ('save_map', SaveMap, self._on_save),
                ('load_map', LoadMap, self._on_load),
                ('localize', Localize, self._on_localize),
                ('get_path', GetPath, self._on_get_path),
                ('reset', Trigger, self._on_reset),
            )
        ]

    def activate(self):
        """Start the worker and subscribe."""
        p = self.parameters
        self._activated_at = time.monotonic()
        self._rate, self._timings = Rate(), Timings()
        self._worker = Worker(self._work, depth=p.queue_size, on_error=self.report_bug, name='places')
        self._mounts = CameraMount(self)
        self._camera = CameraInput(self, 'camera_info', p.rectified, self._on_camera)
        self._held = deque(maxlen=p.queue_size)
        self._joins = (
            StampJoin(('keyframe', 'odometry', 'state', 'descriptor')),
            StampJoin(('keypoints', 'descriptor', 'nothing'), depth=100),
        )
        for name, (topic, message_type) in TOPICS.items():
            self._inputs.append(
                self.create_subscription(
                    message_type, topic, lambda message, name=name: self._take(name, message), output_qos(50)
                )
            )

    def deactivate(self):
        """Unsubscribe and stop the worker; the map is kept for the next activation."""
        while self._inputs:
            self.destroy_subscription(self._inputs.pop())
        if self._mounts is not None:
            self._mounts.stop_waiting()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        for name in ('_camera', '_mounts'):
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
        self._places = self._mount = None
        self._correction, self._located, self._jump = np.eye(4), True, False
        self._loops = self._keyframes = 0

    # ---------------------------------------------------------------- input

    def _take(self, name, message):
        """Bring messages of one image together; called for every message."""
        if self._worker is None:
            return
        if name == 'odometry':
            self._follow(message)
        if name in self._joins[1].topics:
            self._joins[1].put(name, message)
        if name not in self._joins[0].topics:
            return
        if name == 'keyframe':
            self._rate.tick()
        joined = self._joins[0].put(name, message)
        if joined is not None:
            self.health.clear('join')
            waiting = self._worker.put if self._camera.received else self._held.append
            waiting((joined, time.perf_counter()))

    def _on_camera(self):
        """Work on the keyframes that waited for the calibration."""
        self.health.clear('camera')
        while self._held and self._worker is not None:
            self._worker.put(self._held.popleft())

    def _follow(self, message):
        """Publish map → odom for the newest odometry, and notice when odometry starts anew."""
        pose = pose_from_message(message.pose.pose)
        if not np.any(message.pose.covariance) and np.allclose(pose, np.eye(4), atol=1e-9):
            self._anew = True
        if not self._located:
            return
        target = np.eye(4)
        if self._mount is not None:
            camera = camera_pose(pose, self._mount)
            target = base_in_map(self._correction, camera, self._mount) @ inverse(pose)
        stamp = seconds_from_stamp(message.header.stamp)
        if self._jump:
            self._jump = False
            self._smooth.jump(target, stamp)
        value = self._smooth.update(target, pose, stamp)
        if self.parameters.publish_tf:
            header = Header(stamp=message.header.stamp, frame_id=self.parameters.map_frame)
            out = TransformStamped(header=header, child_frame_id=message.header.frame_id)
            out.transform = transform_to_message(value)
            self._publishers_by_name['tf'].publish(TFMessage(transforms=[out]))

    # ---------------------------------------------------------------- work

    def _work(self, item):
        """Add one keyframe to the map; called by the worker."""
        (keypoints, odometry, state, descriptor), received = item
        try:
            view = self._view(keypoints, descriptor)
            if view is None:
                return
            if self._mount is None:
                self._mount = self._mounts.find(odometry.child_frame_id, keypoints.header.frame_id)
            keyframe = self._keyframe(view, odometry, state.scale_sigma, keypoints.depth_is_metric)
            with self._lock:
                if self._anew and self._places.graph.newest is not None:
                    self.get_logger().info('odometry has started anew: looking for its place in the map')
                    self._places.restart()
                self._anew = False
                addition = self._places.add(keyframe)
                self._publish(addition, odometry.header)
            self.health.clear('keyframe')
        except CameraError as error:
            self.health.error('camera', str(error))
            return
        except MtError as error:
            self.health.error('keyframe', str(error))
            return
        total = (time.perf_counter() - received) * 1e3
        self._timings.add({**addition.timings_ms, 'total': total})

    def _view(self, keypoints, descriptor):
        """Return the :class:`View` of an image's messages, None while the camera is not known."""
        points = keypoints_from_message(keypoints, any_unit=True)
        camera = self._camera.fit(points.image_size)
        if camera is None:
            return None
        if descriptor.model_id != keypoints.model_id:
            raise MtError(
                f"the global descriptor is of model '{descriptor.model_id}', the keypoints of the same image "
                f"are of '{keypoints.model_id}'"
            )
        return View.create(
            seconds_from_stamp(keypoints.header.stamp),
            points,
            camera,
            global_descriptor_from_message(descriptor),
            keypoints.header.frame_id,
        )

    def _keyframe(self, view, odometry, scale_sigma, metric):
        """Return the :class:`Keyframe` of a view with odometry's pose."""
        base = pose_from_message(odometry.pose.pose)
        covariance = np.array(odometry.pose.covariance, np.float64).reshape(6, 6)
        pose = camera_pose(base, self._mount)
        covariance = lever_covariance(covariance, base, self._mount)
        return Keyframe(
            view.stamp,
            pose,
            without_scale(covariance, pose[:3, 3] - self._mount[:3, 3], scale_sigma),
            view,
            metric=metric,
        )

    def _publish(self, addition, header):
        """Publish what a new keyframe has brought; the map is locked."""
        graph = self._places.graph
        keyframes = graph.keyframes
        self._keyframes = len(keyframes)
        for loop in addition.loops:
            earlier, later = keyframes[loop.earlier], keyframes[loop.later]
            self._publishers_by_name['loop_closures'].publish(loop_message(loop, earlier, later))
        self._look_at_graph()
        if graph.located and self._is_due('path'):
            self._publishers_by_name['path'].publish(self._path(header.stamp))
        if graph.located and self._is_due('graph'):
            header = Header(stamp=header.stamp, frame_id=self.parameters.map_frame)
            self._publishers_by_name['graph'].publish(graph_markers(graph, self._mount, header))

    def _look_at_graph(self):
        """Take over where the run is in the map."""
        graph = self._places.graph
        self._correction = graph.correction()
        self._loops = sum(graph.right)
        if graph.located and not self._located:
            self._jump = True
            self.get_logger().info('this run has found itself in the map')
        self._located = graph.located
        if graph.located:
            self.health.clear('located')
        else:
            self.health.warn(
                'located',
                'the place of this run in the map is not known yet, so no transform from '
                f'{self.parameters.map_frame} is published: it comes with the first place that is seen again',
            )

    def _is_due(self, name):
        """Tell whether ``name`` goes out now: it has a subscriber, and not too often."""
        now = time.monotonic()
        if self._publishers_by_name[name].get_subscription_count() == 0:
            return False
        if now - self._sent.get(name, -np.inf) < self.parameters.path_period:
            return False
        self._sent[name] = now
        return True

    def _path(self, stamp):
        """Return this run's path as nav_msgs/Path."""
        header = Header(stamp=stamp, frame_id=self.parameters.map_frame)
        mount = self._mount if self._mount is not None else np.eye(4)
        return path_message(*self._places.graph.path(), mount, header)

    # ---------------------------------------------------------------- services

    def _on_save(self, request, response):
        path = absolute(request.path)
        try:
            with self._lock:
                count = self._places.save(path)
                complete = self._places.graph.located
        except MtError as error:
            response.message = str(error)
            return response
        response.success, response.path, response.keyframes = True, str(path), count
        response.message = f'{count} keyframes written to {path}'
        if not complete:
            response.message += ', of this run only: it has not found itself in the loaded map'
        return response

    def _on_load(self, request, response):
        path = absolute(request.path)
        try:
            with self._lock:
                count = self._places.load(path)
                self._look_at_graph()
                response.is_metric = self._is_metric()
        except MtError as error:
            response.message = str(error)
            return response
        response.success, response.path, response.keyframes = True, str(path), count
        response.message = f'{count} keyframes loaded from {path}'
        return response

    def _on_localize(self, request, response):
        try:
            view, base_frame, stamp = self._image(request.stamp)
            with self._lock:
                found = self._places.localize(view)
                response.is_metric = self._is_metric()
        except MtError as error:
            response.message = str(error)
            return response
        if found is None:
            response.message = f'the image of {view.stamp:.3f} s shows no place of the map'
            return response
        mount = self._mount
        base = found.pose @ inverse(mount)
        response.pose.header = Header(stamp=stamp, frame_id=self.parameters.map_frame)
        response.pose.pose.pose = pose_to_message(base)
        response.pose.pose.covariance = lever_covariance(found.covariance, base, mount, back=True).ravel()
        response.child_frame_id = base_frame
        response.success, response.score = True, found.score
        response.matches, response.inliers = found.matches, found.inliers
        response.message = f'{found.inliers} of {found.matches} keypoints agree'
        return response

    def _image(self, stamp):
        """Return (:class:`View`, base frame, stamp) of the image with a stamp, or of the newest."""
        if self._worker is None:
            raise MtError('the node is not active, so it has no images')
        key = stamp_key(stamp) or None
        keypoints, descriptor = self._joins[1].together('keypoints', 'descriptor', key=key)
        if keypoints is None:
            when = 'that stamp' if key else 'any stamp'
            raise MtError(
                f'there is no image of {when}: keypoints and a global descriptor of it must have come on '
                f'{self.resolve_topic_name("perception/keypoints")} and '
                f'{self.resolve_topic_name("perception/global_descriptor")}, at most 100 images ago'
            )
        view = self._view(keypoints, descriptor)
        if view is None:
            raise MtError(f'no camera_info has come on {self._camera.topic}')
        odometry = self._joins[0].newest('odometry')
        base_frame = odometry.child_frame_id if odometry is not None else 'base_link'
        if self._mount is None:
            self._mount = self._mounts.find(base_frame, view.frame_id, may_wait=False)
        return view, base_frame, keypoints.header.stamp

    def _on_get_path(self, request, response):
        with self._lock:
            graph = self._places.graph
            if not graph.located or not graph.own:
                response.message = (
                    'there are no keyframes yet'
                    if not graph.own
                    else 'the place of this run in the loaded map is not known yet'
                )
                return response
            response.path = self._path(self.get_clock().now().to_msg())
            response.is_metric = self._is_metric()
        response.success = True
        response.message = f'{len(response.path.poses)} poses'
        return response

    def _on_reset(self, request, response):
        with self._lock:
            self._places.clear()
            self._located = True
            self._look_at_graph()
            self._jump = True
        response.success, response.message = True, 'the map is empty'
        self.get_logger().info('place recognition was reset: the map is empty')
        return response

    def _is_metric(self):
        """Whether the unit of the map is the metre."""
        keyframes = self._places.graph.keyframes
        return bool(keyframes) and keyframes[0].metric

    # ---------------------------------------------------------------- health

    def watch(self):
        """Say why nothing comes out."""
        if not self.is_active:
            return
        waiting, age = time.monotonic() - self._activated_at, self._rate.age()
        if age is None and waiting > SILENCE_S:
            topic = self.resolve_topic_name(TOPICS['keyframe'][0])
            count = self.count_publishers(TOPICS['keyframe'][0])
            reason = 'nobody publishes' if count == 0 else f'{count} publisher(s) are silent on'
            self.health.warn('silence', f'no keyframe for {waiting:.0f} s: {reason} {topic}')
        elif age is not None:
            self.health.clear('silence')
        if age is not None and not self._camera.received:
            self.health.error('camera', f'no camera_info on {self._camera.topic}')
        missing = self._joins[0].missing()
        if missing and age is not None and age > SILENCE_S / 2:
            topics = ' and '.join(self.resolve_topic_name(TOPICS[name][0]) for name in missing)
            self.health.warn('join', f'keyframes come, but not what belongs to them on {topics}')

    def summary(self):
        """Return the sentence and the numbers for the diagnostics."""
        values = {
            'state': 'active' if self.is_active else 'inactive' if self.is_configured else 'unconfigured'
        }
        if self._matcher is not None:
            values['matcher'] = self._matcher.name
            if hasattr(self._matcher, 'engine'):
                values['engine'] = self._matcher.engine.name
        for name, publisher in list(self._publishers_by_name.items()):
            values[f'{name} subscribers'] = publisher.get_subscription_count()
        worker = self._worker
        values['keyframes in'] = self._rate.count
        values['keyframes taken'] = worker.processed if worker is not None else 0
        values['keyframes dropped'] = worker.dropped if worker is not None else 0
        values['keyframes in the map'] = self._keyframes
        values['loops'] = self._loops
        values['located'] = self._located
        values.update(timing_values(self._timings.statistics()))
        if not self.is_active:
            return 'not active', values
        return f'{self._loops} loops' if self._keyframes else 'waiting for keyframes', values


def absolute(path):
    """Return a path as users type it in absolute form."""
    return FilePath(os.path.abspath(FilePath(path).expanduser()))


def main(arguments=None):
    """Run the node; the executable's entry point."""
    return run(PlaceRecognitionNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
