"""
``./mt``: what it needs, what it says when that is missing, and that it is quick when nothing changed.

Most tests run a copy of the script and its settings in a folder of its own, where nothing is prepared, and
end before anything would be downloaded.
"""

import fcntl
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICK_S = 2.0
# What a shell that never saw this environment has.
OURS = (
    'AMENT',
    'CMAKE',
    'COLCON',
    'FASTDDS',
    'FASTRTPS',
    'LD_LIBRARY_PATH',
    'MT_',
    'PYTHONPATH',
    'ROS',
    'VIRTUAL',
)
BASE_PYTHON = os.environ.get('MT_BASE_PYTHON') or str(Path(sys.base_prefix) / 'bin' / 'python3')


@pytest.fixture
def shell():
    """Environment variables of a fresh shell, with the interpreter this environment was made with."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    paths = [path for path in variables['PATH'].split(':') if '.venv' not in path]
    return {**variables, 'PATH': ':'.join(paths), 'MT_PYTHON': BASE_PYTHON}


@pytest.fixture
def clone(tmp_path):
    """A copy of what ``./mt build`` reads, with nothing prepared."""
    root = tmp_path / 'clone'
    root.mkdir()
    shutil.copy(ROOT / 'mt', root / 'mt')
    ignore = shutil.ignore_patterns('__pycache__', 'models', '*.egg-info', 'test')
    for folder in ('.mt', 'src', 'launch', 'config'):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True, ignore=ignore)
    return root


def mt(root, *arguments, variables, **options):
    """Run ./mt to its end."""
    return subprocess.run(
        [str(root / 'mt'), *arguments], env=variables, capture_output=True, text=True, timeout=1800, **options
    )


def fake(folder, name, script):
    """Put an executable script into a folder of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return path


def children_s():
    """Seconds of processor time that ended child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_wrong_python_is_one_sentence(clone, shell, tmp_path):
    """An interpreter that is too old is named, and the Debian packages that mend it."""
    # what `python -c` of a 3.8 would do: print its version, and exit with 1 when asked whether it suits
    old = fake(tmp_path / 'bin', 'python3.8', 'case "$2" in *platform*) echo 3.8.10;; *) exit 1;; esac')
    done = mt(clone, 'build', variables={**shell, 'MT_PYTHON': str(old)})
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert 'needs Python 3.10 to 3.14' in done.stderr and '3.8.10' in done.stderr
    assert 'sudo apt install python3 python3-venv python3-dev' in done.stderr
    assert not (clone / '.venv').exists()


def test_missing_compiler_is_one_sentence(clone, shell, tmp_path):
    """All that is missing is named at once, before anything is downloaded."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in ('bash', 'sh', 'env', 'readlink', 'dirname'):
        (tools / name).symlink_to(shutil.which(name))
    variables = {**shell, 'PATH': str(tools)}
    done = mt(clone, 'build', variables=variables)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.strip() == (
        'mt: a C++ compiler, a C compiler, cmake and make not found; '
        'install with: sudo apt install g++ gcc cmake make'
    )
    assert not (clone / '.venv').exists()
    for name in ('c++', 'cc', 'cmake'):
        fake(tools, name, 'exit 0')
    done = mt(clone, 'build', variables=variables)
    assert done.stderr.strip() == 'mt: make not found; install with: sudo apt install make'


def test_sourced_ros_decides_the_interpreter(clone, shell, tmp_path):
    """With ROS_DISTRO set, the interpreter that can import its rclpy is used, and its name is handed on."""
    (clone / '.mt' / 'commands.py').write_text('import os, rclpy\nprint(os.environ["MT_ROS"], rclpy.MARK)\n')
    (tmp_path / 'ros' / 'rclpy').mkdir(parents=True)
    (tmp_path / 'ros' / 'rclpy' / '__init__.py').write_text('MARK = "sourced"\n')
    without = fake(tmp_path / 'bin', 'python3', 'exit 1')
    sourced = {**shell, 'ROS_DISTRO': 'humble', 'PYTHONPATH': str(tmp_path / 'ros')}
    done = mt(clone, variables={**sourced, 'MT_PYTHON': f'{without} {BASE_PYTHON}'})
    assert done.stdout.split() == ['humble', 'sourced'] and not done.stderr
    # an installation that no interpreter can use is not mixed in silently
    (clone / '.mt' / 'commands.py').write_text('import os\nprint(os.environ["MT_ROS"])\n')
    done = mt(clone, variables={**shell, 'ROS_DISTRO': 'humble'})
    assert done.stdout.split() == ['pypi']
    assert "ROS_DISTRO is 'humble' but no Python" in done.stderr


def test_prepared_environment_keeps_its_interpreter(clone, shell, modules, tmp_path):
    """Chosen once with MT_PYTHON, an interpreter stays; another one would be another environment."""
    _, _, state = modules
    (clone / '.venv').mkdir()
    chosen = fake(tmp_path / 'bin', 'python3.12', 'echo chosen')
    state.State(clone / '.venv' / 'mt.json').record('interpreter', str(chosen))
    state.State(clone / '.venv' / 'mt.json').record('base', 'x')
    variables = {key: value for key, value in shell.items() if key != 'MT_PYTHON'}
    assert mt(clone, 'build', variables=variables).stdout == 'chosen\n'


def test_one_preparation_at_a_time(clone, shell, tmp_path):
    """A second ./mt waits, says so, and goes on when the first one is done."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    for name in ('bash', 'env', 'readlink', 'dirname'):
        (tools / name).symlink_to(shutil.which(name))
    descriptor = os.open(clone / '.mt', os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    process = subprocess.Popen(
        [str(clone / 'mt'), 'build'],
        env={**shell, 'PATH': str(tools)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr.readline().startswith('mt: waiting for another ./mt')
        assert process.poll() is None
        os.close(descriptor)
        # it went on: to the missing compiler
        assert 'not found; install with' in process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def modules(monkeypatch):
    """The modules behind ./mt."""
    monkeypatch.syspath_prepend(str(ROOT / '.mt'))
    import environment
    import progress
    import state

    return environment, progress, state


def test_interrupted_preparation_goes_on(clone, modules, monkeypatch):
    """A failed download leaves the finished steps finished, and the failed one is done again."""
    environment, progress, _ = modules
    calls = []

    def fail(self, *arguments):
        calls.append('pip')
        raise environment.Problem('no network')

    monkeypatch.setattr(environment, '_create', lambda prefix, **_: (calls.append('create'), prefix.mkdir()))
    monkeypatch.setattr(environment.Environment, '_mend_wheels', lambda self: calls.append('mend'))
    monkeypatch.setattr(environment.Environment, '_pip', fail)
    with pytest.raises(environment.Problem):
        environment.Environment(clone, 'pypi', progress.Progress()).prepare_packages()
    monkeypatch.setattr(environment.Environment, '_pip', lambda self, *_: calls.append('pip'))
    environment.Environment(clone, 'pypi', progress.Progress()).prepare_packages()
    environment.Environment(clone, 'pypi', progress.Progress()).prepare_packages()
    assert calls == ['create', 'pip', 'pip', 'mend']
    # another set of pins is another preparation, in the same environment
    (clone / '.mt' / 'constraints.txt').write_text('numpy==2.0\n')
    environment.Environment(clone, 'pypi', progress.Progress()).prepare_packages()
    assert calls == ['create', 'pip', 'pip', 'mend', 'pip', 'mend']


def test_damaged_state_is_prepared_anew(tmp_path, modules):
    """A state file cut off by a full disk counts as nothing prepared."""
    _, _, state = modules
    path = tmp_path / 'mt.json'
    state.State(path).record('base', 'x')
    assert state.State(path).is_current('base', 'x')
    path.write_text(path.read_text()[:-3])
    assert not state.State(path).is_current('base', 'x')


def test_numpy_stays_compatible_with_a_sourced_ros(tmp_path, modules, monkeypatch):
    """cv_bridge of Humble (numpy 1.21) and Jazzy (1.26) does not load with numpy 2."""
    environment, progress, _ = modules
    made = environment.Environment(tmp_path, 'humble', progress.Progress())
    made.prefix.mkdir()
    assert made.prefix.name == '.venv-humble'
    for version, expected in (('1.21.5', 'numpy<1.25'), ('1.26.4', 'numpy<2')):
        monkeypatch.setattr(environment, '_output', lambda *_, version=version: version)
        option, file = made._system_constraints()
        assert option == '-c' and Path(file).read_text().strip() == expected
    monkeypatch.setattr(environment, '_output', lambda *_: '2.3.1')
    assert made._system_constraints() == []


HANGS = """
import subprocess, sys, time

def test_hangs():
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    open('child', 'w').write(str(child.pid))
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            pass
"""


def test_a_run_of_the_tests_has_an_end(tmp_path, monkeypatch):
    """Even pytest itself may hang: its folder counts as broken then, and nothing of it stays behind."""
    monkeypatch.syspath_prepend(str(ROOT / '.mt'))
    import suite

    (tmp_path / 'test_hangs.py').write_text(HANGS)
    monkeypatch.setattr(suite, 'GRACE_S', 1)
    environment = SimpleNamespace(prefix=tmp_path, root=tmp_path)
    python, paths = Path(sys.executable), ['test_hangs.py']
    outcome = suite._run(environment, dict(os.environ), 'some', python, paths, [], limit=8)
    assert 'did not end within 8 s' in outcome.broken and outcome.passed == 0
    child = int((tmp_path / 'child').read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f'/proc/{child}/cmdline').exists():
        if not Path(f'/proc/{child}/cmdline').read_bytes():  # a zombie
            break
        time.sleep(0.1)
    else:
        assert not Path(f'/proc/{child}').exists(), 'the child of the test still runs'


def test_no_test_may_hang(request):
    """pytest-timeout is there and configured."""
    if not request.config.pluginmanager.hasplugin('timeout'):
        pytest.skip('no pytest-timeout: it comes with ./mt test')
    assert 0 < float(request.config.getini('timeout')) <= 240


def test_nothing_to_do_is_quick(shell):
    """The second run does nothing, and a command starts within two seconds."""
    first = mt(ROOT, 'build', variables=shell)
    assert first.returncode == 0, first.stderr
    stamp = (Path(sys.prefix) / 'mt.json').stat().st_mtime_ns
    done = mt(ROOT, 'build', variables=shell)
    assert done.stdout == 'mt: nothing to do, everything is up to date\n' and not done.stderr
    assert (Path(sys.prefix) / 'mt.json').stat().st_mtime_ns == stamp
    started, used = time.monotonic(), children_s()
    for _ in range(3):
        assert mt(ROOT, 'exec', 'true', variables=shell).returncode == 0
    assert (children_s() - used) / 3 < QUICK_S
    if os.getloadavg()[0] < os.cpu_count():  # on a busy machine the clock measures the others
        assert (time.monotonic() - started) / 3 < QUICK_S


def test_variables_of_a_command(shell):
    """Discovery stays on this machine and Fast DDS gets our profile, unless the user says otherwise."""
    names = ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'FASTDDS_DEFAULT_PROFILES_FILE', 'ROS_DISTRO')
    code = f'import os; print(*[os.environ.get(name) for name in {names}], sep="\\n")'
    shown = mt(ROOT, 'exec', 'python', '-c', code, variables=shell).stdout.split()
    assert shown[0] == 'LOCALHOST' and shown[2] == os.environ['ROS_DISTRO']
    if shown[2] != 'humble':
        assert Path(shown[1]) == ROOT / 'config' / 'fastdds.xml'
    own = {**shell, names[0]: 'SUBNET', names[1]: '/my/profile.xml'}
    shown = mt(ROOT, 'exec', 'python', '-c', code, variables=own).stdout.split()
    assert shown[:2] == ['SUBNET', '/my/profile.xml']


@pytest.mark.parametrize(
    'arguments, expected',
    [
        (['fly'], "unknown command 'fly'; one of run, build, test, demo, exec, clean, help"),
        (['run'], 'run needs a package and an executable'),
        (['run', 'mt_perception', 'fly'], "no executable 'fly'; it has demo, evaluate, perception"),
        (['run', 'mt_flight', 'fly'], "no package 'mt_flight' with executables"),
        (['build', '--fast'], "build knows --training only, not '--fast'"),
        (['test', 'test/test_nothing.py'], 'no test file test/test_nothing.py'),
        (['exec', 'no-such-command'], "no command 'no-such-command'"),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_wrong_command_is_one_sentence(shell, arguments, expected):
    """Every mistake on the command line is named, with what there is instead."""
    done = mt(ROOT, *arguments, variables=shell, cwd=ROOT)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert expected in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sourced_ros_is_used(clone, shell):
    """
    The branch for a ROS that is installed, emulated by a prefix that has rclpy, its messages and all tools.

    The packages are built against it, and a message of ours crosses into a process that runs inside.
    """
    prefix = Path(sys.prefix)
    if not (prefix / 'share' / 'rclpy').exists():
        pytest.skip('ROS is sourced already; its branch is the one that all tests run in')
    site = prefix / 'lib' / f'python{sys.version_info.major}.{sys.version_info.minor}' / 'site-packages'
    libraries = [str(path) for path in site.glob('ros_*.libs')]
    sourced = {
        **shell,
        'ROS_DISTRO': 'kilted',
        'AMENT_PREFIX_PATH': str(prefix),
        'CMAKE_PREFIX_PATH': str(prefix),
        'PYTHONPATH': str(site),
        'LD_LIBRARY_PATH': ':'.join([str(prefix / 'lib'), *libraries]),
        '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1',
        'PIP_NO_INDEX': '1',  # nothing is missing, so nothing may be asked for
    }
    done = mt(clone, 'build', variables=sourced)
    assert done.returncode == 0, done.stderr
    assert (clone / '.venv-kilted').is_dir() and not (clone / '.venv').exists()
    code = 'import rclpy, mt_msgs, tf2_msgs; print(rclpy.__file__, mt_msgs.__file__, tf2_msgs.__file__)'
    paths = mt(clone, 'exec', 'python', '-c', code, variables=sourced).stdout.split()
    assert Path(paths[0]).is_relative_to(prefix)
    assert all(Path(path).is_relative_to(clone / '.venv-kilted') for path in paths[1:])
    again = mt(clone, 'build', variables=sourced)
    assert again.stdout == 'mt: nothing to do, everything is up to date\n'
