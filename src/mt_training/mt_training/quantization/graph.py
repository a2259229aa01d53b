"""What of a model's graph computes in 8 bits, and what stays in floating point."""

import fnmatch
import hashlib
from dataclasses import replace
from pathlib import Path

from mt_perception.errors import MtError
from mt_perception.inference.contract import METADATA_KEY, ModelMetadata, read_model
from mt_training.half import PRODUCTS, between_products, values_of
from mt_training.point_descriptors import PREFIX

# operators that ONNX Runtime and TensorRT run in 8 bits and that do not need more
OPERATORS = (
    'Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'Add', 'Mul', 'Concat', 'Resize', 'Relu', 'Clip', 'MaxPool',
    'AveragePool', 'GlobalAveragePool', 'Pad', 'Sigmoid', 'LeakyRelu',
)  # fmt: skip
# the first products after the image: few channels of very different ranges, whose errors all heads inherit
FIRST_LAYERS = 3
# the last products before the keypoints: sub-pixel places come from small differences of their results
LOCATION_LAYERS = 2


def name_nodes(model):
    """Give every node of an ONNX model a name."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f'node_{index}'


def last_products(graph, outputs, depth=1):
    """
    Return the names of the last products before some outputs.

    :param graph: ONNX graph whose nodes have names.
    :param outputs: names of outputs.
    :param depth: 1: the last products of every path; 2: also those that feed them; and so on.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found, seen = set(), {}
    todo = [(name, 0) for name in outputs]
    while todo:
        name, passed = todo.pop()
        node = makers.get(name)
        if node is None or passed >= depth or seen.get(name, depth) <= passed:
            continue
        seen[name] = passed
        if node.op_type in PRODUCTS:
            found.add(node.name)
            passed += 1
        todo += [(given, passed) for given in values_of(node)]
    return found


def first_nodes(graph, depth):
    """
    Return the names of the nodes up to the first products after the input.

    :param graph: ONNX graph whose nodes have names, in topological order.
    :param depth: how many products a node may have on its longest way from the input, itself included.
    """
    passed, found = {}, set()
    for node in graph.node:
        count = max((passed.get(name, 0) for name in node.input), default=0) + (node.op_type in PRODUCTS)
        passed.update(dict.fromkeys(node.output, count))
        if count <= depth:
            found.add(node.name)
    return found


def sensitive_nodes(graph):
    """
    Return the names of the nodes that stay in floating point by default.

    These are the normalisation of the input and the post-processing (arg-max, softmax, non-maximum
    suppression, top-K, sampling, norms: all that does not lie between two products), the first layers
    (``FIRST_LAYERS``), the final layer of every output, the layers that decide where a keypoint is
    (``LOCATION_LAYERS``), and descriptors at points, whose Winograd products have a wider range than 8 bits.
    """
    inner = between_products(graph)
    kept = {node.name for node in graph.node if node.name not in inner}
    kept |= first_nodes(graph, FIRST_LAYERS)
    kept |= {node.name for node in graph.node if node.name.startswith(PREFIX)}
    names = [output.name for output in graph.output]
    kept |= last_products(graph, [name for name in names if name != 'descriptors'])
    # sampled descriptors depend on places too; the map that is sampled has a final layer of its own
    if 'descriptors' in names:
        kept |= last_products(graph, ['descriptors'])
    return kept | last_products(graph, [name for name in names if name == 'keypoints'], LOCATION_LAYERS)


def chosen_nodes(model, exclude=(), keep_sensitive=True):
    """
    Return the names of the nodes to compute in 8 bits.

    :param model: ONNX model whose nodes have names.
    :param exclude: patterns (``*`` and ``?``) of names of nodes to leave in floating point.
    :param keep_sensitive: leave ``sensitive_nodes`` in floating point too.
    :raises MtError: a pattern that fits no node, or nothing left.
    """
    graph = model.graph
    names = [node.name for node in graph.node if node.op_type in OPERATORS]
    kept = sensitive_nodes(graph) if keep_sensitive else set()
    for pattern in exclude:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise MtError(f"--exclude '{pattern}' fits no node; names look like {names[len(names) // 2]}")
        kept.update(fitting)
    chosen = [name for name in names if name not in kept]
    products = {node.name for node in graph.node if node.op_type in PRODUCTS}
    if not products & set(chosen):
        raise MtError('nothing is left to quantise: every convolution is excluded or a final layer')
    return chosen


def read_graph(path):
    """Load a model with ONNX, its nodes named."""
    import onnx

    model = onnx.load(str(path))
    name_nodes(model)
    return model


def weights_hash(model):
    """Return eight hexadecimal digits that identify the weights of an ONNX model."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda entry: entry.name):
        digest.update(tensor.name.encode())
        digest.update(tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()[:8]


def finish(model, metadata, path, accuracy=None, note=''):
    """
    Put the metadata of the contract into a changed model and write it.

    The id names exactly these weights, so it changes: descriptors of a quantised network are compared among
    themselves. Accuracy that was measured on the model before is dropped.

    :param model: ONNX model.
    :param metadata: :class:`mt_perception.inference.contract.ModelMetadata` of the model before.
    :param path: file to write, whole or not at all: the caller renames it.
    :param accuracy: numbers measured on this one.
    :param note: what was done, added to what is said of the training data.
    :return: the new metadata.
    """
    import onnx

    trained = metadata.training_data
    trained = [trained] if isinstance(trained, str) else list(trained)
    changed = replace(
        metadata,
        model_id=f'{metadata.architecture}-{weights_hash(model)}',
        accuracy=accuracy or {},
        training_data=[line for line in (*trained, note) if line],
    )
    ModelMetadata.from_json(changed.to_json())
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, changed.to_json()
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return changed


def quantised_path(path):
    """Return where the 8-bit version of a model file lies by default."""
    path = Path(path)
    return path.with_name(f'{path.stem}.int8.onnx')


def adopt_matcher(matcher, before, after, output):
    """
    Write a copy of a matcher that takes the descriptors of a quantised model.

    They are near the old ones, so the weights stay; only what the matcher says it matches changes.

    :param matcher: ONNX file of the matcher. :param before: model_id it matches, of the model before.
    :param after: model_id of the quantised one. :param output: file to write, whole or not at all.
    :raises MtError: not a matcher, or one for another model.
    """
    import onnx

    metadata = read_model(matcher, 'matcher').metadata
    if metadata.matches_model != before:
        raise MtError(f"--matcher '{matcher}' matches '{metadata.matches_model}', not '{before}'")
    model = onnx.load(str(matcher))
    entry = next(e for e in model.metadata_props if e.key == METADATA_KEY)
    entry.value = replace(metadata, matches_model=after).to_json()
    partial = Path(output).with_suffix('.part.onnx')
    try:
        onnx.save(model, str(partial))
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
