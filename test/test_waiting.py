"""Every wait has an end: who waits in vain says in one sentence for what, and ends."""

import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from sensor_msgs.msg import Image
from std_msgs.msg import String

from mt_perception.nodes.conversions import stamp_key
from mt_perception.nodes.listener import Listener
from mt_perception.nodes.processes import NodeError
from mt_perception.nodes.qos import output_qos
from mt_perception.nodes.recorder import Recorder
from mt_perception.nodes.system import System

pytestmark = pytest.mark.dds

WAIT_S = 60.0


def test_a_player_nobody_listens_to(nodes, street):
    """It ends with status 1 and says whom it has waited for."""
    player = nodes.start('sequence_player', sequence=street, wait_for_info_subscribers=2, patience=1.0)
    assert player.wait(WAIT_S) == 1
    said = player.last_words()
    assert 'did not come within 1 s' in said
    assert '/image has 0 of 1, /camera_info has 0 of 2' in said


def test_a_player_nobody_answers(nodes, street, listener):
    """Images that get no result are sent three times and left behind; in the end the player gives up."""
    stamps = []
    listener.subscribe(Image, 'image', lambda m, i: stamps.append(stamp_key(m.header.stamp)), output_qos(100))
    player = nodes.start(
        'sequence_player', sequence=street, frames='0:20', step='odometry', step_timeout=0.3, patience=8.0
    )
    assert player.wait(WAIT_S) == 1
    said = player.last_words()
    assert 'no odometry came for 8 s' in said
    assert 'of 20 images were sent, 0 results came' in said
    assert '/visual_odometry/odometry has 0 publisher(s)' in said
    second = 100_000_000
    assert listener.wait_for(lambda: second in stamps, 5)
    assert stamps[:4] == [0, 0, 0, second]
    assert 'going on without it' in player.log.read_text()


def test_a_sequence_that_does_not_get_on(corner_model, street, tmp_path):
    """What has arrived is said, and all nodes end."""
    with System(tmp_path, {'model': str(corner_model)}) as system:
        recorder = Recorder(system.listener)
        system.start(subscribers=1)
        parameters = {'sequence': street, 'step': 'service'}  # which nobody calls
        with pytest.raises(NodeError) as caught:
            system.play_to_end(parameters, recorder, 'keypoints_ns', patience=12.0)
    sentence = str(caught.value)
    assert 'nothing has happened for 12 s' in sentence
    assert '0 published, 0 keypoints and 0 odometry messages came' in sentence
    assert "sequence_player: 'playing'" in sentence and "perception: '" in sentence


def test_a_callback_that_fails_ends_the_waiting(domain):
    """A listener that hears nothing any more does not let anybody wait for it."""

    def fail(message, info):
        raise ValueError('what a message')

    with Listener(domain, 'failing') as failing:
        failing.subscribe(String, 'words', fail)
        publisher = failing.node.create_publisher(String, 'words', output_qos())
        assert failing.wait_for(lambda: publisher.get_subscription_count() == 1, WAIT_S)
        publisher.publish(String(data='one'))
        with pytest.raises(ValueError, match='what a message'):
            failing.wait_for(lambda: False, WAIT_S)


def test_a_listener_closes_while_nothing_comes(domain):
    """Whenever it is closed, in the middle of its spinning too."""
    for _ in range(20):
        started = time.monotonic()
        Listener(domain, 'short').close()
        assert time.monotonic() - started < 9


HANGS = """
import time
from mt_perception.nodes import runner
runner.GRACE_S = 0.5
stop = runner.StopSignal()
stop.starting = False
stop.request()
time.sleep(600)
"""


def test_a_clean_up_that_hangs_after_the_work():
    """The end of the work starts the same clock as a signal."""
    done = subprocess.run([sys.executable, '-c', HANGS], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 1
    assert 'giving up in' in done.stderr
