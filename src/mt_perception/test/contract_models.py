"""
Small ONNX models under the model contract whose outputs are known exactly.

The perception model reads its maps out of the image: segmentation = red, confidence = green, depth = blue /
10 metres (NaN where blue is 0). Keypoints, scores and descriptors are constants. The matcher takes the most
similar descriptor that is no padding.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mt_perception.inference.contract import METADATA_KEY, TASK_OUTPUTS, ModelMetadata

CLASSES = ['sky', 'building', 'road', 'car', 'pedestrian']
COLORS = [[128, 128, 128], [128, 0, 0], [128, 64, 128], [64, 0, 128], [64, 64, 0]]
DIM = 8
GLOBAL_DIM = 4


def perception_metadata(**changes):
    """Metadata of the test model."""
    values = {
        'kind': 'perception',
        'architecture': 'test-net',
        'model_id': 'test-net-01234567',
        'tasks': list(TASK_OUTPUTS),
        'input_size': [64, 32],
        'input_multiple': 32,
        'class_names': CLASSES,
        'class_colors': COLORS,
        'movable_classes': ['car', 'pedestrian'],
        'depth_kind': 'metric',
        'depth_focal': None,
        'descriptor_dim': DIM,
        'global_descriptor_dim': GLOBAL_DIM,
        'max_keypoints': 6,
        'license': 'Apache-2.0',
    }
    return ModelMetadata(**{**values, **changes})


def unit_rows(n, dim, seed=0):
    """[n,dim] float32 random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def default_keypoints(n=6):
    """[n,2] float32 places inside a 64 × 32 image and their [n] scores, strongest first; the last two pad."""
    xy = np.stack([np.linspace(0, 60, n), np.linspace(0, 30, n)], 1).astype(np.float32)
    scores = np.linspace(0.9, 0.4, n).astype(np.float32)
    xy[-2:], scores[-2:] = 0, 0
    return xy, scores


def write_perception(
    path,
    metadata=None,
    keypoints=None,
    fixed=False,
    confidence=True,
    types=None,
    extra_metadata=None,
    drop=(),
):
    """
    Write a perception model.

    :param metadata: :class:`ModelMetadata`, None = the default.
    :param keypoints: (xy [K,2], scores [K]).
    :param fixed: only images of ``input_size``.
    :param confidence: with segmentation_confidence.
    :param types: {output: TensorProto type} where it differs from the contract.
    :param extra_metadata: {key: text} instead of the metadata.
    :param drop: outputs left out.
    """
    metadata = perception_metadata() if metadata is None else metadata
    xy, scores = default_keypoints(metadata.max_keypoints or 6) if keypoints is None else keypoints
    width, height = metadata.input_size if fixed else ('width', 'height')
    types = types or {}
    k = len(xy)
    constants = {
        'axes': np.array([3], np.int64),
        'ten': np.array(10, np.float32),
        'zero': np.array(0, np.float32),
        'xy': xy[None],
        'score_values': scores[None],
        'descriptor_values': unit_rows(k, metadata.descriptor_dim or DIM)[None],
        'global_values': unit_rows(1, metadata.global_descriptor_dim or GLOBAL_DIM, 1),
        'channels': np.array([1, 1, 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
        node('Split', ['float', 'channels'], ['r4', 'g4', 'b4'], axis=3),
        node('Squeeze', ['r4', 'axes'], ['r']),
        node('Squeeze', ['g4', 'axes'], ['g']),
        node('Squeeze', ['b4', 'axes'], ['b']),
        node('Cast', ['r'], ['segmentation'], to=types.get('segmentation', TensorProto.UINT8)),
        node('Cast', ['g'], ['segmentation_confidence'], to=TensorProto.UINT8),
        node('Div', ['b', 'b'], ['one_or_nan']),
        node('Mul', ['b', 'one_or_nan'], ['valid']),
        node('Div', ['valid', 'ten'], ['depth32']),
        node('Cast', ['depth32'], ['depth'], to=types.get('depth', TensorProto.FLOAT)),
        node('ReduceMean', ['float'], ['mean'], keepdims=0),
        node('Mul', ['mean', 'zero'], ['nothing']),
        node('Add', ['xy', 'nothing'], ['keypoints']),
        node('Add', ['score_values', 'nothing'], ['scores']),
        node('Add', ['descriptor_values', 'nothing'], ['descriptors']),
        node('Add', ['global_values', 'nothing'], ['global_descriptor']),
    ]
    shapes = {
        'segmentation': [1, height, width],
        'segmentation_confidence': [1, height, width],
        'depth': [1, height, width],
        'keypoints': [1, k, 2],
        'scores': [1, k],
        'descriptors': [1, k, metadata.descriptor_dim or DIM],
        'global_descriptor': [1, metadata.global_descriptor_dim or GLOBAL_DIM],
    }
    names = [name for task in TASK_OUTPUTS if task in metadata.tasks for name in TASK_OUTPUTS[task]]
    if confidence and 'segmentation' in metadata.tasks:
        names.append('segmentation_confidence')
    outputs = [
        helper.make_tensor_value_info(
            name,
            types.get(name, TensorProto.UINT8 if name.startswith('segmentation') else TensorProto.FLOAT),
            shapes[name],
        )
        for name in names
        if name not in drop
    ]
    inputs = [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, height, width, 3])]
    properties = {METADATA_KEY: metadata.to_json()} if extra_metadata is None else extra_metadata
    return _write(path, nodes, inputs, outputs, constants, properties)


def matcher_metadata(**changes):
    """Metadata of the test matcher."""
    values = {
        'kind': 'matcher',
        'architecture': 'lightglue-test',
        'model_id': 'lightglue-test-89abcdef',
        'matches_model': 'test-net-01234567',
        'descriptor_dim': DIM,
    }
    return ModelMetadata(**{**values, **changes})


def write_matcher(path, metadata=None, fixed=None):
    """Write a matcher model; ``fixed``: number of keypoints its axes are fixed to."""
    metadata = matcher_metadata() if metadata is None else metadata
    n, m, dim = fixed or 'n', fixed or 'm', metadata.descriptor_dim
    node = helper.make_node
    constants = {
        'zero': np.array(0, np.float32),
        'far': np.array(-10, np.float32),
        'none': np.array(-1, np.int64),
        'row': np.array([1], np.int64),
        'tiny': np.array(0, np.float32),
    }
    # every input counts, so that none is optimised away
    nodes = [
        node('Transpose', ['descriptors1'], ['turned'], perm=[0, 2, 1]),
        node('MatMul', ['descriptors0', 'turned'], ['similarity']),
        node('Greater', ['scores1', 'zero'], ['real1']),
        node('Greater', ['scores0', 'zero'], ['real0']),
        node('Unsqueeze', ['real1', 'row'], ['real1_row']),
        node('Where', ['real1_row', 'similarity', 'far'], ['masked']),
        node('ArgMax', ['masked'], ['best'], axis=2, keepdims=0),
        node('ReduceMax', ['masked'], ['best_score'], axes=[2], keepdims=0),
        node('Where', ['real0', 'best', 'none'], ['best_or_none']),
        node('Cast', ['best_or_none'], ['matches0'], to=TensorProto.INT32),
        node('ReduceSum', ['keypoints0'], ['k0'], keepdims=0),
        node('ReduceSum', ['keypoints1'], ['k1'], keepdims=0),
        node('ReduceSum', ['size0'], ['s0'], keepdims=0),
        node('ReduceSum', ['size1'], ['s1'], keepdims=0),
        node('Sum', ['k0', 'k1', 's0', 's1'], ['all']),
        node('Mul', ['all', 'tiny'], ['nothing']),
        node('Add', ['best_score', 'nothing'], ['matching_scores0']),
    ]
    value = helper.make_tensor_value_info
    inputs = []
    for suffix, size in (('0', n), ('1', m)):
        inputs += [
            value('keypoints' + suffix, TensorProto.FLOAT, [1, size, 2]),
            value('descriptors' + suffix, TensorProto.FLOAT, [1, size, dim]),
            value('scores' + suffix, TensorProto.FLOAT, [1, size]),
            value('size' + suffix, TensorProto.FLOAT, [1, 2]),
        ]
    outputs = [
        value('matches0', TensorProto.INT32, [1, n]),
        value('matching_scores0', TensorProto.FLOAT, [1, n]),
    ]
    return _write(path, nodes, inputs, outputs, constants, {METADATA_KEY: metadata.to_json()})


def change_metadata(path, **changes):
    """Rewrite single values of the metadata of a model file, unchecked; ``None`` removes one."""
    model = onnx.load(str(path))
    values = json.loads({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    values.update(changes)
    values = {key: value for key, value in values.items() if value is not None}
    helper.set_model_props(model, {METADATA_KEY: json.dumps(values)})
    onnx.save(model, str(path))
    return path


def _write(path, nodes, inputs, outputs, constants, properties):
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, 'test', inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
