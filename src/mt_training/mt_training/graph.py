"""Rewriting of exported graphs, for speed: the same numbers from fewer operators."""

import numpy as np


def fuse_padding(model):
    """
    Move zero padding into the convolutions behind it.

    PyTorch has no convolution that pads one side only, so TensorFlow's SAME padding at stride 2 is a node of
    its own in an exported graph, which copies the map and keeps the runtime's faster layouts from it. ONNX
    convolutions pad each side by itself.

    :param model: onnx.ModelProto, changed in place.
    :return: number of nodes that went.
    """
    import onnx
    from onnx import helper

    graph = model.graph
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    gone = []
    for node in graph.node:
        if node.op_type != 'Pad' or node.output[0] in outputs:
            continue
        pads = _zero_pads(model, node)
        convolutions = users.get(node.output[0], [])
        if pads is None or any(
            c.op_type != 'Conv' or c.input[0] != node.output[0] or _auto_pad(c) for c in convolutions
        ):
            continue
        for convolution in convolutions:
            own = next((list(a.ints) for a in convolution.attribute if a.name == 'pads'), [0] * len(pads))
            kept = [a for a in convolution.attribute if a.name != 'pads']
            del convolution.attribute[:]
            convolution.attribute.extend(kept)
            convolution.attribute.append(
                helper.make_attribute('pads', [int(a + b) for a, b in zip(own, pads, strict=True)])
            )
            convolution.input[0] = node.input[0]
        gone.append(node)
    for node in gone:
        graph.node.remove(node)
    drop_unused(graph)
    onnx.checker.check_model(model)
    return len(gone)


def _auto_pad(node):
    """Tell whether a convolution chooses its padding itself."""
    return any(a.name == 'auto_pad' and a.s not in (b'', b'NOTSET') for a in node.attribute)


def _zero_pads(model, node):
    """Return a Pad node's spatial padding as a convolution writes it, or None where it is something else."""
    mode = next((a.s for a in node.attribute if a.name == 'mode'), b'constant')
    pads = constant(model, node.input[1])
    value = constant(model, node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if mode != b'constant' or len(node.input) > 3 or pads is None or value is None or np.any(value):
        return None
    before, after = np.split(pads.astype(int), 2)
    if before[:2].any() or after[:2].any() or pads.min() < 0:
        return None
    return [*before[2:], *after[2:]]


def constant(model, name):
    """
    Compute a value that depends on no input of the graph.

    :param model: onnx.ModelProto.
    :param name: of the value.
    :return: array, or None where the value depends on an input.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    kept = {t.name: t for t in graph.initializer}
    nodes, tensors, open_names, seen = [], [], [name], set()
    while open_names:
        current = open_names.pop()
        if current in seen or not current:
            continue
        seen.add(current)
        if current in kept:
            tensors.append(kept[current])
        elif current in made:
            nodes.append(made[current])
            open_names += made[current].input
        else:
            return None
    nodes = [node for node in graph.node if any(node is n for n in nodes)]  # in the graph's order
    part = helper.make_graph(nodes, 'part', [], [helper.make_empty_tensor_value_info(name)], tensors)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return ReferenceEvaluator(part, opsets).run(None, {})[0]


def drop_unused(graph):
    """Remove nodes and constants that nothing uses any more."""
    wanted = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if wanted & set(node.output):
            wanted.update(node.input)
        else:
            graph.node.remove(node)
    for tensor in [t for t in graph.initializer if t.name not in wanted]:
        graph.initializer.remove(tensor)
