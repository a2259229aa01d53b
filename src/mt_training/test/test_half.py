"""The float16 version of a model computes its products in float16, and nothing else."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs the training environment: ./mt build --training')

import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mt_training import half  # noqa: E402


@pytest.fixture
def model(tmp_path):
    """A convolution, where its largest result is, and its exponential."""
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.normal(size=(1, 1, 3, 3)).astype(np.float32), 'weight')]
    for name, value in (('half', np.float32(0.3)), ('flat', np.array([1, -1])), ('away', np.float32(1000.3))):
        weights.append(numpy_helper.from_array(np.asarray(value), name))
    nodes = [
        helper.make_node('Conv', ['x', 'weight'], ['map'], name='conv', pads=[1] * 4),
        helper.make_node('Reshape', ['map', 'flat'], ['row'], name='row'),
        helper.make_node('ArgMax', ['row'], ['index'], name='index', axis=1),
        helper.make_node('Cast', ['index'], ['number'], name='number', to=TensorProto.FLOAT),
        helper.make_node('Add', ['number', 'half'], ['place'], name='place'),
        helper.make_node('Sub', ['place', 'away'], ['left'], name='left'),
        helper.make_node('Exp', ['row'], ['exponential'], name='exponential'),
    ]
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ('place', 'left', 'exponential', 'map')
    ]
    images = [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 1, 30, 40])]
    graph = helper.make_graph(nodes, 'graph', images, results, weights)
    path = tmp_path / 'model.onnx'
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9), str(path))
    return path


def test_what_is_no_product_is_exact(model, monkeypatch):
    """Places are not rounded on their way: near 1000 float16 knows halves only."""
    monkeypatch.setattr(half, 'compare', lambda *paths: {})
    path, _ = half.convert(model)
    converted = onnx.load(str(path))
    onnx.checker.check_model(converted, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert kinds['weight'] == TensorProto.FLOAT16
    x = np.zeros((1, 1, 30, 40), np.float32)
    x[0, 0, 25, 15] = 1
    exact, rounded = (
        onnxruntime.InferenceSession(str(p), providers=['CPUExecutionProvider']).run(None, {'x': x})
        for p in (model, path)
    )
    assert exact[0].item() > 900
    for a, b in zip(exact[:2], rounded[:2]):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    for a, b in zip(exact[2:], rounded[2:]):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)
