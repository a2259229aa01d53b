"""ONNX Runtime under the engine contract, and the choice of the engine."""

import sys
import threading
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import contract_models
from mt_perception.errors import EngineError, ModelError
from mt_perception.inference import create_engine
from mt_perception.inference.factory import default_cache_dir
from mt_perception.inference.onnxruntime_engine import MAX_SESSIONS, OnnxRuntimeEngine


@pytest.fixture
def model(tmp_path):
    return contract_models.write_perception(tmp_path / 'model.onnx')


def image(width=64, height=32, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (1, height, width, 3), np.uint8)


def test_all_outputs(model):
    with create_engine(model, 'onnxruntime') as engine:
        picture = image()
        out = engine.run({'image': picture})
        assert set(out) == set(engine.model.outputs)
        np.testing.assert_array_equal(out['segmentation'], picture[..., 0])
        np.testing.assert_array_equal(out['segmentation_confidence'], picture[..., 1])
        np.testing.assert_allclose(out['depth'], picture[..., 2] / 10.0, rtol=1e-6)
        for name, array in out.items():
            assert array.dtype == engine.model.outputs[name].dtype
        assert engine.name == 'onnxruntime CPUExecutionProvider'
        assert engine.input_size == (64, 32) and engine.any_size and engine.padded_keypoints is None


def test_any_size_in_one_engine(model):
    with create_engine(model, 'onnxruntime') as engine:
        for size in ((64, 32), (96, 64), (32, 32)):
            assert engine.run({'image': image(*size)}, ['depth'])['depth'].shape == (1, size[1], size[0])


@pytest.mark.parametrize('names', [['depth'], ['scores', 'keypoints'], ['segmentation', 'global_descriptor']])
def test_a_subset_gives_the_same_arrays(model, names):
    with create_engine(model, 'onnxruntime') as engine:
        whole, part = engine.run({'image': image()}), engine.run({'image': image()}, names)
        assert set(part) == set(names)
        for name in names:
            np.testing.assert_array_equal(part[name], whole[name])


def test_a_subset_costs_less(tmp_path):
    """Give segmentation 40 more layers: depth alone must not pay for them."""
    path = contract_models.write_perception(tmp_path / 'slow.onnx')
    proto = onnx.load(str(path))
    weight = numpy_helper.from_array(np.zeros((8, 8, 3, 3), np.float32), 'w')
    first = numpy_helper.from_array(np.zeros((8, 1, 3, 3), np.float32), 'w0')
    last = numpy_helper.from_array(np.zeros((1, 8, 1, 1), np.float32), 'w1')
    proto.graph.initializer.extend([weight, first, last])
    index = [n.output[0] for n in proto.graph.node].index('segmentation')
    axes = 'row'
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axes))
    nodes = [
        helper.make_node('Unsqueeze', ['r', axes], ['r_1']),
        helper.make_node('Conv', ['r_1', 'w0'], ['c0'], pads=[1] * 4),
    ]
    nodes += [helper.make_node('Conv', [f'c{i}', 'w'], [f'c{i + 1}'], pads=[1] * 4) for i in range(40)]
    nodes += [
        helper.make_node('Conv', ['c40', 'w1'], ['c_last']),
        helper.make_node('Squeeze', ['c_last', axes], ['s']),
    ]
    nodes += [helper.make_node('Cast', ['s'], ['segmentation'], to=TensorProto.UINT8)]
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(rest[:index] + nodes + rest[index + 1 :])
    onnx.save(proto, str(path))
    picture = image(256, 256)

    def cost(names):
        times = []
        for _ in range(5):
            start = time.thread_time()
            engine.run({'image': picture}, names)
            times.append(time.thread_time() - start)
        return min(times)

    with create_engine(path, 'onnxruntime', threads=1) as engine:
        assert cost(['depth']) < 0.3 * cost(None)


def test_number_of_sessions_is_bounded(model):
    with create_engine(model, 'onnxruntime') as engine:
        names = list(engine.model.outputs)
        for name in names:
            engine.run({'image': image()}, [name])
        assert len(names) > MAX_SESSIONS and len(engine._sessions) == MAX_SESSIONS
        assert set(engine.run({'image': image()})) == set(names)


def test_threads_share_an_engine(model):
    failures = []

    def work(seed):
        picture = image(seed=seed)
        try:
            for _ in range(20):
                out = engine.run({'image': picture}, ['segmentation', 'depth'][: 1 + seed % 2])
                np.testing.assert_array_equal(out['segmentation'], picture[..., 0])
        except Exception as error:
            failures.append(error)

    with create_engine(model, 'onnxruntime', threads=2) as engine:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_number_of_threads_reaches_onnxruntime(model, monkeypatch):
    seen = []
    real = onnxruntime.InferenceSession

    def spy(path, options, providers):
        seen.append(options.intra_op_num_threads)
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, 'InferenceSession', spy)
    create_engine(model, 'onnxruntime', threads=3).close()
    assert seen == [3]


def test_input_size(model):
    with create_engine(model, 'onnxruntime', (96, 64)) as engine:
        assert engine.input_size == (96, 64)
    with pytest.raises(ModelError, match='multiples of 32'):
        create_engine(model, 'onnxruntime', (100, 64))


def test_unknown_output_and_closed_engine(model):
    engine = create_engine(model, 'onnxruntime')
    with pytest.raises(EngineError, match='has no output flow'):
        engine.run({'image': image()}, ['flow'])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': image()})


def test_wrong_input_is_one_sentence(model):
    with create_engine(model, 'onnxruntime') as engine, pytest.raises(EngineError) as error:
        engine.run({'image': image().astype(np.float32)})
    assert 'cannot run model' in str(error.value) and '\n' not in str(error.value)


def test_model_that_onnxruntime_cannot_load(model):
    proto = onnx.load(str(model))
    proto.graph.node[2].op_type = 'NoSuchOperator'
    onnx.save(proto, str(model))
    with pytest.raises(EngineError) as error:
        create_engine(model, 'onnxruntime')
    assert 'cannot load model' in str(error.value) and '\n' not in str(error.value)


def test_auto_falls_back_to_the_cpu_and_says_so(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)  # import fails
    with create_engine(model) as engine:
        assert engine.name == 'onnxruntime CPUExecutionProvider'
        assert len(engine.warnings) == 1
        assert 'tensorrt cannot be imported' in engine.warnings[0] and 'on the CPU' in engine.warnings[0]
    with create_engine(model, 'onnxruntime') as engine:
        assert engine.warnings == []


def test_tensorrt_without_tensorrt(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineError) as error:
        create_engine(model, 'tensorrt')
    assert 'pip install tensorrt' in str(error.value) and 'pip install pycuda' in str(error.value)


def test_unknown_names(model):
    with pytest.raises(EngineError, match='auto, tensorrt, onnxruntime'):
        create_engine(model, 'openvino')
    with pytest.raises(EngineError, match='fp16, fp32'):
        create_engine(model, precision='int4')


def test_gpu_provider_that_does_not_work_is_said(model, monkeypatch):
    """onnxruntime-gpu without CUDA lists the CUDA provider, complains and runs on the CPU."""
    real = onnxruntime.InferenceSession
    available = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: available)
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda path, options, providers: real(path, options, ['CPUExecutionProvider']),
    )
    with create_engine(model, 'onnxruntime') as engine:
        assert 'has CUDAExecutionProvider but could not use it' in engine.warnings[0]


@pytest.mark.parametrize('provider', ['CUDAExecutionProvider', 'TensorrtExecutionProvider'])
def test_on_a_gpu_one_session_does_everything(model, monkeypatch, tmp_path, provider):
    """With a session that says it runs on a GPU: subsets come from the one session there is."""
    made = []

    class GpuSession(onnxruntime.InferenceSession):
        def __init__(self, path, options, providers):
            made.append(providers)
            super().__init__(path, options, ['CPUExecutionProvider'])

        def get_providers(self):
            return [provider, 'CPUExecutionProvider']

    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [provider, 'CPUExecutionProvider'])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', GpuSession)
    with create_engine(model, 'onnxruntime', cache_dir=tmp_path / 'cache') as engine:
        assert engine.name == f'onnxruntime {provider}'
        out = engine.run({'image': image()}, ['depth'])
        assert list(out) == ['depth'] and len(made) == 1
        assert [name for name, _ in made[0]] == [provider, 'CPUExecutionProvider']
        if provider == 'TensorrtExecutionProvider':
            assert made[0][0][1]['trt_engine_cache_path'] == str(tmp_path / 'cache' / 'onnxruntime')
            assert (tmp_path / 'cache' / 'onnxruntime').is_dir()
            assert 'builds an engine' in engine.warnings[0]
        else:
            assert engine.warnings == []


def test_missing_provider(model):
    from mt_perception.inference.contract import read_model

    with pytest.raises(EngineError, match='none of the providers ROCMExecutionProvider'):
        OnnxRuntimeEngine(read_model(model), providers=['ROCMExecutionProvider'])


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_cache_dir() == tmp_path / 'mt_perception'
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # the XDG specification: relative paths are ignored
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert default_cache_dir() == tmp_path / 'home' / '.cache' / 'mt_perception'
