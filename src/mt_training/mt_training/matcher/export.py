"""Export a trained matcher under the matcher contract."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch

from mt_perception.errors import MtError
from mt_perception.inference.contract import METADATA_KEY, ModelMetadata
from mt_training.matcher.model import DeployedMatcher, MatcherNet

OPSET = 18


def load_matcher(checkpoint, config):
    """Load a matcher trained by :func:`mt_training.matcher.train.train_matcher`."""
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    net = MatcherNet(**config['model'])
    net.load_state_dict({k.removeprefix('net.'): v for k, v in state.items() if k.startswith('net.')})
    return net.eval()


def example(dim, n, m, padding, seed=0):
    """Make two keypoint sets that share points, the last ``padding`` of each padded, in contract order."""
    rng = np.random.default_rng(seed)
    out = []
    base = rng.normal(size=(max(n, m), dim)).astype(np.float32)
    where = rng.uniform(0, 400, (max(n, m), 2)).astype(np.float32)
    for count in (n, m):
        descriptors = base[:count] + 0.1 * rng.normal(size=(count, dim)).astype(np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        scores = np.full((1, count), 0.5, np.float32)
        if padding:
            scores[:, -padding:] = 0
        size = np.array([[640, 480]], np.float32)
        out += [where[None, :count] + np.float32(count == m), descriptors[None], scores, size]
    return [np.ascontiguousarray(v) for v in out]


def _forget_origin(model):
    """Drop the exporter's notes on where in the source each node came from."""
    graph = model.graph
    for item in (
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        graph,
        model,
    ):
        del item.metadata_props[:]
        item.doc_string = ''


def export_matcher(net, config, output, accuracy=None):
    """
    Write the matcher's ONNX file and check it against PyTorch, with and without padding.

    :return: dict of the largest differences.
    :raises MtError: the exported matcher differs.
    """
    import onnx
    import onnxruntime

    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    deployed = DeployedMatcher(net, config['export']['threshold'])
    dim = config['model']['descriptor_dim']
    n, m = (torch.export.Dim(name, min=2, max=4096) for name in 'NM')
    shapes = [{1: n}, {1: n}, {1: n}, None, {1: m}, {1: m}, {1: m}, None]
    partial = output.with_suffix('.part.onnx')
    inputs = tuple(torch.from_numpy(v) for v in example(dim, 40, 50, 6))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            deployed, inputs, str(partial),
            input_names=list(deployed.inputs), output_names=list(deployed.outputs),
            dynamic_shapes=shapes, opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    try:
        model = onnx.load(str(partial))
        _forget_origin(model)
        digest = hashlib.sha256(b''.join(v.numpy().tobytes() for _, v in sorted(net.state_dict().items())))
        metadata = ModelMetadata(
            kind='matcher',
            architecture=config['architecture'],
            model_id=f'{config["architecture"]}-{digest.hexdigest()[:8]}',
            matches_model=config['matches_model'],
            descriptor_dim=dim,
            training_data=config['export']['training_data'],
            license=config['export']['license'],
            accuracy=accuracy or {},
        )
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata.to_json()
        onnx.checker.check_model(model)
        onnx.save(model, str(partial))
        session = onnxruntime.InferenceSession(str(partial), providers=['CPUExecutionProvider'])
        report = {'matches0': 0.0, 'matching_scores0': 0.0}
        for n, m, padding in ((40, 50, 6), (200, 130, 0), (64, 64, 40)):
            arrays = example(dim, n, m, padding)
            found = session.run(None, dict(zip(deployed.inputs, arrays, strict=True)))
            with torch.inference_mode():
                expected = [v.numpy() for v in deployed(*(torch.from_numpy(v) for v in arrays))]
            report['matches0'] = max(report['matches0'], float((found[0] != expected[0]).mean()))
            report['matching_scores0'] = max(
                report['matching_scores0'], float(np.abs(found[1] - expected[1]).max())
            )
        if report['matches0'] > 0.01 or report['matching_scores0'] > 1e-3:
            raise MtError(f'the exported matcher differs from PyTorch: {report}; the file was not kept')
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return report
