"""The models that are shipped keep the contract, fit each other and run."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from mt_perception.errors import ModelError
from mt_perception.inference import models, read_model
from mt_perception.matching import create_matcher
from mt_perception.perception import PerceptionPipeline

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def shipped(path_of):
    """Return the path of a shipped model; skip in a checkout without it."""
    try:
        return path_of()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def pipeline():
    """The shipped model, at whatever size suits the image."""
    return PerceptionPipeline(shipped(models.default_model), 'onnxruntime', max_keypoints=10_000)


def picture(width, height):
    """Return an image full of corners."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])


def test_a_missing_model_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(models, 'MODELS', tmp_path)
    for path_of in (models.default_model, models.default_matcher):
        with pytest.raises(ModelError, match='is missing from this installation'):
            path_of()


def test_both_keep_the_contract_and_fit_each_other():
    model = read_model(shipped(models.default_model), 'perception')
    matcher = read_model(shipped(models.default_matcher), 'matcher')
    assert matcher.metadata.matches_model == model.metadata.model_id
    assert matcher.metadata.descriptor_dim == model.metadata.descriptor_dim
    assert set(model.metadata.tasks) == {'segmentation', 'depth', 'keypoints', 'global_descriptor'}
    assert model.path.with_suffix('.md').is_file() and matcher.path.with_suffix('.md').is_file()
    assert model.path.stat().st_size + matcher.path.stat().st_size < 25e6


@pytest.mark.parametrize('path_of', [models.default_model, models.default_matcher])
def test_tensorrt_can_take_the_types(path_of):
    """TensorRT has uint8 only at the ends, beside a cast from or to floating point, and no float64."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(shipped(path_of)))).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    bytes_in = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8]
    bytes_out = [
        value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.UINT8
    ]
    for node in graph.node:
        for name in set(bytes_in) & set(node.input):
            to = {a.name: a.i for a in node.attribute}.get('to')
            assert node.op_type == 'Cast' and to in FLOATS, f'{name} goes into {node.op_type}'
        for name in set(bytes_out) & set(node.output):
            assert node.op_type == 'Cast' and types.get(node.input[0]) in FLOATS, (
                f'{name} comes from {node.op_type}'
            )
    for name, kind in types.items():
        assert kind != TensorProto.DOUBLE, name
        assert kind != TensorProto.UINT8 or name in bytes_in, name


@pytest.mark.parametrize('size', [(640, 480), (320, 240), (1242, 375)])
def test_outputs_keep_the_contract(pipeline, size):
    out = pipeline.process(picture(*size))
    width, height = pipeline.network_size(size)
    metadata = pipeline.metadata
    assert out.segmentation.shape == out.depth.shape == (height, width)
    assert out.segmentation.max() < len(metadata.class_names)
    assert np.isfinite(out.depth).all() and (out.depth > 0).all()
    points = out.keypoints
    assert 0 < len(points) <= metadata.max_keypoints
    assert (np.diff(points.scores) <= 0).all(), 'keypoints are not sorted by score'
    assert (points.xy >= -0.5).all() and (points.xy <= np.array(size) - 0.5).all()
    np.testing.assert_allclose(np.linalg.norm(points.descriptors, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(out.global_descriptor), 1, atol=1e-3)
    assert len(np.unique(np.rint(points.xy * 4), axis=0)) == len(points), 'a place is found twice'


@pytest.mark.parametrize('task', ['segmentation', 'depth', 'keypoints', 'global_descriptor'])
def test_one_task_gives_the_same_as_all(pipeline, task):
    """The cut graph computes what the whole one computes."""
    image = picture(320, 240)
    whole, part = pipeline.process(image), pipeline.process(image, tasks=[task])
    if task == 'keypoints':
        np.testing.assert_allclose(part.keypoints.xy, whole.keypoints.xy, atol=1e-3)
        np.testing.assert_allclose(part.keypoints.descriptors, whole.keypoints.descriptors, atol=1e-4)
    elif task == 'segmentation':
        np.testing.assert_array_equal(part.segmentation, whole.segmentation)
    else:
        np.testing.assert_allclose(getattr(part, task), getattr(whole, task), rtol=1e-4, atol=1e-5)


def test_matcher_matches_a_shifted_image(pipeline):
    """The same picture 16 pixels further: matches move by 16 pixels."""
    matcher = create_matcher('lightglue', shipped(models.default_matcher), engine='onnxruntime')
    large = picture(352, 256)
    first, second = (pipeline.process(np.ascontiguousarray(large[:, x : x + 320])).keypoints for x in (0, 16))
    found = matcher.match(first, second)
    assert len(found) > 30
    moved = first.xy[found.index[:, 0]] - second.xy[found.index[:, 1]]
    assert (np.linalg.norm(moved - [16, 0], axis=1) < 3).mean() > 0.8
    assert len(np.unique(found.index[:, 0])) == len(np.unique(found.index[:, 1])) == len(found)
