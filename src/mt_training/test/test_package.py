"""A package holds what it says and runs on its own: unpacked elsewhere, without this project."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest

from mt_training.package import main
from tiny_model import write_tiny_model


def run(folder, *words):
    """Run the packed script where only the run time's packages are, not those of this project."""
    code = 'import sys; sys.modules.update(dict.fromkeys(("torch", "mt_perception", "mt_training", "onnx")));'
    code += 'import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
    command = [sys.executable, '-c', code, str(folder / 'run.py'), *map(str, words)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=200)


@pytest.fixture
def unpacked(tmp_path):
    """Pack two models with a config, a card and an engine, and unpack them."""
    models = [write_tiny_model(tmp_path / 'tiny.onnx'), tmp_path / 'tiny.int8.onnx']
    write_tiny_model(models[1], model_id='tiny-11111111')
    others = {'config.yaml': 'seed: 7', 'tiny.md': '# card', 'tiny.engine': 'plan', 'tiny.json': '{}'}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    words = [*models, tmp_path / 'tiny.engine', '--config', tmp_path / 'config.yaml', '--card']
    words += [tmp_path / 'tiny.md', '--output', tmp_path / 'out/robot.tar.gz']
    assert main([str(word) for word in words]) == 0
    first = (tmp_path / 'out/robot.tar.gz').read_bytes()
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / 'out/robot.tar.gz').read_bytes() == first, 'the same files, the same archive'
    with tarfile.open(tmp_path / 'out/robot.tar.gz') as archive:
        archive.extractall(tmp_path / 'target', filter='data')
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['robot.tar.gz']
    return tmp_path / 'target/robot'


def test_a_package_is_whole_and_runs(unpacked, tmp_path):
    names = {str(p.relative_to(unpacked)) for p in unpacked.rglob('*') if p.is_file()}
    assert names == {
        'README.md', 'SHA256SUMS', 'package.json', 'requirements.txt', 'run.py', 'tiny.md',
        'config/config.yaml', 'models/tiny.onnx', 'models/tiny.int8.onnx', 'models/tiny.engine',
        'models/tiny.json',
    }  # fmt: skip
    sums = dict(reversed(line.split('  ')) for line in (unpacked / 'SHA256SUMS').read_text().splitlines())
    assert set(sums) == names - {'SHA256SUMS'}
    assert all(hashlib.sha256((unpacked / n).read_bytes()).hexdigest() == s for n, s in sums.items())
    assert json.loads((unpacked / 'package.json').read_text())['models'] == ['tiny.onnx', 'tiny.int8.onnx']
    text = (unpacked / 'README.md').read_text()
    assert 'tiny-11111111' in text and '64x32' in text and '{' not in text

    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:] = (100, 0, 1)  # blue 100 is 10 m, red 1 is the second class
    image[:, :64, 0] = 20
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    done = run(unpacked, tmp_path / 'a.png', '--output', tmp_path / 'pictures')
    assert done.returncode == 0, done.stderr
    shown = {p.name: cv2.imread(str(p)) for p in (tmp_path / 'pictures').iterdir()}
    assert set(shown) == {'a_segmentation.png', 'a_depth.png', 'a_keypoints.png'}
    assert all(picture.shape == image.shape for picture in shown.values())
    painted = shown['a_segmentation.png'].astype(int)
    # class 1 is [10, 20, 200], 55 % of it over the image
    np.testing.assert_allclose(
        painted[32, 100], 0.45 * image[32, 100] + 0.55 * np.array([200, 20, 10]), atol=1.5
    )
    near, far = shown['a_depth.png'][32, 20].astype(int), shown['a_depth.png'][32, 100].astype(int)
    assert near[2] > near[0] and far[0] > far[2], 'near is warm, far is blue'
    assert (shown['a_keypoints.png'] != image).any()

    timed = run(unpacked, '--benchmark', '--rounds', '3')
    assert timed.returncode == 0 and 'tiny.int8.onnx' in timed.stdout and 'ratio 1.00' in timed.stdout
    assert run(unpacked, '--check').returncode == 0
    (unpacked / 'config/config.yaml').write_text('seed: 8')
    checked = run(unpacked, '--check')
    assert checked.returncode == 1 and 'config/config.yaml' in checked.stderr
    wrong = run(unpacked, 'nowhere.png')
    assert wrong.returncode == 1 and wrong.stderr.startswith("run.py: 'nowhere.png'")
    assert wrong.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('nowhere.onnx',), 'nowhere.onnx'),
        (('a.engine',), 'needs an exported perception model'),
        (('notes.txt',), '--extra'),
        (('m.onnx', 'again/m.onnx'), 'rename one'),
        (('m.onnx', '--card', 'README.md'), "package's own README.md"),
        (('m.onnx', '--output', 'x.zip'), '.tar.gz'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'again').mkdir()
    for name in ('m.onnx', 'again/m.onnx'):
        write_tiny_model(tmp_path / name)
    for name in ('a.engine', 'notes.txt', 'README.md'):
        (tmp_path / name).write_text('x')
    words = list(words) if '--output' in words else [*words, '--output', 'out.tar.gz']
    assert main(words) == 1
    message = capsys.readouterr().err
    assert message.startswith('package: ') and sentence in message and message.count('\n') == 1
    assert not list(tmp_path.glob('*.tar.gz')) and not (tmp_path / 'x.zip').exists()
