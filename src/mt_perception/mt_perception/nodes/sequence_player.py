"""
The sequence player: any sequence on disk, or a rendered one, as a camera.

``sequence_player`` (executable). Publishes ``image`` (or ``image/compressed``), ``camera_info`` with
the same header just before it, ``sequence_player/ground_truth`` (nav_msgs/Path, latched) and, on
request, ``/clock``. Plays in real time at a rate, or in steps: the next image goes out when the
results of earlier ones have come back, or when ``sequence_player/step`` (std_srvs/Trigger) is called.
Ends with status 0 after the last image, and with status 1 when nobody listens or answers for ``patience``.
"""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from mt_msgs.msg import KeypointArray
from mt_perception.errors import MtError
from mt_perception.nodes.conversions import (
    fill,
    image_from_array,
    info_from_camera,
    stamp_from_seconds,
    stamp_key,
)
from mt_perception.nodes.frames import OPTICAL_TO_BASE, path_from_poses
from mt_perception.nodes.managed_node import ManagedNode
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.nodes.qos import latched_qos, output_qos
from mt_perception.nodes.read_ahead import ReadAhead
from mt_perception.nodes.runner import run
from mt_perception.nodes.timing import Rate
from mt_perception.sequences import open_sequence

CLOCK_PERIOD_S = 0.02
DISCOVERY_POLL_S = 0.02  # rclpy up to Humble has no event for a new subscriber
DELIVERY_S = 2.0
SENDINGS = 3  # of an image without a result, before the next one gets its turn
STEP_INPUTS = {
    'keypoints': (KeypointArray, 'perception/keypoints'),
    'odometry': (Odometry, 'visual_odometry/odometry'),
}


@dataclass
class Pending:
    """
    An image without a result.

    :param key: its stamp in nanoseconds.
    :param messages: (camera_info, image).
    :param sent: when it was sent last, time.monotonic().
    :param sendings: how often it was sent.
    """

    key: int
    messages: tuple
    sent: float
    sendings: int = 1


class SequencePlayerNode(ManagedNode):
    """Plays one sequence from a thread of its own."""

    PARAMETERS = (
        Parameter(
            'sequence',
            '',
            'Folder, bag or video to play, or rendered:SCENE[:SEED][:VARIANT] (rendered:street).',
            change=UNCONFIGURED,
        ),
        Parameter('frames', '', 'Part of the sequence to play, FIRST:END; empty = all.', change=UNCONFIGURED),
        Parameter(
            'rate',
            0.0,
            "Images per second at most; 0 = as the sequence's stamps say, in steps as fast as results come.",
            0.0,
            1000.0,
            change=UNCONFIGURED,
        ),
        Parameter(
            'step',
            'none',
            'What lets the next image go: none = time alone, service = a call of sequence_player/step, '
            'keypoints or odometry = the results of earlier images.',
            choices=('none', 'service', *STEP_INPUTS),
            change=UNCONFIGURED,
        ),
        Parameter(
            'in_flight',
            1,
            'Images that may be without a result at a time (step keypoints and odometry); 2 keeps both nodes '
            'busy.',
            1,
            100,
            change=UNCONFIGURED,
        ),
        Parameter(
            'step_timeout',
            10.0,
            'Seconds after which an image without a result is sent again (step keypoints and odometry); '
            f'sent {SENDINGS} times in vain, it is left behind.',
            0.1,
            3600.0,
            change=UNCONFIGURED,
        ),
        Parameter(
            'patience',
            900.0,
            'Seconds without the subscribers at the start, or without any result in steps, after which the '
            'player ends with an error; 0 = never. The default is long because a node that builds a TensorRT '
            'engine takes minutes.',
            0.0,
            86400.0,
            change=UNCONFIGURED,
        ),
        Parameter(
            'stamps',
            'sequence',
            "Header stamps: the sequence's own, or the time of publishing.",
            choices=('sequence', 'now'),
            change=UNCONFIGURED,
        ),
        Parameter('loop', False, 'Start again after the last image instead of ending.', change=UNCONFIGURED),
        Parameter(
            'publish_clock',
            False,
            "Publish /clock with the sequence's time, for nodes with use_sim_time.",
            change=UNCONFIGURED,
        ),
        Parameter(
            'image_transport',
            'raw',
            'raw = `image` (rgb8), compressed = `image/compressed` (JPEG).',
            choices=('raw', 'compressed'),
            change=UNCONFIGURED,
        ),
        Parameter('jpeg_quality', 95, 'Quality of compressed images.', 1, 100, change=UNCONFIGURED),
        Parameter(
            'wait_for_subscribers',
            1,
            'Subscribers the image topic must have before the first image goes out; 0 = do not wait.',
            0,
            100,
            change=UNCONFIGURED,
        ),
        Parameter(
            'wait_for_info_subscribers',
            0,
            'Subscribers camera_info must have before the first image goes out.',
            0,
            100,
            change=UNCONFIGURED,
        ),
        Parameter(
            'read_ahead',
            10,
            'Images read before the first one goes out, and ahead of the present one.',
            1,
            100000,
            change=UNCONFIGURED,
        ),
        Parameter(
            'frame_id',
            'camera_optical_frame',
            'Frame of the images (REP 103 optical frame).',
            change=UNCONFIGURED,
        ),
        Parameter('ground_truth_frame', 'odom', 'Frame of the ground-truth path.', change=UNCONFIGURED),
    )

    def __init__(self, **arguments):
        self._sequence = None
        self._reader = None
        self._read = 0
        self._thread = None
        self._stop = threading.Event()
        self._go = threading.Condition()
        self._steps = 0
        self._pending = deque()
        self._images = self._infos = self._truth = self._clock_publisher = None
        self._service = self._answers = None
        self._played = Rate()
        self._resent = self._left_behind = 0
        self._answers_heard, self._answered = 0, 0.0
        self._phase = 'not started'
        self._last_due = (0.0, 0.0)
        super().__init__('sequence_player', **arguments)

    def configure(self):
        """Open the sequence, make the publishers."""
        p = self.parameters
        if not p.sequence:
            raise MtError("parameter 'sequence' is empty: name a folder, a bag, a video or rendered:street")
        self._sequence = open_sequence(p.sequence, frames=p.frames or None)
        self._sequence.skip_depth()
        if p.image_transport == 'raw':
            self._images = self.create_lifecycle_publisher(Image, 'image', output_qos())
        else:
            self._images = self.create_lifecycle_publisher(CompressedImage, 'image/compressed', output_qos())
        self._infos = self.create_lifecycle_publisher(CameraInfo, 'camera_info', output_qos())
        if self._sequence.poses is not None:
            self._truth = self.create_lifecycle_publisher(Path, 'sequence_player/ground_truth', latched_qos())
        if p.publish_clock:
            self._clock_publisher = self.create_lifecycle_publisher(Clock, '/clock', output_qos(1))
        self.get_logger().info(f'{self._sequence.name}: {len(self._sequence)} images')

    def activate(self):
        """Start playing."""
        p = self.parameters
        self._stop.clear()
        self._played, self._resent, self._left_behind, self._steps = Rate(), 0, 0, 0
        self._answers_heard = 0
        self._pending.clear()
        if p.step == 'service':
            self._service = self.create_service(Trigger, 'sequence_player/step', self._on_step)
        elif p.step != 'none':
            message_type, topic = STEP_INPUTS[p.step]
            self._answers = self.create_subscription(message_type, topic, self._on_answer, output_qos(10))
        if self._truth is not None:
            self._truth.publish(self._ground_truth())
        self._thread = threading.Thread(target=self._play, name='player', daemon=True)
        self._thread.start()

    def deactivate(self):
        """Stop playing."""
        self._stop.set()
        with self._go:
            self._go.notify_all()
        while self._thread is not None and self._thread.is_alive():
            reader = self._reader  # the thread may just be making one
            if reader is not None:
                reader.stop()
            self._thread.join(0.1)
        self._thread = None
        if self._service is not None:
            self.destroy_service(self._service)
            self._service = None
        if self._answers is not None:
            self.destroy_subscription(self._answers)
            self._answers = None
        self._phase = 'stopped'

    def cleanup(self):
        """Close the sequence and the publishers."""
        for name in ('_images', '_infos', '_truth', '_clock_publisher'):
            publisher = getattr(self, name)
            if publisher is not None:
                self.destroy_lifecycle_publisher(publisher)
                setattr(self, name, None)
        self._sequence = None

    def _play(self):
        """Play until the end; the player's thread."""
        try:
            again = True
            while again and not self._stop.is_set():
                self._reader = ReadAhead(self._sequence, self.parameters.read_ahead)
                try:
                    again = self._play_once(self._reader) and self.parameters.loop
                finally:
                    self._reader.stop()
                    self._reader = None
        except MtError as error:
            self.health.error('sequence', str(error))
            self.exit_status = 1
            self.on_work_done()
        except Exception as error:
            self.report_bug(error)
            self.exit_status = 1
            self.on_work_done()

    def _play_once(self, reader):
        """Play the sequence once; return False when stopped half-way."""
        p = self.parameters
        self._phase = 'reading ahead'
        reader.wait_full()
        self._wait_for_subscribers()
        self._phase = 'playing'
        start, first_stamp = time.monotonic(), self._sequence.stamps[0]
        self._answered = start
        self._last_due = (start, first_stamp)
        number = 0
        while not self._stop.is_set():
            frame = reader.get()
            if frame is None:
                break
            if p.step in STEP_INPUTS and not self._wait_for_results(p.in_flight - 1):
                return False
            if p.step == 'service' and not self._wait_for_call():
                return False
            due = start + (number / p.rate if p.rate > 0 else frame.stamp - first_stamp)
            if p.step != 'none':  # who waits for results does not make up for lost time
                due = self._last_due[0] + (1 / p.rate if p.rate > 0 and number else 0)
            if not self._sleep_until(due, frame.stamp):
                return False
            self._last_due = (due if p.step == 'none' else time.monotonic(), frame.stamp)
            self._send(frame)
            number += 1
        if self._stop.is_set() or (p.step in STEP_INPUTS and not self._wait_for_results(0)):
            return False
        self._phase = 'finished'
        if not p.loop:
            self._deliver()
            self.on_work_done()
        return True

    def _wait_for_subscribers(self):
        """
        Wait until all who must hear the first image are there, or stopped.

        :raises MtError: they did not come in time.
        """
        p = self.parameters
        began = time.monotonic()
        while not self._stop.is_set():
            counts = self._images.get_subscription_count(), self._infos.get_subscription_count()
            if counts[0] >= p.wait_for_subscribers and counts[1] >= p.wait_for_info_subscribers:
                return
            counted = (
                f'{self._images.topic_name} has {counts[0]} of {p.wait_for_subscribers}, '
                f'{self._infos.topic_name} has {counts[1]} of {p.wait_for_info_subscribers}'
            )
            self._phase = f'waiting for subscribers: {counted}'
            if 0 < p.patience <= time.monotonic() - began:
                raise MtError(f'the subscribers did not come within {p.patience:g} s: {counted}')
            self._stop.wait(DISCOVERY_POLL_S)

    def _send(self, frame):
        """Publish one frame."""
        p = self.parameters
        stamp = self.get_clock().now().to_msg() if p.stamps == 'now' else stamp_from_seconds(frame.stamp)
        header = Header(stamp=stamp, frame_id=p.frame_id)
        size = (frame.image.shape[1], frame.image.shape[0])
        sent = (info_from_camera(frame.camera, header, size), self._encode(frame.image, header))
        if p.step in STEP_INPUTS:
            with self._go:
                self._pending.append(Pending(stamp_key(stamp), sent, time.monotonic()))
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=stamp))
        self._publish(*sent)
        self._played.tick()

    def _publish(self, info, image):
        self._infos.publish(info)
        self._images.publish(image)

    def _encode(self, image, header):
        if self.parameters.image_transport == 'raw':
            return image_from_array(image, 'rgb8', header)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.parameters.jpeg_quality]
        _, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
        fill(message.data, data, np.uint8)
        return message

    def _sleep_until(self, due, stamp):
        """
        Wait for the time of the next image; return False when stopped.

        Meanwhile the clock goes evenly from the stamp of the last image to ``stamp``.
        """
        before, stamp_before = self._last_due
        while True:
            left = due - time.monotonic()
            if left <= 0:
                return not self._stop.is_set()
            if self._clock_publisher is None:
                return not self._stop.wait(left)
            if self._stop.wait(min(left, CLOCK_PERIOD_S)):
                return False
            if self.parameters.stamps == 'sequence':
                share = min((time.monotonic() - before) / (due - before), 1.0)
                now = stamp_before + share * (stamp - stamp_before)
                self._clock_publisher.publish(Clock(clock=stamp_from_seconds(now)))

    def _wait_for_call(self):
        """Wait for a call of the step service; return False when stopped."""
        with self._go:
            while self._steps == 0 and not self._stop.is_set():
                self._go.wait()
            self._steps -= 1
        return not self._stop.is_set()

    def _wait_for_results(self, limit):
        """
        Wait until at most ``limit`` images have no result; return False when stopped.

        An image whose result does not come in time is sent again, and left behind in the end.

        :raises MtError: no result at all has come for too long.
        """
        p = self.parameters
        while not self._stop.is_set():
            with self._go:
                if len(self._pending) <= limit:
                    return True
                first = self._pending[0]
                overdue = max(first.sent, self._answered) + p.step_timeout
                end = self._answered + p.patience if p.patience > 0 else np.inf
                self._go.wait(max(min(overdue, end) - time.monotonic(), 0))
                if self._stop.is_set() or not self._pending or self._pending[0] is not first:
                    continue
            now = time.monotonic()
            if now >= self._answered + p.patience > self._answered:
                raise MtError(self._why_no_results())
            if now >= max(first.sent, self._answered) + p.step_timeout:
                self._send_again(first)
        return False

    def _send_again(self, pending):
        """Send an image again, or leave it behind."""
        p = self.parameters
        if pending.sendings < SENDINGS:
            pending.sendings += 1
            pending.sent = time.monotonic()
            self._resent += 1
            self.get_logger().warning(
                f'no {p.step} for an image within {p.step_timeout:g} s: sending it again'
            )
            self._publish(*pending.messages)
            return
        self._left_behind += 1
        self.get_logger().warning(
            f'no {p.step} for an image that was sent {SENDINGS} times: going on without it'
        )
        with self._go:
            if self._pending and self._pending[0] is pending:
                self._pending.popleft()

    def _why_no_results(self):
        """Return the sentence for an end without results."""
        p = self.parameters
        topic = self.resolve_topic_name(STEP_INPUTS[p.step][1])
        return (
            f'no {p.step} came for {p.patience:g} s: {self._played.count} of {len(self._sequence)} images '
            f'were sent, {self._answers_heard} results came, and {topic} has {self.count_publishers(topic)} '
            'publisher(s); the diagnostics of the node that should publish it say why'
        )

    def _on_step(self, request, response):
        with self._go:
            self._steps += 1
            self._go.notify_all()
        response.success = True
        response.message = 'next image'
        return response

    def _on_answer(self, message):
        """Take a result: the image it belongs to, and those before it, are done."""
        key = stamp_key(message.header.stamp)
        with self._go:
            keys = [pending.key for pending in self._pending]
            if key in keys:
                for _ in range(keys.index(key) + 1):
                    self._pending.popleft()
                self._answers_heard += 1
                self._answered = time.monotonic()
                self._go.notify_all()

    def _deliver(self):
        """Give the middleware time to hand over the last image before the process ends."""
        for publisher in (self._images, self._infos):
            if hasattr(publisher, 'wait_for_all_acked'):
                from rclpy.duration import Duration

                publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))

    def _ground_truth(self):
        """Return the ground truth relative to the first pose, as the base moves in the odometry's frame."""
        poses = [
            (stamp, pose) for stamp, pose in zip(self._sequence.stamps, self._sequence.poses, strict=True)
        ]
        poses = [(stamp, pose) for stamp, pose in poses if pose is not None]
        to_first = np.linalg.inv(poses[0][1]) if poses else np.eye(4)
        mount = OPTICAL_TO_BASE
        return path_from_poses(
            [(stamp, mount @ to_first @ pose @ np.linalg.inv(mount)) for stamp, pose in poses],
            self.parameters.ground_truth_frame,
        )

    def summary(self):
        """Return the sentence and the numbers for the diagnostics."""
        total = len(self._sequence) if self._sequence is not None else 0
        reader = self._reader
        if reader is not None:
            self._read = reader.count
        values = {
            'sequence': self._sequence.name if self._sequence is not None else '',
            'images': total,
            'images read': self._read,
            'images played': self._played.count,
            'images sent again': self._resent,
            'images left behind': self._left_behind,
            'output hz': self._played.hz(),
        }
        return self._phase, values


def main(arguments=None):
    """Run the node; the executable's entry point."""
    return run(SequencePlayerNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
