"""
Small ONNX models under the model contract whose answers are known, for the tests of the evaluations.

Segmentation is the red channel, depth blue / 10 metres, the global descriptor the direction of the mean
colour; the keypoints and their descriptors are constants.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KEYPOINTS = 24
UNUSED = [(name, side) for name in ('keypoints', 'scores', 'size') for side in '01']


def constant_keypoints(width=64, height=32):
    """[K,2] float32 places spread over the image."""
    x, y = np.meshgrid(np.linspace(4, width - 5, 6), np.linspace(4, height - 5, 4))
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def write_tiny_model(path, class_names=('sky', 'building'), **metadata):
    """
    Write the model; further arguments replace values of its metadata.

    :return: ``path``.
    """
    values = {
        'contract_version': 1,
        'kind': 'perception',
        'architecture': 'tiny',
        'model_id': 'tiny-00000000',
        'tasks': ['segmentation', 'depth', 'keypoints', 'global_descriptor'],
        'input_size': [64, 32],
        'input_multiple': 32,
        'class_names': list(class_names),
        'class_colors': [[10 * i, 20, 200] for i in range(len(class_names))],
        'depth_kind': 'metric',
        'depth_focal': None,
        'descriptor_dim': KEYPOINTS,
        'global_descriptor_dim': 3,
        'max_keypoints': KEYPOINTS,
        **metadata,
    }
    constants = {
        'pixels': np.array([1, 2], np.int64),
        'last': np.array([3], np.int64),
        'ten': np.array(10, np.float32),
        'zero': np.array(0, np.float32),
        'parts': np.array([1, 1, 1], np.int64),
        'xy': constant_keypoints()[None],
        'constant_scores': np.linspace(0.9, 0.5, KEYPOINTS, dtype=np.float32)[None],
        'constant_descriptors': np.eye(KEYPOINTS, dtype=np.float32)[None],
    }
    node = helper.make_node
    nodes = [
        node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
        node('Split', ['float', 'parts'], ['red4', 'green4', 'blue4'], axis=3),
        node('Squeeze', ['red4', 'last'], ['red']),
        node('Squeeze', ['blue4', 'last'], ['blue']),
        node('Cast', ['red'], ['segmentation'], to=TensorProto.UINT8),
        node('Div', ['blue', 'ten'], ['depth']),
        node('ReduceMean', ['float'], ['color'], axes=[1, 2], keepdims=0),
        node('ReduceL2', ['color'], ['length'], axes=[1], keepdims=1),
        node('Div', ['color', 'length'], ['global_descriptor']),
        node('ReduceSum', ['float'], ['sum'], keepdims=0),
        node('Mul', ['sum', 'zero'], ['nothing']),
        node('Add', ['xy', 'nothing'], ['keypoints']),
        node('Add', ['constant_scores', 'nothing'], ['scores']),
        node('Add', ['constant_descriptors', 'nothing'], ['descriptors']),
    ]
    outputs = {
        'segmentation': ['H', 'W'],
        'depth': ['H', 'W'],
        'keypoints': [KEYPOINTS, 2],
        'scores': [KEYPOINTS],
        'descriptors': [KEYPOINTS, KEYPOINTS],
        'global_descriptor': [3],
    }
    kept = {'keypoints': ('keypoints', 'scores', 'descriptors')}
    names = [name for task in values['tasks'] for name in kept.get(task, (task,))]
    graph = helper.make_graph(
        nodes,
        'tiny',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, 'H', 'W', 3])],
        [
            helper.make_tensor_value_info(
                name, TensorProto.UINT8 if name == 'segmentation' else TensorProto.FLOAT, [1, *outputs[name]]
            )
            for name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {'mt_model': json.dumps(values)})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_tiny_matcher(path, matches_model='tiny-00000000'):
    """
    Write a matcher that takes the most similar descriptor and scores it with the similarity.

    :return: ``path``.
    """
    node = helper.make_node
    nodes = [
        node('Transpose', ['descriptors1'], ['turned'], perm=[0, 2, 1]),
        node('MatMul', ['descriptors0', 'turned'], ['similarity']),
        node('ArgMax', ['similarity'], ['best'], axis=2, keepdims=0),
        node('Cast', ['best'], ['matches0'], to=TensorProto.INT32),
        node('ReduceMax', ['similarity'], ['best_score'], axes=[2], keepdims=0),
        # the other inputs of the contract must be used by the graph
        *(node('ReduceSum', [name + side], [f'{name}{side}_sum'], keepdims=0) for name, side in UNUSED),
        node('Sum', [f'{name}{side}_sum' for name, side in UNUSED], ['sum']),
        node('Mul', ['sum', 'zero'], ['nothing']),
        node('Add', ['best_score', 'nothing'], ['matching_scores0']),
    ]
    value, inputs = helper.make_tensor_value_info, []
    for side, n in (('0', 'N'), ('1', 'M')):
        shapes = {'keypoints': [n, 2], 'descriptors': [n, KEYPOINTS], 'scores': [n], 'size': [2]}
        inputs += [value(name + side, TensorProto.FLOAT, [1, *shape]) for name, shape in shapes.items()]
    outputs = [
        value('matches0', TensorProto.INT32, [1, 'N']),
        value('matching_scores0', TensorProto.FLOAT, [1, 'N']),
    ]
    zero = numpy_helper.from_array(np.array(0, np.float32), 'zero')
    metadata = {
        'contract_version': 1,
        'kind': 'matcher',
        'architecture': 'tiny-matcher',
        'model_id': 'tiny-matcher-00000000',
        'matches_model': matches_model,
        'descriptor_dim': KEYPOINTS,
    }
    model = helper.make_model(
        helper.make_graph(nodes, 'tiny', inputs, outputs, [zero]),
        opset_imports=[helper.make_opsetid('', 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {'mt_model': json.dumps(metadata)})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
