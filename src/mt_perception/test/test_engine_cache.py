"""Built engines on disk: rebuilt when anything differs, built once by many, never half a file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mt_perception.inference.engine_cache import load_or_build

FACTS = {
    'tensorrt': '10.3.0',
    'gpu': 'Orin',
    'compute_capability': [8, 7],
    'shapes': {'image': [1, 32, 64, 3]},
}

# builds until it may go on; every build and every sentence leaves a line
BUILDER = """
import sys, time
from pathlib import Path
from mt_perception.inference.engine_cache import load_or_build
folder = Path(sys.argv[1])
def note(name, text):
    with open(folder / name, 'a') as file:
        file.write(text + '\\n')
def build():
    note('builds', 'build')
    while not (folder / 'go').exists():
        time.sleep(0.02)
    return b'engine'
facts = {'tensorrt': '10.3.0'}
plan = load_or_build(folder / 'cache', 'net', facts, build, lambda text: note('logs', text), print)
print(plan.decode())
"""


class Builds:
    """Counts builds and keeps what was said."""

    def __init__(self, folder, name='net'):
        self.folder, self.name = folder, name
        self.count, self.logs, self.warnings = 0, [], []

    def __call__(self, facts=FACTS, rebuild=''):
        def build():
            self.count += 1
            return b'engine %d' % self.count

        return load_or_build(
            self.folder, self.name, facts, build, self.logs.append, self.warnings.append, rebuild
        )


def test_built_once_then_loaded(tmp_path):
    builds = Builds(tmp_path / 'new' / 'cache')
    assert builds() == b'engine 1'
    assert builds() == b'engine 1'
    assert builds.count == 1 and builds.logs == [] and builds.warnings == []
    sidecar = json.loads((tmp_path / 'new' / 'cache' / 'net.json').read_text())
    assert {key: sidecar[key] for key in FACTS} == FACTS


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('tensorrt', '11.4.0', 'tensorrt was 10.3.0, now it is 11.4.0'),
        ('gpu', 'H200', 'gpu was Orin, now it is H200'),
        ('compute_capability', [9, 0], 'compute_capability was [8, 7], now it is [9, 0]'),
        ('shapes', {'image': [1, 64, 64, 3]}, 'shapes was'),
        ('onnx_sha256', 'ab', 'onnx_sha256 was None, now it is ab'),
    ],
)
def test_rebuilt_when_a_fact_differs(tmp_path, key, value, said):
    builds = Builds(tmp_path)
    builds()
    changed = {**FACTS, key: value}
    assert builds(changed) == b'engine 2'
    assert len(builds.logs) == 1 and 'is built again' in builds.logs[0] and said in builds.logs[0]
    assert builds(changed) == b'engine 2'


@pytest.mark.parametrize(
    'damage', ['cut', 'changed', 'empty', 'no sidecar', 'sidecar is no JSON', 'sidecar is a list']
)
def test_rebuilt_when_damaged(tmp_path, damage):
    builds = Builds(tmp_path)
    builds()
    engine, sidecar = tmp_path / 'net.engine', tmp_path / 'net.json'
    if damage == 'cut':
        engine.write_bytes(engine.read_bytes()[:-1])
    elif damage == 'changed':
        engine.write_bytes(b'engine X')
    elif damage == 'empty':
        engine.write_bytes(b'')
    elif damage == 'no sidecar':
        sidecar.unlink()
    else:
        sidecar.write_text('{' if damage == 'sidecar is no JSON' else '[]')
    assert builds() == b'engine 2'
    assert 'damaged' in builds.logs[0]
    assert builds() == b'engine 2'


def test_rebuilt_on_demand(tmp_path):
    builds = Builds(tmp_path)
    builds()
    assert builds(rebuild='TensorRT cannot load it') == b'engine 2'
    assert 'TensorRT cannot load it' in builds.logs[0]


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError('no')

    with pytest.raises(RuntimeError):
        load_or_build(tmp_path, 'net', FACTS, fail, print, print)
    assert not [path for path in tmp_path.iterdir() if path.suffix != '.lock']


def test_a_failed_write_leaves_nothing_and_warns(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    builds = Builds(tmp_path)
    assert builds() == b'engine 1'
    assert 'No space left on device' in builds.warnings[0]
    assert not [path for path in tmp_path.iterdir() if path.suffix != '.lock']


def test_a_folder_that_cannot_be_made_warns(tmp_path):
    (tmp_path / 'file').write_text('')
    builds = Builds(tmp_path / 'file' / 'cache')
    assert builds() == b'engine 1'
    assert 'every start builds the engine' in builds.warnings[0]


def start(folder):
    package = Path(__file__).resolve().parents[1]
    environment = {**os.environ, 'PYTHONPATH': f'{package}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'}
    return subprocess.Popen(
        [sys.executable, '-c', BUILDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(path, lines=1):
    end = time.monotonic() + 120
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_several_processes_build_once(tmp_path):
    processes = [start(tmp_path) for _ in range(3)]
    wait_for(tmp_path / 'builds')
    wait_for(tmp_path / 'logs', lines=2)  # the other two wait
    assert (tmp_path / 'logs').read_text().count('another process builds the same engine') == 2
    (tmp_path / 'go').touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert outputs == ['engine\n'] * 3
    assert (tmp_path / 'builds').read_text() == 'build\n'


def test_a_killed_build_leaves_no_engine_and_no_lock(tmp_path):
    process = start(tmp_path)
    wait_for(tmp_path / 'builds')
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    assert not (tmp_path / 'cache' / 'net.engine').exists()
    (tmp_path / 'go').touch()
    assert start(tmp_path).communicate(timeout=120)[0] == 'engine\n'
