"""What the machine must have before anything is downloaded, and the sentence that says what is missing."""

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path


class Problem(Exception):
    """Something the user has to change: one sentence that says what, and the command that mends it."""


def check_tools(use_pypi):
    """
    Check interpreter and compilers, all of them before complaining.

    :param use_pypi: ROS 2 comes from PyPI (and not from a sourced installation).
    :raises Problem: naming everything that is missing and one apt command.
    """
    if use_pypi:
        _check_wheels_exist()
    missing, packages = [], []
    if not _has_venv():
        missing.append(f'the venv module of {sys.executable}')
        packages.append(_python_package('venv'))
    if not (Path(sysconfig.get_path('include')) / 'Python.h').exists():
        missing.append(f'the C headers of {sys.executable}')
        packages.append(_python_package('dev'))
    if not any(shutil.which(name) for name in (os.environ.get('CXX', 'c++'), 'c++', 'g++', 'clang++')):
        missing.append('a C++ compiler')
        packages.append('g++')
    if not any(shutil.which(name) for name in (os.environ.get('CC', 'cc'), 'cc', 'gcc', 'clang')):
        missing.append('a C compiler')
        packages.append('gcc')
    if not shutil.which('cmake'):
        missing.append('cmake')
        packages.append('cmake')
    if not shutil.which('make'):
        missing.append('make')
        packages.append('make')
    if missing:
        names = missing[0] if len(missing) == 1 else ', '.join(missing[:-1]) + ' and ' + missing[-1]
        raise Problem(f'{names} not found; install with: sudo apt install {" ".join(packages)}')


def _check_wheels_exist():
    """ROS 2 wheels are there for x86-64 Linux with glibc 2.28 or newer."""
    machine = platform.machine()
    if machine != 'x86_64' or sys.platform != 'linux':
        raise Problem(
            f'ROS 2 on PyPI is for x86-64 Linux, this is {sys.platform} on {machine}; install ROS 2 Humble '
            'or Jazzy and source it first (. /opt/ros/humble/setup.bash), or use docker/Dockerfile.jetson'
        )
    library, version = platform.libc_ver()
    if library == 'glibc' and tuple(int(part) for part in version.split('.')[:2]) < (2, 28):
        raise Problem(
            f'ROS 2 on PyPI needs glibc 2.28 and this is {version}; use Debian 12, Ubuntu 22.04 or newer'
        )


def _has_venv():
    """Debian splits venv off: the module imports, but ensurepip is missing."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def _python_package(part):
    """Return the Debian package of this interpreter's ``venv`` or ``dev`` part."""
    return f'python{sys.version_info.major}.{sys.version_info.minor}-{part}'
