"""The launch files, with the real launch and launch_ros where those are installed (they are not on PyPI)."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
END_S = 120.0


@pytest.fixture
def ros2():
    """Return the `ros2` command, if it has `ros2 launch`."""
    pytest.importorskip(
        'launch_ros', reason='launch_ros is not installed; it comes with a ROS 2 installation'
    )
    pytest.importorskip(
        'ros2launch', reason='ros2launch is not installed; it comes with a ROS 2 installation'
    )
    return shutil.which('ros2')


def calls(file, name):
    """Return the calls of a function in a file."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == name]


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_argument_is_described(file):
    """And has a default: no launch file needs an argument to start."""
    for call in calls(file, 'DeclareLaunchArgument'):
        given = {keyword.arg for keyword in call.keywords}
        assert {'default_value', 'description'} <= given, ast.unparse(call.args[0])


def test_parameters_exist():
    """A launch file that sets a parameter the node does not have would only fail on a robot."""
    from mt_perception.nodes.managed_node import COMMON_PARAMETERS
    from mt_perception.nodes.perception import PerceptionNode
    from mt_perception.nodes.place_recognition import PlaceRecognitionNode
    from mt_perception.nodes.sequence_player import SequencePlayerNode
    from mt_perception.nodes.visual_odometry import VisualOdometryNode

    def names(node):
        return {entry.name for entry in COMMON_PARAMETERS + node.PARAMETERS} | {'use_sim_time'}

    desktop, replay = ROOT / 'launch' / 'desktop.launch.py', ROOT / 'launch' / 'replay.launch.py'
    given = {call.args[0].value: {key.arg for key in call.keywords} for call in calls(desktop, 'node')}
    assert given['perception'] <= names(PerceptionNode)
    assert given['visual_odometry'] <= names(VisualOdometryNode)
    assert given['place_recognition'] <= names(PlaceRecognitionNode)
    keys = [
        {key.value for key in node.keys}
        for node in ast.walk(ast.parse(replay.read_text()))
        if isinstance(node, ast.Dict) and len(node.keys) > 3
    ]
    assert keys and keys[0] <= names(SequencePlayerNode)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_show_args(ros2, file):
    """`ros2 launch --show-args` lists the arguments of each file, the included ones too."""
    command = [ros2, 'launch', 'mt_perception', file.name, '--show-args']
    done = subprocess.run(command, capture_output=True, text=True, timeout=END_S)
    assert done.returncode == 0, done.stderr
    for name in (
        'image',
        'camera_info',
        'namespace',
        'params_file',
        'model',
        'engine',
        'rviz',
        'use_sim_time',
    ):
        assert f"'{name}':" in done.stdout


@pytest.mark.dds
def test_replay_runs_to_the_end(ros2, exact_model, domain):
    """The player and perception start, configure and activate themselves, and all end with the sequence."""
    arguments = [
        'sequence:=rendered:street',
        'frames:=0:3',
        'odometry:=false',
        'namespace:=robot',
        'image:=/cam/image',
    ]
    done = subprocess.run(
        [ros2, 'launch', 'mt_perception', 'replay.launch.py', f'model:={exact_model}', *arguments],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain), 'PYTHONUNBUFFERED': '1'},
        capture_output=True,
        text=True,
        timeout=END_S,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count('process has finished cleanly') == 2, said


@pytest.mark.dds
def test_wrong_model_is_said(ros2, tmp_path, domain):
    """A model that is not one: perception says so in its sentence, and the launch ends with status 1."""
    (tmp_path / 'text.onnx').write_text('not a model')
    process = subprocess.Popen(
        [
            ros2,
            'launch',
            'mt_perception',
            'desktop.launch.py',
            f'model:={tmp_path / "text.onnx"}',
            'odometry:=false',
        ],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = process.communicate(timeout=END_S)[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert 'text.onnx' in said and 'Traceback' not in said, said
    assert process.returncode == 1, said


def test_imports_are_there():
    """The launch files import nothing that the environment lacks, besides launch itself."""
    allowed = {'launch', 'launch_ros', 'ament_index_python', *sys.stdlib_module_names}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module.split('.')[0] in allowed, f'{file.name}: {node.module}'
