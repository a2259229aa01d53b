"""What a measurement was made on: a number without its machine means nothing."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    'numpy',
    'opencv-python-headless',
    'opencv-python',
    'onnxruntime',
    'onnxruntime-gpu',
    'tensorrt',
    'scipy',
)


def describe_machine():
    """Return {what: text} about the processor, the system and the versions in use, as far as known."""
    machine = {
        'processor': processor_name(),
        'cores': str(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()),
        'memory': memory_size(),
        'gpu': gpu_name(),
        'system': system_name(),
        'python': platform.python_version(),
        'ros': os.environ.get('ROS_DISTRO', ''),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
    }
    for package in PACKAGES:
        try:
            machine[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {key: value for key, value in machine.items() if value}


def processor_name():
    """Return the model of the processor (on a Jetson, of the board)."""
    for path in ('/proc/device-tree/model', '/proc/cpuinfo'):
        try:
            text = Path(path).read_text(errors='replace')
        except OSError:
            continue
        if path.endswith('model'):
            return text.strip('\0\n ')
        for line in text.splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_size():
    """Return the main memory, such as '23 GiB'."""
    try:
        return f'{os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30:.0f} GiB'
    except (ValueError, OSError):
        return ''


def gpu_name():
    """Return the NVIDIA GPUs by name, '' without one."""
    try:
        out = subprocess.run(
            ['nvidia-smi', '--query-gpu=name', '--format=csv,noheader'],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return ', '.join(out.stdout.split('\n')).strip(', ') if out.returncode == 0 else ''


def system_name():
    """Return the operating system and kernel."""
    try:
        name = platform.freedesktop_os_release().get('PRETTY_NAME', platform.system())
    except OSError:
        name = platform.system()
    return f'{name}, {platform.machine()}, kernel {platform.release()}'
