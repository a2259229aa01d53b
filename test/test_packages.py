"""The packages as colcon and other ROS packages see them: build types, installed files, messages."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix, get_package_share_directory

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = {'desktop.launch.py', 'jetson.launch.py', 'replay.launch.py'}
CONFIG = {
    'perception.yaml',
    'visual_odometry.yaml',
    'place_recognition.yaml',
    'jetson.yaml',
    'fastdds.xml',
    'mt_perception.rviz',
}
# The fields of the real packages: geometry2 (ros2) and vision_msgs 4 (ros-perception).
REAL_DEFINITIONS = {
    'tf2_msgs/msg/TFMessage': ['geometry_msgs/TransformStamped[] transforms'],
    'vision_msgs/msg/VisionClass': ['uint16 class_id', 'string class_name'],
    'vision_msgs/msg/LabelInfo': [
        'std_msgs/Header header',
        'vision_msgs/VisionClass[] class_map',
        'float32 threshold',
    ],
}


def colcon(*arguments):
    """Run colcon of this environment."""
    command = [sys.executable, '-m', 'colcon', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_colcon_lists_the_right_build_types(tmp_path):
    """A package.xml with a mistake in it would make colcon take the package for plain Python, silently."""
    listed = colcon('--log-base', tmp_path, 'list', '--base-paths', 'src')
    types = {line.split('\t')[0]: line.split('\t')[2] for line in listed.splitlines()}
    assert types == {
        'mt_msgs': '(ros.ament_cmake)',
        'mt_perception': '(ros.ament_python)',
        'mt_training': '(ros.ament_python)',
    }


def test_colcon_at_the_top_sees_these_packages_only(tmp_path):
    """In a ROS workspace the interface packages and the environments stay out of sight."""
    listed = colcon('--log-base', tmp_path, 'list', '--names-only')
    assert listed.split() == ['mt_msgs', 'mt_perception', 'mt_training']


def test_plain_colcon_build_installs_everything(tmp_path):
    """Copied, not linked: launch and parameter files, executables, models and the classes that use them."""
    install = tmp_path / 'install'
    colcon(
        *('--log-base', tmp_path / 'log', 'build', '--base-paths', 'src'),
        *('--packages-select', 'mt_perception', 'mt_training'),
        *('--build-base', tmp_path / 'build', '--install-base', install),
    )
    share = install / 'mt_perception' / 'share' / 'mt_perception'
    assert {path.name for path in (share / 'launch').iterdir()} >= LAUNCH
    assert {path.name for path in (share / 'config').iterdir()} >= CONFIG
    assert all(path.is_file() and not path.is_symlink() for path in share.rglob('*.*') if path.is_file())
    package = next((install / 'mt_perception').glob('lib/python*/site-packages/mt_perception'))
    source = ROOT / 'src' / 'mt_perception' / 'mt_perception'
    not_code = {
        str(path.relative_to(source))
        for path in source.rglob('*')
        if path.is_file() and path.suffix not in ('.pyc',) and '__pycache__' not in path.parts
    }
    missing = {name for name in not_code if not (package / name).exists()}
    assert not missing


@pytest.mark.parametrize('package', ['mt_perception', 'mt_training'])
def test_every_executable_can_be_started(package):
    """Each entry point names a function that exists."""
    folder = Path(get_package_prefix(package)) / 'lib' / package
    names = {path.name for path in folder.iterdir()}
    expected = {
        'mt_perception': {
            *('demo', 'evaluate', 'perception', 'place_recognition', 'sequence_player', 'visual_odometry'),
        },
        'mt_training': {
            *('benchmark', 'build_engine', 'convert_mapillary', 'distill', 'evaluate', 'export', 'package'),
            *('panoptic', 'predict', 'prune', 'pseudo_label', 'quantize', 'speed', 'train'),
        },
    }
    assert names == expected[package]
    setup = (ROOT / 'src' / package / 'setup.py').read_text()
    for module, function in re.findall(r"= ([\w.]+):(\w+)'", setup):
        file = ROOT / 'src' / package / (module.replace('.', '/') + '.py')
        assert re.search(rf'^def {function}\(', file.read_text(), re.MULTILINE), f'{module}:{function}'


def test_share_folder():
    """What `ros2 launch mt_perception` finds."""
    share = Path(get_package_share_directory('mt_perception'))
    assert {path.name for path in (share / 'launch').iterdir()} >= LAUNCH
    assert {path.name for path in (share / 'config').iterdir()} >= CONFIG


def test_manifests_agree():
    """One version everywhere; every dependency of a manifest is a package name."""
    from mt_perception import __version__

    for folder in (ROOT / 'src').iterdir():
        root = ElementTree.parse(folder / 'package.xml').getroot()
        assert root.get('format') == '3' and root.findtext('license') == 'Apache-2.0'
        assert root.findtext('version') == __version__
        if (folder / 'setup.py').exists():
            assert f"version='{__version__}'" in (folder / 'setup.py').read_text()


@pytest.mark.parametrize('name', REAL_DEFINITIONS)
def test_interfaces_equal_the_real_ones(name):
    """Same fields in the same order, so that RViz and tf2 of a real ROS understand them."""
    text = (ROOT / '.mt' / 'interfaces' / f'{name}.msg').read_text()
    fields = [' '.join(line.split('#')[0].split()) for line in text.splitlines()]
    assert [field for field in fields if field] == REAL_DEFINITIONS[name]
    # and what is built here, or installed, is that
    package, _, message = name.split('/')
    module = __import__(f'{package}.msg', fromlist=[message])
    built = getattr(module, message).get_fields_and_field_types()
    expected = [field.split() for field in REAL_DEFINITIONS[name]]
    assert list(built) == [field[1] for field in expected]


def test_messages_default_to_nothing_known():
    """The constants users write, and empty arrays."""
    from mt_msgs.msg import GlobalDescriptor, KeypointArray, LoopClosure, VisualOdometryState
    from mt_msgs.srv import SaveTrajectory

    message = KeypointArray()
    assert (message.FLOAT32, message.FLOAT16, message.UINT8, message.UNKNOWN_CLASS) == (0, 1, 2, 255)
    assert message.descriptor_type == message.FLOAT32 and len(message.descriptors) == 0
    state = VisualOdometryState()
    assert (state.INITIALIZING, state.TRACKING, state.LOST, state.metric) == (0, 1, 2, False)
    assert LoopClosure().relative_pose.covariance.shape == (36,)
    assert GlobalDescriptor().model_id == '' and SaveTrajectory.Response().success is False


def test_every_field_is_described():
    """A comment stands above every field of our own interfaces, in its block."""
    for file in (ROOT / 'src' / 'mt_msgs').glob('*/*.[ms]*'):
        blocks = re.split(r'\n\s*\n|\n---\n', file.read_text())
        for block in blocks:
            fields = [line for line in block.splitlines() if line and not line.startswith(('#', '---'))]
            assert not fields or '#' in block, f'{file.name}: {fields}'


def test_wheels_are_mended():
    """No path of the machine that the wheels were built on is left in their CMake files."""
    if not (Path(sys.prefix) / 'share' / 'rclpy').exists():
        pytest.skip('ROS does not come from PyPI here')
    left = [
        str(path) for path in Path(sys.prefix).glob('share/**/*.cmake') if '/opt/python/' in path.read_text()
    ]
    assert not left


def test_colcon_test_runs_tests(tmp_path):
    """Without extras_require in setup.py, colcon would run nothing and say OK."""
    base = ('--base-paths', 'src', '--build-base', tmp_path / 'build', '--install-base', tmp_path / 'install')
    colcon('--log-base', tmp_path / 'log', 'build', *base, '--packages-select', 'mt_training')
    colcon(
        *('--log-base', tmp_path / 'log', 'test', *base, '--packages-select', 'mt_training'),
        *('--pytest-args', 'test/test_retrieval_metrics.py'),
    )
    summary = colcon('--log-base', tmp_path / 'log', 'test-result', '--test-result-base', tmp_path / 'build')
    tests = int(re.search(r'Summary: (\d+) tests?, 0 errors, 0 failures', summary)[1])
    assert tests >= 3
