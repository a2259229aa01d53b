"""Every node ends with status 0 on SIGINT and SIGTERM, in the middle of its work; nothing stays behind."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here')

from nav_msgs.msg import Odometry

from mt_msgs.msg import KeypointArray

pytestmark = pytest.mark.dds

WAIT_S = 60.0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signal_under_load(nodes, listener, diagnostics, corner_model, street, number):
    """Images come as fast as they can and all three nodes are busy when the signal comes, twice."""
    seen = []
    listener.subscribe(Odometry, 'visual_odometry/odometry', lambda m, i: seen.append(m))
    perception = nodes.start('perception', model=str(corner_model), diagnostics_period=0.2)
    odometry = nodes.start('visual_odometry', matcher='nearest', diagnostics_period=0.2)
    diagnostics.wait_active(perception, odometry)
    player = nodes.start('sequence_player', sequence=street, rate=100, loop=True)
    assert listener.wait_for(lambda: len(seen) >= 5, WAIT_S * 2, player.check)
    processes = (player, perception, odometry)
    for process in processes:
        process.send(number)
    for process in processes:
        process.send(number)  # an impatient second one
    statuses = {process.name: process.wait() for process in processes}
    logs = '\n'.join(process.log.read_text() for process in processes)
    assert statuses == dict.fromkeys(statuses, 0), logs
    assert 'Traceback' not in logs
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.killpg(process.process.pid, 0)


@pytest.mark.parametrize('when', ['starting', 'waiting'])
def test_signal_at_other_times(nodes, listener, diagnostics, corner_model, when):
    """While the node starts, and while it has nothing to do."""
    process = nodes.start('perception', model=str(corner_model), diagnostics_period=0.2)
    if when == 'waiting':
        diagnostics.wait_active(process)
    else:  # rclpy is up, the engine is not
        assert listener.wait_for(
            lambda: 'perception' in listener.node.get_node_names(), WAIT_S, process.check
        )
    process.send(signal.SIGTERM)
    assert process.wait() == 0, process.log.read_text()


PARENT = """
import sys
from mt_perception.nodes.processes import NodeProcess
process = NodeProcess('perception', {'model': sys.argv[1], 'diagnostics_period': 0.2}, log=sys.argv[2])
print(process.process.pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_parent_leaves_no_node(listener, diagnostics, corner_model, domain, tmp_path):
    """Even a program that is killed without a chance to clean up takes its nodes along."""
    log = tmp_path / 'node.log'
    with subprocess.Popen(
        [sys.executable, '-c', PARENT, str(corner_model), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
    ) as parent:
        try:
            pid = int(parent.stdout.readline())
            assert listener.wait_for(lambda: diagnostics.value('perception', 'state') == 'active', WAIT_S)
        finally:
            parent.kill()
        parent.wait(WAIT_S)
        assert listener.wait_for(lambda: not alive(pid), WAIT_S), log.read_text()


def alive(pid):
    """Tell whether a process runs (a zombie does not)."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_a_domain_in_use_is_not_chosen(domain, listener):
    """Two programs on one machine get different domains."""
    from mt_perception.nodes.processes import free_domain

    assert listener.node.get_name() == 'test'
    assert free_domain(start=domain - 1) != domain


def test_keypoints_of_a_stopped_node_stop(nodes, listener, diagnostics, corner_model):
    """After the end of perception its publishers are gone from the graph."""
    process = nodes.start('perception', model=str(corner_model), diagnostics_period=0.2)
    diagnostics.wait_active(process)
    listener.subscribe(KeypointArray, 'perception/keypoints', lambda m, i: None)
    assert listener.wait_for(lambda: listener.node.count_publishers('perception/keypoints') == 1, WAIT_S)
    assert process.stop() == 0
    assert listener.wait_for(lambda: listener.node.count_publishers('perception/keypoints') == 0, WAIT_S)
