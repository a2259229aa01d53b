"""The logic of the TensorRT engine, against a stand-in that runs the ONNX file through ONNX Runtime."""

import importlib
import json
import logging
import sys
import threading
import types

import numpy as np
import onnx
import pytest

import contract_models
import standin_pycuda
import standin_tensorrt
from mt_perception.errors import EngineError, ModelError
from mt_perception.inference import create_engine, tensorrt_builder
from mt_perception.matching import LightGlueMatcher
from mt_perception.perception import PerceptionPipeline
from mt_perception.types import Keypoints

VERSIONS = ('8.6.1', '10.3.0', '11.4.0')


def install(monkeypatch, version='10.3.0', fail='', gpus=1):
    """Put the stand-ins where TensorRT and PyCUDA are imported from."""
    module = standin_tensorrt.make(version, fail)
    cuda = importlib.reload(standin_pycuda)
    cuda.gpus = gpus
    package = types.ModuleType('pycuda')
    package.driver = cuda
    monkeypatch.setitem(sys.modules, 'tensorrt', module)
    monkeypatch.setitem(sys.modules, 'pycuda', package)
    monkeypatch.setitem(sys.modules, 'pycuda.driver', cuda)
    return module


@pytest.fixture
def tensorrt(monkeypatch):
    """Stand-in for TensorRT 10.3."""
    return install(monkeypatch)


@pytest.fixture
def model(tmp_path):
    return contract_models.write_perception(tmp_path / 'model.onnx')


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache'


def image(width=64, height=32, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (1, height, width, 3), np.uint8)


@pytest.mark.parametrize('version', VERSIONS)
def test_same_arrays_as_onnxruntime(monkeypatch, model, cache, version):
    install(monkeypatch, version)
    with create_engine(model, 'onnxruntime') as reference, create_engine(model, cache_dir=cache) as engine:
        assert engine.name.startswith(f'tensorrt {version} Stand-in GPU')
        for seed in (0, 1):
            inputs = {'image': image(seed=seed)}
            expected, out = reference.run(inputs), engine.run(inputs)
            assert set(out) == set(expected)
            for name in expected:
                np.testing.assert_array_equal(out[name], expected[name])
                assert out[name].dtype == expected[name].dtype


def test_results_belong_to_the_caller(tensorrt, model, cache):
    with create_engine(model, cache_dir=cache) as engine:
        first = engine.run({'image': image(seed=0)}, ['segmentation'])
        copy = first['segmentation'].copy()
        engine.run({'image': image(seed=1)})
        np.testing.assert_array_equal(first['segmentation'], copy)
        assert list(first) == ['segmentation']


@pytest.mark.parametrize('version', VERSIONS)
def test_second_start_loads_the_engine(monkeypatch, model, cache, version, caplog):
    module = install(monkeypatch, version)
    logger = logging.getLogger('test')
    with caplog.at_level(logging.INFO):
        create_engine(model, cache_dir=cache, logger=logger).close()
        assert [m for m in caplog.messages if 'this takes minutes' in m]
        caplog.clear()
        create_engine(model, cache_dir=cache, logger=logger).close()
        assert caplog.messages == []
    assert len(module.Builder.builds) == 1


def test_sidecar_says_what_the_engine_depends_on(tensorrt, model, cache):
    create_engine(model, cache_dir=cache, precision='fp32').close()
    sidecar = json.loads(next(cache.glob('*.json')).read_text())
    assert sidecar['tensorrt'] == '10.3.0'
    assert sidecar['gpu'] == 'Stand-in GPU' and sidecar['compute_capability'] == [8, 7]
    assert sidecar['precision'] == 'fp32' and sidecar['shapes'] == {'image': [1, 32, 64, 3]}
    assert len(sidecar['onnx_sha256']) == 64


def test_another_tensorrt_rebuilds(monkeypatch, model, cache, caplog):
    install(monkeypatch, '10.3.0')
    create_engine(model, cache_dir=cache).close()
    module = install(monkeypatch, '11.4.0')
    with caplog.at_level(logging.INFO):
        create_engine(model, cache_dir=cache, logger=logging.getLogger('test')).close()
    assert len(module.Builder.builds) == 1
    assert [m for m in caplog.messages if 'tensorrt was 10.3.0, now it is 11.4.0' in m]


def test_another_model_of_the_same_name_rebuilds(tensorrt, model, cache):
    create_engine(model, cache_dir=cache).close()
    contract_models.write_perception(model, contract_models.perception_metadata(model_id='test-net-2'))
    create_engine(model, cache_dir=cache).close()
    assert len(tensorrt.Builder.builds) == 2 and len(list(cache.glob('*.engine'))) == 1


def test_models_of_the_same_name_in_two_folders_do_not_share(tensorrt, model, cache, tmp_path):
    (tmp_path / 'other').mkdir()
    other = contract_models.write_perception(tmp_path / 'other' / 'model.onnx')
    for path in (model, other, model, other):
        create_engine(path, cache_dir=cache).close()
    assert len(tensorrt.Builder.builds) == 2


def test_an_engine_that_does_not_load_is_rebuilt(tensorrt, model, cache, caplog):
    """The sidecar fits, but TensorRT refuses the file (a library replaced under the same version)."""
    create_engine(model, cache_dir=cache).close()
    plan = next(cache.glob('*.engine'))
    foreign = plan.read_bytes().replace(b'10.3.0', b'10.2.9')
    plan.write_bytes(foreign)
    sidecar = next(cache.glob('*.json'))
    values = json.loads(sidecar.read_text())
    import hashlib

    sidecar.write_text(json.dumps({**values, 'engine_sha256': hashlib.sha256(foreign).hexdigest()}))
    with caplog.at_level(logging.INFO):
        create_engine(model, cache_dir=cache, logger=logging.getLogger('test')).close()
    assert len(tensorrt.Builder.builds) == 2
    assert [m for m in caplog.messages if 'Version tag does not match' in m]


def test_progress_is_logged(tensorrt, model, cache, caplog, monkeypatch):
    monkeypatch.setattr(tensorrt_builder, 'REPORT_SECONDS', 0.0)
    with caplog.at_level(logging.INFO):
        create_engine(model, cache_dir=cache, logger=logging.getLogger('test')).close()
    assert [m for m in caplog.messages if 'Building Engine, step 2 of 2' in m]


def test_build_failure_is_one_sentence_with_tensorrts_reason(monkeypatch, model, cache):
    install(monkeypatch, fail='Could not find any implementation for node TopK_7')
    with pytest.raises(EngineError, match='TensorRT 10.3.0 cannot build model .*TopK_7'):
        create_engine(model, 'tensorrt', cache_dir=cache)
    with create_engine(model, cache_dir=cache) as engine:
        assert engine.name.startswith('onnxruntime')
        assert 'TopK_7' in engine.warnings[0] and 'TensorRT is not used' in engine.warnings[0]
    assert not list(cache.glob('*.engine'))


def test_parse_failure_is_one_sentence(tensorrt, model, cache):
    proto = onnx.load(str(model))
    proto.graph.node[2].op_type = 'NoSuchOperator'
    onnx.save(proto, str(model))
    with pytest.raises(EngineError, match='cannot parse model .*NoSuchOperator'):
        create_engine(model, 'tensorrt', cache_dir=cache)


def test_no_gpu(monkeypatch, model):
    install(monkeypatch, gpus=0)
    with pytest.raises(EngineError, match='there is no NVIDIA GPU'):
        create_engine(model, 'tensorrt')


def test_cuda_that_does_not_start(monkeypatch, model):
    install(monkeypatch)

    def broken(flags=0):
        raise standin_pycuda.Error('cuInit failed: no CUDA-capable device is detected')

    monkeypatch.setattr(standin_pycuda, 'init', broken)
    with pytest.raises(EngineError, match='CUDA does not start: cuInit failed'):
        create_engine(model, 'tensorrt')
    with create_engine(model) as engine:
        assert 'cuInit failed' in engine.warnings[0]


def test_precision_comes_from_the_float16_file(tensorrt, model, cache):
    contract_models.write_perception(model.with_name('model.fp16.onnx'))
    with create_engine(model, cache_dir=cache) as engine:
        assert engine.name.endswith(' fp16') and engine.warnings == []
    sidecar = json.loads(next(cache.glob('*.json')).read_text())
    assert sidecar['onnx'] == 'model.fp16.onnx' and sidecar['precision'] == 'fp16'
    assert tensorrt.Builder.builds[0]['flags'] == ['TF32']


def test_without_a_float16_file_tf32_and_a_warning(tensorrt, model, cache):
    with create_engine(model, cache_dir=cache) as engine:
        assert engine.name.endswith(' tf32')
        assert 'model.fp16.onnx' in engine.warnings[0] and 'TF32' in engine.warnings[0]


def test_fp32_is_full_float32(tensorrt, model, cache):
    contract_models.write_perception(model.with_name('model.fp16.onnx'))
    with create_engine(model, cache_dir=cache, precision='fp32') as engine:
        assert engine.name.endswith(' fp32') and engine.warnings == []
    assert tensorrt.Builder.builds[0]['flags'] == []


def test_tensorrt_8_takes_the_flag(monkeypatch, model, cache):
    module = install(monkeypatch, '8.6.1')
    with create_engine(model, cache_dir=cache) as engine:
        assert engine.name.endswith(' fp16') and engine.warnings == []
    assert module.Builder.builds[0]['flags'] == ['FP16', 'TF32']


def test_float16_file_of_other_weights_is_refused(tensorrt, model, cache):
    other = contract_models.perception_metadata(model_id='test-net-old')
    contract_models.write_perception(model.with_name('model.fp16.onnx'), other)
    with pytest.raises(ModelError, match="not the float16 version .*'test-net-old'"):
        create_engine(model, cache_dir=cache)


def test_one_engine_for_each_input_size(tensorrt, model, cache):
    for size in ((64, 32), (96, 64), (64, 32)):
        with create_engine(model, input_size=size, cache_dir=cache) as engine:
            assert engine.input_size == size and not engine.any_size
            out = engine.run({'image': image(*size)}, ['depth'])
            assert out['depth'].shape == (1, size[1], size[0])
            with pytest.raises(EngineError, match='built for image of shape'):
                engine.run({'image': image(32, 32)})
    assert len(tensorrt.Builder.builds) == 2


def test_fixed_shape_model_needs_no_profile(tensorrt, tmp_path, cache):
    path = contract_models.write_perception(tmp_path / 'fixed.onnx', fixed=True)
    with create_engine(path, cache_dir=cache) as engine:
        assert engine.run({'image': image()}, ['depth'])['depth'].shape == (1, 32, 64)
    assert tensorrt.Builder.builds[0]['shapes'] == {}


def test_all_gpu_memory_is_given_back(tensorrt, model, cache):
    engine = create_engine(model, cache_dir=cache)
    assert len(standin_pycuda.ALLOCATED) == 1 + len(engine.model.outputs)
    engine.close()
    engine.close()
    assert not standin_pycuda.ALLOCATED and standin_pycuda.depth() == 0
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': image()})


def test_context_is_popped_after_an_error(tensorrt, model, cache):
    with create_engine(model, cache_dir=cache) as engine:
        with pytest.raises(EngineError):
            engine.run({'image': image(32, 32)})
        with pytest.raises(EngineError, match='has no output flow'):
            engine.run({'image': image()}, ['flow'])
        assert standin_pycuda.depth() == 0


def test_gpu_errors_are_one_sentence(tensorrt, model, cache, monkeypatch):
    with create_engine(model, cache_dir=cache) as engine:

        def broken(*_):
            raise standin_pycuda.Error('an illegal memory access was encountered')

        monkeypatch.setattr(standin_pycuda, 'memcpy_htod_async', broken)
        with pytest.raises(EngineError, match='CUDA fails .* illegal memory access'):
            engine.run({'image': image()})


def test_out_of_gpu_memory_is_one_sentence(tensorrt, model, cache, monkeypatch):
    def broken(nbytes):
        raise standin_pycuda.Error('out of memory')

    monkeypatch.setattr(standin_pycuda, 'mem_alloc', broken)
    with pytest.raises(EngineError, match='the GPU has no memory'):
        create_engine(model, 'tensorrt', cache_dir=cache)
    assert standin_pycuda.depth() == 0


def test_threads_take_turns(tensorrt, model, cache):
    failures = []

    def work(seed):
        try:
            for _ in range(20):
                picture = image(seed=seed)
                out = engine.run({'image': picture}, ['segmentation'])
                np.testing.assert_array_equal(out['segmentation'], picture[..., 0])
        except Exception as error:
            failures.append(error)

    with create_engine(model, cache_dir=cache) as engine:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_pipeline_uses_the_engines_size(tensorrt, model, cache):
    pipeline = PerceptionPipeline(model, cache_dir=cache)
    out = pipeline.process(image(320, 60)[0])
    assert out.segmentation.shape == (32, 64)
    assert len(out.keypoints) == 4
    assert any('320 × 60 images are squeezed into 64 × 32' in warning for warning in pipeline.warnings)
    count = len(pipeline.warnings)
    pipeline.process(image(320, 60)[0])
    assert len(pipeline.warnings) == count


def test_matcher_is_padded(tensorrt, tmp_path, cache):
    path = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    matcher = LightGlueMatcher(path, cache_dir=cache, max_keypoints=16)
    assert matcher.engine.padded_keypoints == 16
    reference = LightGlueMatcher(path, 'onnxruntime')
    for n, m in ((5, 9), (16, 16), (1, 1), (20, 12)):
        first, second = keypoints(n, 1), keypoints(m, 2)
        found = matcher.match(first, second)
        expected = reference.match(first.select(slice(16)), second.select(slice(16)))
        assert len(found) > 0
        np.testing.assert_array_equal(found.index, expected.index)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def keypoints(n, seed):
    rng = np.random.default_rng(seed)
    return Keypoints.create(
        rng.uniform(0, 100, (n, 2)),
        np.sort(rng.uniform(0.1, 1, n))[::-1],
        contract_models.unit_rows(n, contract_models.DIM, seed),
        (100, 100),
        model_id='test-net-01234567',
    )
