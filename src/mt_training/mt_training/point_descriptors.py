"""
Rewriting of exported graphs, for speed: descriptors only where there are keypoints.

The last layers before the descriptors, a 3×3 convolution, ReLU and a 1×1 convolution, are computed for the
whole map, of which bilinear sampling at the keypoints then reads a small part. Here they are computed for the
four cells around each keypoint: for 512 × 384 pixels and 1024 keypoints a quarter of the arithmetic is left.
The 2×2 outputs of a 3×3 convolution over 4×4 cells are one tile of Winograd's F(2×2, 3×3) (Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1).
"""

import numpy as np

from mt_training.graph import constant, drop_unused

PREFIX = 'point_descriptors/'  # of the names of the new nodes
TILE = 4  # cells per side that the four outputs around a point need
# Winograd's transforms of the data, the weights and the result
DATA = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float64)
WEIGHTS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float64)
RESULT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float64)


def describe_points_only(model, size=None):
    """
    Replace the map of descriptors by descriptors at the points that are sampled from it.

    Points beyond the centres of the outermost cells get the descriptor at these; sampling mixes in zeros.

    :param model: onnx.ModelProto, changed in place.
    :param size: (width, height) of the images it will see: a map that is small for its points stays then.
    :return: whether there was such a map.
    """
    import onnx

    graph = model.graph
    outputs = {value.name for value in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    uses = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    for sample in [node for node in graph.node if node.op_type == 'GridSample']:
        chain = _chain(sample, makers)
        if chain is None or any(uses[n.output[0]] > 1 or n.output[0] in outputs for n in chain):
            continue
        if size is not None and not _worth_it(model, sample, chain, size):
            continue
        _replace(model, sample, chain)
        drop_unused(graph)
        onnx.checker.check_model(model)
        return True
    return False


def _attribute(node, name, default):
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _is_convolution(node, size):
    return (
        node is not None
        and node.op_type == 'Conv'
        and len(node.input) == 3
        and _attribute(node, 'kernel_shape', None) == [size, size]
        and _attribute(node, 'strides', [1, 1]) == [1, 1]
        and _attribute(node, 'dilations', [1, 1]) == [1, 1]
        and _attribute(node, 'pads', [0] * 4) == [size // 2] * 4
        and _attribute(node, 'group', 1) == 1
        and _attribute(node, 'auto_pad', b'NOTSET') in (b'', b'NOTSET')
    )


def _chain(sample, makers):
    """Return the 3×3 convolution, ReLU and 1×1 convolution before bilinear sampling, or None."""
    if _attribute(sample, 'mode', b'bilinear') not in (b'bilinear', b'linear'):
        return None
    if _attribute(sample, 'align_corners', 0) or _attribute(sample, 'padding_mode', b'zeros') != b'zeros':
        return None
    last = makers.get(sample.input[0])
    if not _is_convolution(last, 1):
        return None
    relu = makers.get(last.input[0])
    first = makers.get(relu.input[0]) if relu is not None and relu.op_type == 'Relu' else None
    return (first, relu, last) if _is_convolution(first, 3) else None


def _worth_it(model, sample, chain, size):
    """Tell whether the points need less than half of the map's arithmetic, at images [1,height,width,3]."""
    import onnx

    sized = onnx.ModelProto.FromString(model.SerializeToString())
    for axis, length in zip((1, 2), size[::-1]):
        sized.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
    for value in sized.graph.output:
        value.type.tensor_type.ClearField('shape')
    del sized.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph.value_info
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inferred}
    cells, points = shapes.get(chain[0].input[0], [0]), shapes.get(sample.input[1], [0])
    return 9 * np.prod(cells[2:]) > 2 * TILE**2 * np.prod(points[1:3]) > 0


class _Nodes:
    """New nodes and constants of a graph."""

    def __init__(self, graph):
        self._graph = graph
        self.nodes = []

    def constant(self, values, dtype=np.float32):
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f'{PREFIX}constant_{len(self._graph.initializer)}'
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, operator, *inputs, output=None, **attributes):
        """Add a node of one output; return its name."""
        from onnx import helper

        name = f'{PREFIX}{operator}_{len(self.nodes)}'
        output = output or name
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output


def _replace(model, sample, chain):
    """Put the nodes in the place of the sampling."""
    first, _, last = chain
    weight, bias, weight_last, bias_last = (
        constant(model, name) for name in (*first.input[1:], *last.input[1:])
    )
    channels, hidden = weight.shape[1], weight.shape[0]
    graph, features = model.graph, first.input[0]
    new = _Nodes(graph)

    def shaped(name, *shape):
        return new.add('Reshape', name, new.constant(shape, np.int64))

    # x, y [K,2] of the upper left of the four cells around each point, and how far the point is from it
    shape = new.add('Shape', features)
    size = new.add('Gather', shape, new.constant([3, 2], np.int64))  # width and height of the map
    size = new.add('Cast', size, to=1)
    places = new.add('Add', shaped(sample.input[1], -1, 2), new.constant(1))
    places = new.add(
        'Sub', new.add('Mul', places, new.add('Mul', size, new.constant(0.5))), new.constant(0.5)
    )
    last_cell = new.add('Sub', size, new.constant(1))
    places = new.add('Min', new.add('Max', places, new.constant(0)), last_cell)
    corner = new.add('Min', new.add('Floor', places), new.add('Sub', last_cell, new.constant(1)))
    fraction = new.add('Sub', places, corner)

    # the 4×4 cells around, [16,K,channels]; with a border of one cell the first is the corner itself
    cells = new.add('Transpose', features, perm=[0, 2, 3, 1])
    cells = new.add('Pad', cells, new.constant([0, 1, 1, 0, 0, 1, 1, 0], np.int64))
    row = new.add('Add', new.add('Gather', size, new.constant([0], np.int64)), new.constant(2))
    row_step = new.add('Concat', new.constant([1]), row, axis=0)  # how far cells lie apart in x and y
    steps = np.stack(np.divmod(np.arange(TILE * TILE), TILE)[::-1], 1)

    def place(xy):  # not a matrix product: those are float16 in the half version, which cannot count so far
        return new.add('ReduceSum', new.add('Mul', xy, row_step), new.constant([1], np.int64))

    index = new.add('Add', shaped(place(corner), 1, -1), place(new.constant(steps)))
    index = new.add('Cast', index, to=7)
    tiles = new.add('Gather', shaped(cells, -1, channels), index, axis=0)

    # the convolution at the four cells, [4,K,hidden]
    tiles = new.add('MatMul', new.constant(np.kron(DATA, DATA)), shaped(tiles, TILE * TILE, -1))
    transformed = np.einsum('ia,ocab,jb->ijco', WEIGHTS, weight.astype(np.float64), WEIGHTS)
    products = new.add(
        'MatMul',
        shaped(tiles, TILE * TILE, -1, channels),
        new.constant(transformed.reshape(TILE * TILE, channels, hidden)),
    )
    four = new.add('MatMul', new.constant(np.kron(RESULT, RESULT)), shaped(products, TILE * TILE, -1))
    four = new.add('Relu', new.add('Add', shaped(four, -1, hidden), new.constant(bias)))
    four = new.add('MatMul', four, new.constant(weight_last[:, :, 0, 0].T))
    four = shaped(new.add('Add', four, new.constant(bias_last)), 4, -1, len(weight_last))

    # bilinear
    x, y = (new.add('Gather', fraction, new.constant([k], np.int64), axis=1) for k in (0, 1))
    across = new.add('Concat', new.add('Sub', new.constant(1), x), x, axis=1)  # [K,2]
    down = new.add('Concat', new.add('Sub', new.constant(1), y), y, axis=1)
    share = new.add('Mul', shaped(down, -1, 2, 1), shaped(across, -1, 1, 2))
    share = new.add('Transpose', shaped(share, -1, 4), perm=[1, 0])
    mixed = new.add('Mul', four, new.add('Unsqueeze', share, new.constant([2], np.int64)))
    mixed = new.add('ReduceSum', mixed, new.constant([0], np.int64), keepdims=0)
    mixed = new.add('Transpose', mixed, perm=[1, 0])
    new.add('Reshape', mixed, new.constant([1, len(weight_last), -1, 1], np.int64), output=sample.output[0])

    kept = []
    for node in graph.node:
        kept += new.nodes if node is sample else [node]
    del graph.node[:]
    graph.node.extend(kept)
