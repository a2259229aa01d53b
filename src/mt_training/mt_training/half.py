"""
The float16 version of an exported model, for engines that take their precision from the file.

TensorRT 10 and 11 build strongly typed networks: what is float16 in the file runs in float16, and nothing
else does. The convolutions and matrix products are; what decides (softmax, non-maximum suppression, the
sub-pixel position, the depth's exponential, norms) stays in float32. Inputs and outputs keep their types.
"""

import warnings
from pathlib import Path

import numpy as np

from mt_perception.errors import MtError
from mt_training.graph import drop_unused

FLOAT32, FLOAT16 = 1, 10  # TensorProto.DataType
PRODUCTS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
# operators that lose too much, or overflow, in float16 wherever they stand
FULL_PRECISION = (
    'Cos', 'Exp', 'GridSample', 'IsInf', 'IsNaN', 'LayerNormalization', 'Log', 'LogSoftmax', 'Pow',
    'ReduceL2', 'ReduceMean', 'ReduceSum', 'Sin', 'Softmax', 'Sqrt', 'TopK',
)  # fmt: skip
# largest mean difference to the float32 file that passes
LIMITS = {
    'segmentation': 0.01,  # part of the pixels with another class
    'segmentation_confidence': 1.5,
    'depth': 0.02,  # relative
    'keypoints': 0.05,  # part of the points without a partner within 0.25 px
    'scores': 0.005,
    'descriptors': 0.005,
    'global_descriptor': 0.005,
    'matches0': 0.02,
    'matching_scores0': 0.02,
}


def half_path(path):
    """Return where the float16 version of a model file lies."""
    path = Path(path)
    return path.with_name(f'{path.stem}.fp16.onnx')


# operators whose second input only says where to look: its numbers reach no result
LOOKUPS = ('Gather', 'GatherElements', 'GatherND', 'GridSample')


def values_of(node):
    """Return the names of a node's inputs whose numbers go into its results."""
    if node.op_type == 'Shape':
        return []
    return node.input[:1] if node.op_type in LOOKUPS else node.input


def between_products(graph):
    """Return the names of the nodes that are products, or lie on a path of values from one to another."""
    makers = {name: node for node in graph.node for name in node.output}
    users = {}
    for node in graph.node:
        for name in values_of(node):
            users.setdefault(name, []).append(node)

    def reach(names_of, step):
        seen, todo = set(), [node for node in graph.node if node.op_type in PRODUCTS]
        while todo:
            node = todo.pop()
            for name in names_of(node):
                for other in step(name):
                    if other.name not in seen:
                        seen.add(other.name)
                        todo.append(other)
        return seen

    after = reach(lambda node: node.output, lambda name: users.get(name, []))
    before = reach(values_of, lambda name: [makers[name]] if name in makers else [])
    products = {node.name for node in graph.node if node.op_type in PRODUCTS}
    return (after & before) | products


def convert(path):
    """
    Write the float16 version beside a model file and compare the two.

    :param path: an exported ONNX file.
    :return: (path of the float16 file, dict output → difference, see ``LIMITS``).
    :raises MtError: an output differs by more than its limit; nothing is written then.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = Path(path)
    target = half_path(path)
    partial = target.with_suffix('.part.onnx')
    model = onnx.load(str(path))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f'node_{index}'
    inner = between_products(model.graph)
    own = {node.name for node in model.graph.node}
    kept = [name for name in own if name not in inner]
    properties = [(entry.key, entry.value) for entry in model.metadata_props]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        half = convert_float_to_float16(
            model, keep_io_types=True, op_block_list=list(FULL_PRECISION), node_block_list=kept
        )
    _drop_repeated(half.graph)
    _drop_round_trips(half, own)
    del half.metadata_props[:]
    for key, value in properties:
        entry = half.metadata_props.add()
        entry.key, entry.value = key, value
    try:
        onnx.save(half, str(partial))
        report = compare(path, partial)
        for name, value in report.items():
            if not value <= LIMITS[name]:
                raise MtError(f"in float16 '{name}' differs by {value:.2g}; the file was not kept")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target, report


def _drop_repeated(graph):
    """Keep one of the equal casts that the conversion adds for every user of a tensor."""
    made, kept = set(), []
    for node in graph.node:
        if made.isdisjoint(node.output):
            kept.append(node)
        made.update(node.output)
    del graph.node[:]
    graph.node.extend(kept)


def _drop_round_trips(model, own):
    """
    Take what stays in float32 straight from one node to the next.

    The conversion rounds each result of such a node to float16 and back, and turns every cast to float32 into
    one to float16: a keypoint at x = 300 moves by up to an eighth of a pixel.

    :param own: names of the nodes that the conversion has not added.
    """
    users = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for node in model.graph.node:
        added = [user.op_type == 'Cast' and user.name not in own for user in users.get(node.output[0], [])]
        if node.op_type == 'Cast' and node.name in own and node.attribute[0].i == FLOAT16 and all(added):
            node.attribute[0].i = FLOAT32
    makers = {name: node for node in model.graph.node for name in node.output}
    exact = {}
    for node in model.graph.node:
        rounded = makers.get(node.input[0]) if node.op_type == 'Cast' and node.name not in own else None
        added = rounded is not None and rounded.op_type == 'Cast' and rounded.name not in own
        if added and rounded.attribute[0].i == FLOAT16 and node.attribute[0].i == FLOAT32:
            exact[node.output[0]] = rounded.input[0]
    results = {exact[value.name]: value.name for value in model.graph.output if value.name in exact}
    for node in [node for node in model.graph.node if node.output[0] in results.values()]:
        model.graph.node.remove(node)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            name = exact.get(name, name)
            node.input[index] = results.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = results.get(name, name)
    del model.graph.value_info[:]  # the types it says are those before
    _sort(model.graph)
    drop_unused(model.graph)


def _sort(graph):
    """Put every node behind those that make its inputs; the conversion adds its own at the end."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    order, stack = {}, list(range(len(graph.node)))[::-1]
    while stack:
        node = graph.node[stack[-1]]
        first = [makers[name] for name in node.input if name in makers and makers[name] not in order]
        if first:
            stack += first
        else:
            order.setdefault(stack.pop())
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def compare(path, other):
    """
    Run two versions of a model on the same input.

    :return: dict output → mean difference, as ``LIMITS`` defines it.
    """
    import onnxruntime

    from mt_perception.inference.contract import read_model

    sessions = [
        onnxruntime.InferenceSession(str(p), providers=['CPUExecutionProvider']) for p in (path, other)
    ]
    metadata = read_model(path).metadata
    if metadata.kind == 'matcher':
        from mt_training.matcher.export import example

        names = [entry.name for entry in sessions[0].get_inputs()]
        inputs = dict(zip(names, example(metadata.descriptor_dim, 200, 256, 20), strict=True))
    else:
        inputs = {'image': scene(*metadata.input_size)}
    names = [entry.name for entry in sessions[0].get_outputs()]
    first, second = (dict(zip(names, s.run(None, inputs), strict=True)) for s in sessions)
    report = {}
    if 'keypoints' in first:
        distance = np.linalg.norm(first['keypoints'][0][:, None] - second['keypoints'][0][None], axis=-1)
        partner, near = distance.argmin(1), distance.min(1) < 0.25
        report['keypoints'] = float(1 - near.mean())
        for name in ('scores', 'descriptors'):
            report[name] = float(np.abs(first[name][0][near] - second[name][0][partner[near]]).mean())
    for name in names:
        if name in report:
            continue
        a, b = first[name].astype(np.float64), second[name].astype(np.float64)
        if name in ('segmentation', 'matches0'):
            report[name] = float((a != b).mean())
        elif name == 'depth':
            report[name] = float((np.abs(a - b) / a).mean())
        else:
            report[name] = float(np.abs(a - b).mean())
    return report


def scene(width, height, seed=0):
    """Make an image with edges and corners, [1,height,width,3] uint8: noise has no stable keypoints."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128, np.uint8)
    for _ in range(200):
        corner = rng.integers(0, (width, height))
        opposite = corner + rng.integers(8, 90, 2)
        color = rng.integers(0, 256, 3).tolist()
        cv2.rectangle(image, corner.tolist(), opposite.tolist(), color, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)[None]
