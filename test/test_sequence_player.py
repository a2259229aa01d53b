"""The sequence player: what it sends, when, and how it ends."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from nav_msgs.msg import Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from mt_msgs.msg import KeypointArray
from mt_perception.nodes.conversions import (
    camera_from_info,
    pose_from_message,
    rgb_from_compressed,
    rgb_from_image,
    seconds_from_stamp,
    stamp_from_seconds,
    stamp_key,
)
from mt_perception.nodes.frames import OPTICAL_TO_BASE, base_pose
from mt_perception.nodes.qos import latched_qos, output_qos
from mt_perception.sequences import open_sequence
from mt_perception.sequences.writer import write_sequence

pytestmark = pytest.mark.dds

WAIT_S = 60.0


class Audience:
    """Hears everything the player sends."""

    def __init__(self, listener):
        self.images, self.compressed, self.infos, self.clock, self.truth = [], [], [], [], []
        self.sent_ns = []
        listener.subscribe(Image, 'image', self._image, output_qos(100))
        listener.subscribe(CompressedImage, 'image/compressed', lambda m, i: self.compressed.append(m))
        listener.subscribe(CameraInfo, 'camera_info', lambda m, i: self.infos.append(m), output_qos(100))
        listener.subscribe(Clock, '/clock', lambda m, i: self.clock.append(m), output_qos(1000))
        listener.subscribe(
            Path, 'sequence_player/ground_truth', lambda m, i: self.truth.append(m), latched_qos()
        )

    def _image(self, message, info):
        self.images.append(message)
        self.sent_ns.append(info['source_timestamp'])


def test_real_time_at_a_rate(nodes, street, listener):
    """Every image once, in order, with its camera, stamp and truth, at the rate asked for; then status 0."""
    sequence = open_sequence(street, frames='3:13')
    audience = Audience(listener)
    player = nodes.start(
        'sequence_player',
        sequence=street,
        frames='3:13',
        rate=5,
        wait_for_info_subscribers=1,
        publish_clock=True,
    )
    assert listener.wait_for(lambda: not player.running, WAIT_S * 2, player.check)
    assert player.wait() == 0
    assert listener.wait_for(lambda: len(audience.images) == 10, 5)
    expected = [stamp_key(stamp_from_seconds(stamp)) for stamp in sequence.stamps]
    assert [stamp_key(image.header.stamp) for image in audience.images] == expected
    assert [stamp_key(info.header.stamp) for info in audience.infos] == expected
    for number in (0, 9):
        assert np.array_equal(rgb_from_image(audience.images[number]), sequence[number].image)
    assert np.allclose(camera_from_info(audience.infos[0]).matrix, sequence.camera.matrix)
    steps = np.diff(audience.sent_ns) * 1e-9
    assert np.median(steps) == pytest.approx(0.2, abs=0.05)
    assert (audience.sent_ns[-1] - audience.sent_ns[0]) * 1e-9 == pytest.approx(9 * 0.2, abs=0.5)

    assert len(audience.truth) == 1
    truth = audience.truth[0]
    assert truth.header.frame_id == 'odom'
    relative = np.linalg.inv(sequence.poses[0]) @ sequence.poses[9]
    assert np.allclose(
        pose_from_message(truth.poses[9].pose), base_pose(relative, OPTICAL_TO_BASE), atol=1e-9
    )
    clock = [seconds_from_stamp(message.clock) for message in audience.clock]
    assert sorted(set(expected) - {stamp_key(message.clock) for message in audience.clock}) == []
    assert clock == sorted(clock)


def test_compressed_and_stepped_by_service(nodes, street, listener):
    """Nothing comes before the service is called, and one image for each call."""
    sequence = open_sequence(street, frames='0:3')
    audience = Audience(listener)
    player = nodes.start(
        'sequence_player', sequence=street, frames='0:3', step='service', image_transport='compressed'
    )
    for number in range(3):
        assert len(audience.compressed) == number
        response = listener.call(Trigger, 'sequence_player/step', Trigger.Request(), WAIT_S, player.check)
        assert response is not None
        assert listener.wait_for(lambda number=number: len(audience.compressed) == number + 1, WAIT_S)
    assert listener.wait_for(lambda: not player.running, WAIT_S, player.check)
    difference = rgb_from_compressed(audience.compressed[2]).astype(int) - sequence[2].image
    assert np.abs(difference).mean() < 4, 'a JPEG of the right image'


def test_an_unanswered_step_is_repeated(nodes, street, listener, diagnostics):
    """Stepping by keypoints that never come: the same image again, with a sentence, not the next one."""
    audience = Audience(listener)
    player = nodes.start(
        'sequence_player',
        sequence=street,
        frames='0:5',
        step='keypoints',
        step_timeout=0.5,
        diagnostics_period=0.1,
    )
    assert listener.wait_for(lambda: len(audience.images) >= 3, WAIT_S, player.check)
    assert {stamp_key(image.header.stamp) for image in audience.images} == {0}
    assert listener.wait_for(
        lambda: int(diagnostics.value('sequence_player', 'images sent again') or 0) >= 2, WAIT_S
    )
    assert 'sending it again' in player.log.read_text()


def test_waits_for_its_audience(nodes, street, listener, diagnostics):
    """Without a subscriber nothing is played; the first one gets the first image."""
    player = nodes.start('sequence_player', sequence=street, frames='0:3', diagnostics_period=0.1)
    diagnostics.wait_sentence('sequence_player', 'waiting for subscribers')
    assert player.running
    audience = Audience(listener)
    assert listener.wait_for(lambda: not player.running, WAIT_S, player.check)
    assert listener.wait_for(lambda: len(audience.images) == 3, 5)
    assert stamp_key(audience.images[0].header.stamp) == 0


def cut_bag(street, folder):
    """Write a bag of the street and cut its database in the middle."""
    write_sequence(open_sequence(street, frames='0:6'), folder, 'sqlite3')
    database = next(folder.glob('*.db3'))
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])
    return folder


@pytest.mark.parametrize('case', ['missing', 'empty folder', 'cut bag', 'no such scene', 'nothing'])
def test_a_sequence_that_is_none(nodes, street, tmp_path, case):
    """One sentence that names the thing, status 1, no traceback."""
    if case == 'cut bag':
        source, part = cut_bag(street, tmp_path / 'bag'), 'bag'
    elif case == 'empty folder':
        source = tmp_path / 'empty'
        source.mkdir()
        part = 'empty'
    elif case == 'no such scene':
        source, part = 'rendered:moon', 'moon'
    elif case == 'missing':
        source, part = tmp_path / 'nowhere', 'nowhere'
    else:
        source, part = '', "parameter 'sequence' is empty"
    player = nodes.start('sequence_player', sequence=str(source), wait_for_subscribers=0)
    assert player.wait() == 1
    assert part in player.last_words()
    assert 'Traceback' not in player.log.read_text()


def test_two_images_in_flight(nodes, street, listener):
    """The third image waits for the first result; a result for the second counts for both."""
    audience = Audience(listener)
    answers = listener.node.create_publisher(KeypointArray, 'perception/keypoints', output_qos())
    player = nodes.start('sequence_player', sequence=street, frames='0:5', step='keypoints', in_flight=2)

    def wait_for(count):
        assert listener.wait_for(lambda: len(audience.images) >= count, WAIT_S, player.check)
        listener.wait_for(lambda: False, 0.3)
        assert len(audience.images) == count

    wait_for(2)
    assert listener.wait_for(lambda: answers.get_subscription_count() > 0, WAIT_S)
    answers.publish(KeypointArray(header=audience.images[0].header))
    wait_for(3)
    answers.publish(KeypointArray(header=audience.images[2].header))
    wait_for(5)
    assert player.running, 'it waits for the last results, too'
    answers.publish(KeypointArray(header=audience.images[4].header))
    assert listener.wait_for(lambda: not player.running, WAIT_S)
    assert player.wait() == 0
