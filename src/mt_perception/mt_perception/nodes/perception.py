"""
The perception node: images in, segmentation, depth, keypoints and a global descriptor out.

``perception`` (executable). Subscribes ``image`` or ``image/compressed``, and ``camera_info``; publishes
``perception/segmentation``, ``perception/segmentation_color``, ``perception/label_info``,
``perception/depth``, ``perception/depth/camera_info``, ``perception/keypoints`` and
``perception/global_descriptor``. Every header is the header of the image the result belongs to.
"""

import sys
import time

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import LabelInfo, VisionClass

from mt_msgs.msg import GlobalDescriptor, KeypointArray
from mt_perception.errors import CameraError, MtError
from mt_perception.inference.factory import ENGINES, PRECISIONS
from mt_perception.nodes.camera_input import CameraInput
from mt_perception.nodes.conversions import (
    image_from_array,
    info_from_camera,
    rgb_from_compressed,
    rgb_from_image,
    seconds_from_stamp,
)
from mt_perception.nodes.feature_messages import global_descriptor_to_message, keypoints_to_message
from mt_perception.nodes.health import timing_values
from mt_perception.nodes.managed_node import ManagedNode
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.nodes.qos import (
    RELIABILITY,
    input_qos,
    latched_qos,
    output_qos,
    publisher_events,
    subscription_events,
)
from mt_perception.nodes.runner import run
from mt_perception.nodes.timing import Rate, Timings
from mt_perception.nodes.worker import Worker
from mt_perception.perception import PerceptionPipeline

SILENCE_S = 5.0
CREDIBLE_AGE_S = 60.0

TOPIC_TASKS = {
    'keypoints': 'keypoints',
    'global_descriptor': 'global_descriptor',
    'segmentation': 'segmentation',
    'segmentation_color': 'segmentation',
    'depth': 'depth',
    'depth/camera_info': 'depth',
}
TOPIC_TYPES = {
    'keypoints': KeypointArray,
    'global_descriptor': GlobalDescriptor,
    'segmentation': Image,
    'segmentation_color': Image,
    'depth': Image,
    'depth/camera_info': CameraInfo,
}


class PerceptionNode(ManagedNode):
    """
    Runs the network on the newest image.

    The subscription only puts the image into a slot; a worker thread takes it out, so a slow engine
    drops old images (and counts them) and never works on a stale one.
    """

    PARAMETERS = (
        Parameter('model', '', 'Path of the ONNX model; empty = the one shipped.', change=UNCONFIGURED),
        Parameter(
            'engine',
            'auto',
            'What runs the model; auto = TensorRT where it and a GPU are, else ONNX Runtime.',
            choices=ENGINES,
            change=UNCONFIGURED,
        ),
        Parameter(
            'precision',
            'fp16',
            'Arithmetic of a TensorRT engine; ONNX Runtime computes what the file says.',
            choices=PRECISIONS,
            change=UNCONFIGURED,
        ),
        Parameter(
            'cache_dir', '', 'Folder for built engines; empty = ~/.cache/mt_perception.', change=UNCONFIGURED
        ),
        Parameter(
            'threads', 0, 'CPU threads of ONNX Runtime; 0 = one per core.', 0, 256, change=UNCONFIGURED
        ),
        Parameter(
            'input_width',
            0,
            "Width the network sees in pixels; 0 = from the camera's aspect ratio.",
            0,
            8192,
            change=UNCONFIGURED,
        ),
        Parameter(
            'input_height',
            0,
            "Height the network sees in pixels; 0 = from the camera's aspect ratio.",
            0,
            8192,
            change=UNCONFIGURED,
        ),
        Parameter('max_keypoints', 512, 'Keypoints published per image at most, the strongest.', 1, 8192),
        Parameter('min_score', 0.0, 'Keypoints with a smaller score are not published.', 0.0, 1.0),
        Parameter(
            'image_transport',
            'auto',
            'raw = `image`, compressed = `image/compressed`; auto = compressed when only that is published.',
            choices=('auto', 'raw', 'compressed'),
            change=UNCONFIGURED,
        ),
        Parameter(
            'input_reliability',
            'best_effort',
            'QoS of the subscriptions; best_effort hears every publisher (REP-2003).',
            choices=tuple(RELIABILITY),
            change=UNCONFIGURED,
        ),
        Parameter(
            'input_depth',
            2,
            'Images the middleware keeps while the node is busy; of them only the newest is used.',
            1,
            100,
            change=UNCONFIGURED,
        ),
        Parameter(
            'rectified',
            False,
            'The images are rectified already (image_rect): use P of camera_info and no distortion.',
            change=UNCONFIGURED,
        ),
        Parameter(
            'white_level',
            65535,
            'Value of a 16-bit pixel that is white: 65535, or 4095 for a 12-bit camera.',
            1,
            65535,
        ),
        Parameter(
            'segmentation_size',
            'image',
            'Size of the published masks: that of the image, or that of the network.',
            choices=('image', 'network'),
        ),
    )

    def __init__(self, **arguments):
        self._pipeline = None
        self._worker = None
        self._input_subscriptions = {}
        self._outputs = {}
        self._label_info = None
        self._camera = None
        self._rate = Rate()
        self._published = Rate()
        self._timings = Timings()
        self._age_ms = None
        self._activated_at = 0.0
        super().__init__('perception', **arguments)

    def configure(self):
        """Load the engine, warm it up, make the publishers."""
        p = self.parameters
        self.health.clear_all()
        self._pipeline = PerceptionPipeline(
            model=p.model or None,
            engine=p.engine,
            input_size=(p.input_width, p.input_height),
            max_keypoints=p.max_keypoints,
            min_score=p.min_score,
            precision=p.precision,
            cache_dir=p.cache_dir or None,
            threads=p.threads,
            logger=self.get_logger(),
        )
        metadata = self._pipeline.metadata
        self._pipeline.warm_up()
        self.get_logger().info(
            f'{metadata.model_id} runs on {self._pipeline.engine.name}: {", ".join(self._pipeline.tasks)}'
        )
        for number, sentence in enumerate(self._pipeline.warnings):
            self.health.warn(f'engine {number}', sentence)
        if 'depth' in self._pipeline.tasks and metadata.depth_kind != 'metric':
            self.health.warn(
                'depth', f"depth of model '{metadata.model_id}' is relative: it is not in metres"
            )
        for name, task in TOPIC_TASKS.items():
            if task in self._pipeline.tasks:
                topic = f'perception/{name}'
                self._outputs[name] = self.create_lifecycle_publisher(
                    TOPIC_TYPES[name],
                    topic,
                    output_qos(),
                    event_callbacks=publisher_events(
                        lambda text, key=topic: self.health.warn(f'qos {key}', text),
                        self.resolve_topic_name(topic),
                    ),
                )
        if 'segmentation' in self._pipeline.tasks:
            self._label_info = self.create_lifecycle_publisher(
                LabelInfo, 'perception/label_info', latched_qos()
            )

    def activate(self):
        """Start the worker and subscribe."""
        p = self.parameters
        self._activated_at = time.monotonic()
        self._rate, self._published, self._timings = Rate(), Rate(), Timings()
        self._camera = CameraInput(self, 'camera_info', p.rectified)
        self._worker = Worker(self._work, depth=1, on_error=self.report_bug, name='perception')
        if self._label_info is not None:
            self._label_info.publish(self._label_message())
        if p.image_transport != 'compressed':
            self._subscribe(Image, 'image', lambda message: rgb_from_image(message, p.white_level))
        else:
            self._subscribe(CompressedImage, 'image/compressed', rgb_from_compressed)

    def deactivate(self):
        """Unsubscribe and stop the worker."""
        while self._input_subscriptions:
            self.destroy_subscription(self._input_subscriptions.popitem()[1])
        if self._camera is not None:
            self._camera.destroy()
            self._camera = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def cleanup(self):
        """Free the engine and the publishers."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
        while self._outputs:
            self.destroy_lifecycle_publisher(self._outputs.popitem()[1])
        if self._label_info is not None:
            self.destroy_lifecycle_publisher(self._label_info)
            self._label_info = None

    def parameter_changed(self, name, value):
        """Hand on what may change while the node runs."""
        if self._pipeline is not None and name in ('max_keypoints', 'min_score'):
            setattr(self._pipeline, name, value)

    def _subscribe(self, message_type, topic, decode):
        def receive(message):
            self._rate.tick()
            if self._worker is not None:
                self._worker.put((message, decode, time.perf_counter()))

        resolved = self.resolve_topic_name(topic)
        events = subscription_events(lambda text: self.health.error(f'qos {topic}', text), resolved)
        qos = input_qos(self.parameters.input_reliability, self.parameters.input_depth)
        self._input_subscriptions[topic] = self.create_subscription(
            message_type, topic, receive, qos, event_callbacks=events
        )

    def _work(self, item):
        """Work on one image; called by the worker."""
        message, decode, received = item
        started = time.perf_counter()
        tasks = self._wanted_tasks()
        if not tasks:
            return
        try:
            image = decode(message)
            self.health.clear('image')
            converted = time.perf_counter()
            camera = self._fitting_camera((image.shape[1], image.shape[0]))
            result = self._pipeline.process(image, camera, tasks)
        except MtError as error:
            self.health.error('image', str(error))
            return
        processed = time.perf_counter()
        self._publish(message.header, result, camera)
        done = time.perf_counter()
        self._published.tick()
        self._timings.add(
            {
                'wait': (started - received) * 1e3,
                'convert': (converted - started) * 1e3,
                **result.timings_ms,
                'publish': (done - processed) * 1e3,
                'total': (done - received) * 1e3,
            }
        )
        age = self.get_clock().now().nanoseconds * 1e-9 - seconds_from_stamp(message.header.stamp)
        self._age_ms = age * 1e3 if 0 <= age < CREDIBLE_AGE_S else None

    def _wanted_tasks(self):
        return {
            TOPIC_TASKS[name] for name, output in self._outputs.items() if output.get_subscription_count() > 0
        }

    def _fitting_camera(self, size):
        try:
            camera = self._camera.fit(size)
        except CameraError as error:
            self.health.error('camera', str(error))
            return None
        if camera is not None:
            self.health.clear('camera')
        return camera

    def _publish(self, header, result, camera):
        """Publish what somebody listens to; keypoints first, because odometry waits for them."""

        def send(name, make):
            if self._outputs[name].get_subscription_count() > 0:
                self._outputs[name].publish(make())

        if result.keypoints is not None:
            send('keypoints', lambda: keypoints_to_message(result.keypoints, header))
        if result.global_descriptor is not None:
            send(
                'global_descriptor',
                lambda: global_descriptor_to_message(
                    result.global_descriptor, self._pipeline.metadata.model_id, header
                ),
            )
        if result.depth is not None:
            send('depth', lambda: image_from_array(result.depth, '32FC1', header))
            if camera is not None:
                height, width = result.depth.shape
                send('depth/camera_info', lambda: info_from_camera(camera.scaled(width, height), header))
        if result.segmentation is not None:
            size = result.image_size if self.parameters.segmentation_size == 'image' else None
            table = self._pipeline.metadata.color_table
            send(
                'segmentation', lambda: image_from_array(enlarge(result.segmentation, size), 'mono8', header)
            )
            send(
                'segmentation_color',  # colours at network size: painting costs more than enlarging
                lambda: image_from_array(
                    enlarge(np.take(table, result.segmentation, axis=0), size), 'rgb8', header
                ),
            )

    def _label_message(self):
        message = LabelInfo()
        message.header.stamp = self.get_clock().now().to_msg()
        message.class_map = [
            VisionClass(class_id=number, class_name=name)
            for number, name in enumerate(self._pipeline.metadata.class_names)
        ]
        return message

    def watch(self):
        """Say why nothing comes out."""
        if not self.is_active:
            return
        waiting = time.monotonic() - self._activated_at
        age = self._rate.age()
        if min(waiting, waiting if age is None else age) > SILENCE_S:
            self.health.warn('silence', self._why_silent())
        elif age is not None:
            self.health.clear('silence')
        if age is None and self.parameters.image_transport == 'auto' and len(self._input_subscriptions) == 1:
            if self.count_publishers('image') == 0 and self.count_publishers('image/compressed') > 0:
                self.get_logger().info('nobody publishes image, so image/compressed is used')
                self._subscribe(CompressedImage, 'image/compressed', rgb_from_compressed)
        if age is not None and not self._camera.received and 'depth' in self._pipeline.tasks:
            if self._published.count or waiting > SILENCE_S:
                self.health.warn(
                    'camera',
                    f'no camera_info on {self._camera.topic}: depth keeps the scale of the camera the model '
                    'was trained with and perception/depth/camera_info is not published; everything else '
                    'works',
                )

    def _why_silent(self):
        topic = 'image/compressed' if self.parameters.image_transport == 'compressed' else 'image'
        publishers = self.count_publishers(topic)
        resolved = self.resolve_topic_name(topic)
        if publishers == 0:
            reason = f'nobody publishes {resolved} (remap it: -r {topic}:=/your/camera/topic)'
        else:
            reason = f'{publishers} publisher(s) on {resolved} are silent: is the camera running?'
        return f'no image for {SILENCE_S:.0f} s: {reason}'

    def summary(self):
        """Return the sentence and the numbers for the diagnostics."""
        values = {
            'state': 'active' if self.is_active else 'inactive' if self.is_configured else 'unconfigured'
        }
        pipeline, worker = self._pipeline, self._worker
        if pipeline is not None:
            values['engine'] = pipeline.engine.name
            values['model'] = pipeline.metadata.model_id
        for topic, subscription in list(self._input_subscriptions.items()):
            values[f'{topic} publishers'] = (
                subscription.get_publisher_count()  # those it is connected with
                if hasattr(subscription, 'get_publisher_count')
                else self.count_publishers(topic)  # Humble
            )
        for name, output in list(self._outputs.items()):
            values[f'{name} subscribers'] = output.get_subscription_count()
        values['input hz'] = self._rate.hz()
        values['output hz'] = self._published.hz()
        values['frames in'] = self._rate.count
        values['frames out'] = self._published.count
        values['frames dropped'] = worker.dropped if worker is not None else 0
        if self._age_ms is not None:
            values['frame age ms'] = self._age_ms
        values.update(timing_values(self._timings.statistics()))
        if not self.is_active:
            return 'not active', values
        if self._rate.count and not self._wanted_tasks():
            return 'idle: nobody subscribes to a result', values
        return f'{values["output hz"]:.1f} images a second', values


def enlarge(mask, size):
    """Return a mask [h,w] or [h,w,3] at ``size`` (width, height) without mixing values; None = as it is."""
    return mask if size is None else cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)


def main(arguments=None):
    """Run the node; the executable's entry point."""
    return run(PerceptionNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
