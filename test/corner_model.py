"""
A perception model without training: Harris corners with patch descriptors, under the model contract.

The system tests run odometry and the demo on it, so that they do not depend on the weights shipped at the
time. Its segmentation is brightness in three classes and its depth the darkness of the image: enough to be
carried and drawn, meaning nothing.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mt_perception.inference.contract import METADATA_KEY, TASK_OUTPUTS, ModelMetadata

MODEL_ID = 'corners-1'
KEYPOINTS = 400
PATCH = 8  # samples along one side of a descriptor's patch
SPACING = 2  # pixels between them
BORDER = 12


def gaussian(size, sigma):
    """Return a normalised [size,size] kernel."""
    x = np.arange(size) - size // 2
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel)
    return (kernel / kernel.sum()).astype(np.float32)


def constants():
    """Return the weights of the graph."""
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 8
    patches = np.eye(PATCH * PATCH, dtype=np.float32).reshape(PATCH * PATCH, 1, PATCH, PATCH)
    crop = np.array([0, 0, -BORDER, -BORDER, 0, 0, -BORDER, -BORDER], np.int64)
    return {
        'to_gray': np.full((1, 3, 1, 1), 1 / (3 * 255), np.float32),
        'blur': gaussian(5, 1.0)[None, None],
        'window': np.repeat(gaussian(7, 1.5)[None, None], 3, 0),
        'gradient': np.stack([sobel, sobel.T])[:, None],
        'patches': patches,
        'trace_weight': np.array(0.05, np.float32),
        'small': np.array(1e-9, np.float32),
        'zero': np.array(0, np.float32),
        'count': np.array([KEYPOINTS], np.int64),
        'flat': np.array([1, -1], np.int64),
        'flat_channels': np.array([1, PATCH * PATCH, -1], np.int64),
        'crop': crop,
        'restore': -crop,
        'width_axis': np.array([3], np.int64),
        'thumbnail': np.array([1, 1, 8, 8], np.int64),
        'axes_0': np.array([0], np.int64),
        'axes_1': np.array([1], np.int64),
        'axes_2': np.array([2], np.int64),
        'split': np.array([1, 1, 1], np.int64),
        'split_2': np.array([1, 1], np.int64),
        'three': np.array(2.999, np.float32),
        'near': np.array(40.0, np.float32),
        'offset': np.array(1.0, np.float32),
    }


def nodes():
    """Return the nodes of the graph."""
    node = helper.make_node
    near = [3, 3, 3, 3]
    return [
        node('Cast', ['image'], ['float'], to=TensorProto.FLOAT),
        node('Transpose', ['float'], ['planes'], perm=[0, 3, 1, 2]),
        node('Conv', ['planes', 'to_gray'], ['gray']),
        node('Conv', ['gray', 'blur'], ['smooth'], pads=[2, 2, 2, 2]),
        # Harris
        node('Conv', ['smooth', 'gradient'], ['xy_gradient'], pads=[1, 1, 1, 1]),
        node('Split', ['xy_gradient', 'split_2'], ['gx', 'gy'], axis=1),
        node('Mul', ['gx', 'gx'], ['gxx']),
        node('Mul', ['gy', 'gy'], ['gyy']),
        node('Mul', ['gx', 'gy'], ['gxy']),
        node('Concat', ['gxx', 'gyy', 'gxy'], ['tensor'], axis=1),
        node('Conv', ['tensor', 'window'], ['summed'], pads=near, group=3),
        node('Split', ['summed', 'split'], ['a', 'b', 'c'], axis=1),
        node('Mul', ['a', 'b'], ['ab']),
        node('Mul', ['c', 'c'], ['cc']),
        node('Sub', ['ab', 'cc'], ['determinant']),
        node('Add', ['a', 'b'], ['trace']),
        node('Mul', ['trace', 'trace'], ['trace2']),
        node('Mul', ['trace2', 'trace_weight'], ['edge']),
        node('Sub', ['determinant', 'edge'], ['corner']),
        # not at the border, and only the strongest of its neighbourhood
        node('Shape', ['corner'], ['shape']),
        node('Pad', ['corner', 'crop', 'zero'], ['cropped']),
        node('Pad', ['cropped', 'restore', 'zero'], ['framed']),
        node('MaxPool', ['framed'], ['largest'], kernel_shape=[7, 7], strides=[1, 1], pads=near),
        node('Equal', ['framed', 'largest'], ['is_largest']),
        node('Where', ['is_largest', 'framed', 'zero'], ['peaks']),
        node('Max', ['peaks', 'zero'], ['positive']),
        node('Reshape', ['positive', 'flat'], ['flat_peaks']),
        node('TopK', ['flat_peaks', 'count'], ['strength', 'places'], axis=1),
        node('Add', ['strength', 'small'], ['strength_plus']),
        node('Div', ['strength', 'strength_plus'], ['scores']),
        # pixels
        node('Gather', ['shape', 'width_axis'], ['width']),
        node('Mod', ['places', 'width'], ['x_int']),
        node('Div', ['places', 'width'], ['y_int']),
        node('Cast', ['x_int'], ['x'], to=TensorProto.FLOAT),
        node('Cast', ['y_int'], ['y'], to=TensorProto.FLOAT),
        node('Unsqueeze', ['x', 'axes_2'], ['x1']),
        node('Unsqueeze', ['y', 'axes_2'], ['y1']),
        node('Concat', ['x1', 'y1'], ['keypoints'], axis=2),
        # descriptors: the patch without its mean, unit length
        node('Conv', ['smooth', 'patches'], ['samples'], pads=[7, 7, 7, 7], dilations=[SPACING, SPACING]),
        node('Reshape', ['samples', 'flat_channels'], ['flat_samples']),
        node('Squeeze', ['places', 'axes_0'], ['place_list']),
        node('Gather', ['flat_samples', 'place_list'], ['picked'], axis=2),
        node('Transpose', ['picked'], ['raw'], perm=[0, 2, 1]),
        node('ReduceMean', ['raw'], ['mean'], axes=[2], keepdims=1),
        node('Sub', ['raw', 'mean'], ['centred']),
        node('LpNormalization', ['centred'], ['descriptors'], axis=2, p=2),
        # the whole image on 8 x 8 cells
        node('Resize', ['gray', '', '', 'thumbnail'], ['cells'], mode='linear'),
        node('Reshape', ['cells', 'flat'], ['cell_list']),
        node('ReduceMean', ['cell_list'], ['cell_mean'], axes=[1], keepdims=1),
        node('Sub', ['cell_list', 'cell_mean'], ['cell_centred']),
        node('LpNormalization', ['cell_centred'], ['global_descriptor'], axis=1, p=2),
        # brightness and height
        node('Mul', ['gray', 'three'], ['levels']),
        node('Squeeze', ['levels', 'axes_1'], ['level_map']),
        node('Cast', ['level_map'], ['segmentation'], to=TensorProto.UINT8),
        node('Squeeze', ['smooth', 'axes_1'], ['smooth_map']),
        node('Add', ['smooth_map', 'offset'], ['shade']),
        node('Div', ['near', 'shade'], ['depth']),
    ]


def metadata(**changes):
    """Return what the model says about itself."""
    values = {
        'kind': 'perception',
        'architecture': 'harris',
        'model_id': MODEL_ID,
        'tasks': list(TASK_OUTPUTS),
        'input_size': [320, 256],
        'input_multiple': 32,
        'class_names': ['dark', 'middle', 'bright'],
        'class_colors': [[60, 60, 160], [80, 170, 80], [230, 200, 90]],
        'depth_kind': 'metric',
        'descriptor_dim': PATCH * PATCH,
        'global_descriptor_dim': 64,
        'max_keypoints': KEYPOINTS,
        'training_data': 'none: Harris corners for tests',
        'license': 'Apache-2.0',
    }
    return ModelMetadata(**{**values, **changes})


def write_corner_model(path, tasks=tuple(TASK_OUTPUTS)):
    """
    Write the model.

    :param path: file.
    :param tasks: which outputs it has.
    :return: ``path``.
    """
    values = constants()
    shapes = {
        'segmentation': (TensorProto.UINT8, [1, 'height', 'width']),
        'depth': (TensorProto.FLOAT, [1, 'height', 'width']),
        'keypoints': (TensorProto.FLOAT, [1, KEYPOINTS, 2]),
        'scores': (TensorProto.FLOAT, [1, KEYPOINTS]),
        'descriptors': (TensorProto.FLOAT, [1, KEYPOINTS, PATCH * PATCH]),
        'global_descriptor': (TensorProto.FLOAT, [1, 64]),
    }
    names = [name for task in tasks for name in TASK_OUTPUTS[task]]
    graph = helper.make_graph(
        nodes(),
        'corners',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, 'height', 'width', 3])],
        [helper.make_tensor_value_info(name, *shapes[name]) for name in names],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    properties = {METADATA_KEY: metadata(tasks=list(tasks)).to_json()}
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
