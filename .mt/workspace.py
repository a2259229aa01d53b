"""The colcon workspace: the packages of src/, and the interface packages that the environment lacks."""

import os
import shutil
import subprocess
from pathlib import Path

from state import digest_of
from system import Problem

PATH_VARIABLES = (
    'AMENT_PREFIX_PATH',
    'CMAKE_PREFIX_PATH',
    'COLCON_PREFIX_PATH',
    'LD_LIBRARY_PATH',
    'PATH',
    'PKG_CONFIG_PATH',
    'PYTHONPATH',
)
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


class Workspace:
    """
    Built out of the way of a user's own ``colcon build``, inside the environment's folder.

    Python packages are linked, not copied: an edited module, launch file or parameter file needs no build.
    """

    def __init__(self, environment):
        """Describe the workspace of an :class:`environment.Environment`."""
        self.environment = environment
        self.root = environment.root
        self.base = environment.prefix / 'colcon'
        self.install = self.base / 'install'

    def digest(self):
        """Everything a build depends on: not the modules themselves, they are linked."""
        source = self.root / 'src'
        files = [
            self.environment.packages_digest(),
            self.environment.settings / 'interfaces',
            source / 'mt_msgs',
        ]
        for package in ('mt_perception', 'mt_training'):
            files += [source / package / name for name in ('package.xml', 'setup.py', 'setup.cfg')]
        # links to these are made file by file
        names = [
            sorted(path.name for path in (self.root / folder).glob('*.*')) for folder in ('launch', 'config')
        ]
        return digest_of(*files, names)

    def is_current(self):
        """Whether the last build is good."""
        environment = self.environment
        return environment.state.is_current('packages', environment.packages_digest()) and (
            environment.state.is_current('workspace', self.digest())
        )

    def build(self):
        """Build with colcon if anything changed that needs it."""
        if self.is_current():
            return
        packages = self._missing_interfaces()
        note = f' and {", ".join(packages)}' if packages else ''
        self.environment.progress.step(f'building the packages of src/{note} with colcon')
        log = self.environment.prefix / 'mt-colcon.log'
        command = [
            str(self.environment.python),
            '-m',
            'colcon',
            '--log-base',
            str(self.base / 'log'),
            'build',
        ]
        command += ['--base-paths', 'src', *(str(Path('.mt/interfaces') / name) for name in packages)]
        command += ['--build-base', str(self.base / 'build'), '--install-base', str(self.install)]
        command += ['--symlink-install', '--event-handlers', 'console_cohesion+', '--cmake-args']
        command += [
            f'-DPython3_EXECUTABLE={self.environment.python}',
            '-DBUILD_SHARED_LIBS=ON',
            '-DBUILD_TESTING=OFF',
        ]
        environment = self.base_variables()
        environment['COLCON_DEFAULTS_FILE'] = os.devnull
        with open(log, 'w') as file:
            pipe = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for line in pipe.stdout:
                file.write(line)
                if line.startswith(('Starting >>>', 'Finished <<<')):
                    self.environment.progress.note(line.strip())
        if pipe.wait() != 0:
            raise Problem(f'the build failed: {_first_error(log)} (whole output: {log})')
        self.environment.state.record('variables', self._added_variables())
        self.environment.state.record('workspace', self.digest())

    def base_variables(self):
        """Return the variables of the environment without this workspace: ROS and the interpreter."""
        environment = self.environment
        variables = dict(os.environ)
        variables['VIRTUAL_ENV'] = str(environment.prefix)
        variables['MT_ROS'] = environment.kind
        variables.pop('PYTHONHOME', None)
        _prepend(variables, 'PATH', [str(environment.prefix / 'bin')])
        if environment.kind != 'pypi':
            return variables
        prefix = str(environment.prefix)
        # an installation that is sourced but cannot be used must not be mixed in
        foreign = [path for path in variables.get('AMENT_PREFIX_PATH', '').split(':') if path]
        foreign = [path for path in foreign if not _is_below(path, prefix)]
        for name in PATH_VARIABLES:
            kept = [path for path in variables.get(name, '').split(':') if path]
            kept = [path for path in kept if not any(_is_below(path, other) for other in foreign)]
            variables[name] = ':'.join(kept)
        libraries = sorted(str(path) for path in environment.site_packages.glob('ros_*.libs'))
        _prepend(variables, 'AMENT_PREFIX_PATH', [prefix])
        _prepend(variables, 'CMAKE_PREFIX_PATH', [prefix])
        _prepend(variables, 'LD_LIBRARY_PATH', [f'{prefix}/lib', *libraries])
        variables.update(ROS_DISTRO='kilted', ROS_VERSION='2', ROS_PYTHON_VERSION='3')
        # the wheels start every interpreter twice to set LD_LIBRARY_PATH; it is set already
        variables['_ROS_WHEELS_BOOTSTRAP_COMPLETE'] = '1'
        variables.pop('RMW_IMPLEMENTATION', None)
        return variables

    def variables(self):
        """Return all variables for a command that runs inside the environment."""
        variables = self.base_variables()
        for name, paths in self.environment.state.values.get('variables', {}).items():
            _prepend(variables, name, paths)
        profile = self.root / 'config' / 'fastdds.xml'
        if profile.exists() and not any(variables.get(name) for name in PROFILE_VARIABLES):
            # the second is the name in Humble; later versions warn about it
            variables[PROFILE_VARIABLES[self.environment.kind == 'humble']] = str(profile)
        variables.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        return variables

    def executable(self, package, name):
        """
        Return the path of ``PACKAGE EXECUTABLE``.

        :raises Problem: naming what there is instead.
        """
        prefixes = [Path(path) for path in self.variables().get('AMENT_PREFIX_PATH', '').split(':') if path]
        folders = [prefix / 'lib' / package for prefix in prefixes]
        for folder in folders:
            if (folder / name).is_file() and os.access(folder / name, os.X_OK):
                return folder / name
        names = sorted(
            {
                path.name
                for folder in folders
                if folder.is_dir()
                for path in folder.iterdir()
                if path.is_file()
            }
        )
        if names:
            raise Problem(f"package '{package}' has no executable '{name}'; it has {', '.join(names)}")
        raise Problem(
            f"no package '{package}' with executables; this project has mt_perception and mt_training"
        )

    def _missing_interfaces(self):
        """Return the names of the interface packages that ROS here does not have."""
        prefixes = self.base_variables().get('AMENT_PREFIX_PATH', '').split(':')
        own = str(self.install)
        index = 'share/ament_index/resource_index/packages'
        names = sorted(
            path.name for path in (self.environment.settings / 'interfaces').iterdir() if path.is_dir()
        )
        return [
            name
            for name in names
            if not any(
                (Path(prefix) / index / name).exists()
                for prefix in prefixes
                if prefix and not prefix.startswith(own)
            )
        ]

    def _added_variables(self):
        """Return what sourcing the workspace puts in front of every path variable."""
        script = f'. "{self.install}/local_setup.bash" >/dev/null && env -0'
        clean = {
            'PATH': '/usr/bin:/bin',
            'HOME': os.environ.get('HOME', '/'),
            '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1',
        }
        done = subprocess.run(['bash', '--norc', '-c', script], env=clean, capture_output=True)
        if done.returncode != 0:
            raise Problem(f'{self.install}/local_setup.bash fails: {done.stderr.decode().strip()[-200:]}')
        sourced = dict(entry.split('=', 1) for entry in done.stdout.decode().split('\0') if '=' in entry)
        added = {}
        for name in PATH_VARIABLES:
            paths = [path for path in sourced.get(name, '').split(':') if path.startswith(str(self.base))]
            if paths:
                added[name] = paths
        return added

    def remove(self):
        """Delete what was built."""
        shutil.rmtree(self.base, ignore_errors=True)


def _prepend(variables, name, paths):
    """Put ``paths`` in front of a path variable, each once."""
    rest = [path for path in variables.get(name, '').split(':') if path and path not in paths]
    variables[name] = ':'.join([*paths, *rest])


def _is_below(path, folder):
    return path == folder or path.startswith(folder.rstrip('/') + '/')


def _first_error(log):
    """Return the line of a build log that says why, or its last one."""
    lines = [line.strip() for line in Path(log).read_text(errors='replace').splitlines() if line.strip()]
    for line in lines:
        if any(word in line for word in ('error:', 'Error:', 'CMake Error', 'ERROR')):
            return line[:300]
    return lines[-1][:300] if lines else 'no output'
