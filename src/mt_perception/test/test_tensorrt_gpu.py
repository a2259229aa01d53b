"""TensorRT itself, on a GPU: `pytest -m gpu`. Skipped where TensorRT, PyCUDA or a GPU is missing."""

import numpy as np
import pytest

import contract_models
from mt_perception.errors import ModelError
from mt_perception.inference import create_engine, models
from mt_perception.inference.factory import tensorrt_missing
from mt_perception.matching import LightGlueMatcher
from mt_perception.perception import PerceptionPipeline

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    reason = tensorrt_missing()
    if reason:
        pytest.skip(reason)


def test_test_model_gives_the_same_arrays(tmp_path):
    path = contract_models.write_perception(tmp_path / 'model.onnx')
    image = np.random.default_rng(0).integers(1, 255, (1, 32, 64, 3), np.uint8)
    with create_engine(path, 'onnxruntime') as reference:
        expected = reference.run({'image': image})
    for _ in range(2):  # built, then from the cache
        with create_engine(path, 'tensorrt', precision='fp32', cache_dir=tmp_path / 'cache') as engine:
            out = engine.run({'image': image})
    for name, array in expected.items():
        np.testing.assert_allclose(out[name], array, rtol=1e-5, atol=1e-5)


def test_matcher_gives_the_same_pairs(tmp_path):
    path = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    from test_matching import keypoints

    first, second = (keypoints(contract_models.unit_rows(30, contract_models.DIM, seed)) for seed in (1, 2))
    expected = LightGlueMatcher(path, 'onnxruntime').match(first, second)
    matcher = LightGlueMatcher(path, 'tensorrt', precision='fp32', cache_dir=tmp_path, max_keypoints=64)
    np.testing.assert_array_equal(matcher.match(first, second).index, expected.index)


def test_shipped_model(tmp_path):
    """Float32 on the GPU agrees with the CPU: classes nearly everywhere, depth within a percent."""
    try:
        path = models.default_model()
    except ModelError as error:
        pytest.skip(str(error))
    coarse = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    size = (512, 384)
    expected = PerceptionPipeline(path, 'onnxruntime', size).process(image)
    out = PerceptionPipeline(path, 'tensorrt', size, precision='fp32', cache_dir=tmp_path).process(image)
    assert (out.segmentation == expected.segmentation).mean() > 0.99
    assert np.median(np.abs(out.depth / expected.depth - 1)) < 0.01
    distance = np.linalg.norm(out.keypoints.xy[:, None] - expected.keypoints.xy[None], axis=2).min(1)
    assert (distance < 0.5).mean() > 0.95
    assert out.global_descriptor @ expected.global_descriptor > 0.999
