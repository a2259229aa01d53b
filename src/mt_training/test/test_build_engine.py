"""``build_engine`` and ``benchmark --tensorrt`` against the stand-in of mt_perception's tests."""

import importlib
import importlib.machinery
import json
import sys
import types
from pathlib import Path

import pytest

from mt_training.build_engine import build, main
from tiny_model import write_tiny_model

STANDINS = Path(__file__).resolve().parents[2] / 'mt_perception/test'


@pytest.fixture
def tensorrt(monkeypatch):
    """Put the stand-ins where TensorRT and PyCUDA are imported from."""
    if not (STANDINS / 'standin_tensorrt.py').is_file():
        pytest.skip('needs the tests of mt_perception beside this package')
    monkeypatch.syspath_prepend(str(STANDINS))
    cuda = importlib.import_module('standin_pycuda')
    cuda = importlib.reload(cuda)
    cuda.gpus = 1
    module = importlib.import_module('standin_tensorrt').make('10.3.0', '')
    module.__spec__ = importlib.machinery.ModuleSpec('tensorrt', None)  # PyTorch asks for it
    package = types.ModuleType('pycuda')
    package.driver = cuda
    for name, value in (('tensorrt', module), ('pycuda', package), ('pycuda.driver', cuda)):
        monkeypatch.setitem(sys.modules, name, value)
    return module


@pytest.fixture
def model(tmp_path):
    """Write a model."""
    return write_tiny_model(tmp_path / 'm.onnx')


def test_into_a_file_with_its_sidecar(tensorrt, model, tmp_path, capsys):
    output = tmp_path / 'out/m.engine'
    words = ['--model', str(model), '--output', str(output), '--precision', 'fp32', '--input-size', '128x64']
    assert main(words) == 0
    sidecar = json.loads((tmp_path / 'out/m.json').read_text())
    assert sidecar['precision'] == 'fp32' and sidecar['shapes'] == {'image': [1, 64, 128, 3]}
    assert sidecar['tensorrt'] == '10.3.0' and len(sidecar['onnx_sha256']) == 64
    assert {p.name for p in output.parent.iterdir()} == {'m.engine', 'm.json'}
    said = capsys.readouterr()
    assert 'm.engine' in said.out and 'tensorrt 10.3.0 Stand-in GPU fp32' in said.out


def test_into_the_cache_where_the_nodes_find_it(tensorrt, model, tmp_path):
    from mt_perception.inference import create_engine

    first, name, warnings = build(model, cache_dir=tmp_path / 'cache')
    assert first.parent == tmp_path / 'cache' and name.endswith('tf32') and '.fp16.onnx' in warnings[0]
    other, _, _ = build(model, cache_dir=tmp_path / 'cache', input_size=(128, 64))
    again, _, _ = build(model, cache_dir=tmp_path / 'cache')
    assert first == again != other and len(tensorrt.Builder.builds) == 2
    create_engine(model, 'tensorrt', cache_dir=tmp_path / 'cache').close()
    assert len(tensorrt.Builder.builds) == 2, 'the node loads what was built'


def test_benchmark_runs_tensorrt_beside_the_others(tensorrt, model, tmp_path, monkeypatch):
    pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
    pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')
    from mt_training.benchmark import main as benchmark

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    output = tmp_path / 'b.json'
    words = [str(model), '--tensorrt', '--size', '64x32', '--rounds', '2', '--threads', '1']
    assert benchmark([*words, '--output', str(output)]) == 0
    kinds = [row['kind'] for row in json.loads(output.read_text())['models'].values()]
    assert kinds[0] == 'ONNX Runtime float32' and [k.split()[-1] for k in kinds[1:]] == ['tf32', 'fp32']


def test_without_tensorrt_there_is_one_sentence(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    assert main(['--model', str(model), '--output', str(tmp_path / 'out/m.engine')]) == 1
    message = capsys.readouterr().err
    assert message.startswith('build_engine: ') and 'tensorrt cannot be imported' in message
    assert message.count('\n') == 1 and not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--model', 'nowhere.onnx'), 'nowhere.onnx'),
        (('--model', '{model}', '--output', 'm.plan'), '.engine'),
        (('--model', '{model}', '--output', 'm.engine', '--input-size', '60x32'), 'multiples of 32'),
    ],
)
def test_mistakes_are_one_sentence(tensorrt, words, sentence, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(model=model) for word in words]) == 1
    message = capsys.readouterr().err
    assert message.startswith('build_engine: ') and sentence in message and message.count('\n') == 1
