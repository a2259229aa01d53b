"""
8-bit models after training, by ONNX Runtime's quantiser.

Static: the ranges of all maps are measured on images; the file holds explicit QuantizeLinear and
DequantizeLinear pairs, which ONNX Runtime fuses into 8-bit kernels and TensorRT 10 and 11 read as they are.
Dynamic: only weights are 8-bit in the file; ranges are measured anew in every run.
"""

import contextlib
import logging
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mt_perception.errors import MtError
from mt_perception.inference.contract import read_model
from mt_training.quantization.graph import chosen_nodes, finish, read_graph

METHODS = {'minmax': 'MinMax', 'entropy': 'Entropy', 'percentile': 'Percentile'}
PERCENTILE = 99.99  # of the values of a map that its range holds, with --method percentile
TARGETS = ('cpu', 'tensorrt')


class Reader:
    """
    Calibration images as ONNX Runtime reads them.

    One at a time: all maps of many images would not fit into memory.

    :param images: list of [1,H,W,3] uint8.
    """

    def __init__(self, images):
        self.images, self.at, self.end = images, 0, len(images)
        self.bar = tqdm(total=len(images), desc='calibration', unit='image', disable=None)

    def __len__(self):
        """Return the number of images."""
        return len(self.images)

    def set_range(self, start_index, end_index):
        """Choose which images :meth:`get_next` gives."""
        self.at, self.end = start_index, end_index

    def get_next(self):
        """Return the next image, None after the last."""
        if self.at >= self.end:
            return None
        self.at += 1
        self.bar.update()
        return {'image': self.images[self.at - 1]}

    def __iter__(self):
        """Iterate over what :meth:`get_next` gives."""
        return iter(self.get_next, None)


@contextlib.contextmanager
def quiet():
    """Silence the advice that ONNX Runtime's quantiser logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def static_options(target, method, ranges):
    """
    Return ONNX Runtime's options for a target.

    'cpu': unsigned activations, weights of seven bits: processors without VNNI add pairs of 8-bit products in
    16 bits and would saturate. 'tensorrt': signed activations around zero, weights of eight bits, biases in
    floating point, a pair for every reader.

    :param ranges: {tensor: (low, high)} learned in training; all others are calibrated.
    :return: (dict of arguments, dict of extra options).
    """
    from onnxruntime.quantization import QuantType

    extra = {'CalibStridedMinMax': 1, 'WeightSymmetric': True}
    if method == 'percentile':
        extra['CalibPercentile'] = PERCENTILE
    if ranges:
        extra['TensorQuantOverrides'] = {
            name: [{'rmin': np.array(low, np.float32), 'rmax': np.array(high, np.float32)}]
            for name, (low, high) in ranges.items()
        }
    arguments = {'activation_type': QuantType.QUInt8, 'weight_type': QuantType.QInt8, 'reduce_range': True}
    if target == 'tensorrt':
        arguments.update(activation_type=QuantType.QInt8, reduce_range=False)
        extra.update(ActivationSymmetric=True, QuantizeBias=False, DedicatedQDQPair=True)
    return arguments, extra


def quantize_static(
    path, output, images, method='minmax', target='cpu', exclude=(), keep_sensitive=True, ranges=None, note=''
):
    """
    Write the statically quantised version of a model (QDQ, per channel).

    :param path: exported ONNX file. :param output: file to write, whole or not at all.
    :param images: list of [1,H,W,3] uint8 to measure ranges on.
    :param method: one of ``METHODS``: how a range follows from the values.
    :param target: one of ``TARGETS``.
    :param exclude: and ``keep_sensitive``, see :func:`mt_training.quantization.graph.chosen_nodes`.
    :param ranges: {tensor: (low, high)}, learned; the others are calibrated.
    :param note: what the metadata says of it.
    :return: (its metadata, number of nodes in 8 bits).
    :raises MtError: no images, a pattern that fits nothing, or ONNX Runtime cannot quantise the model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat
    from onnxruntime.quantization import quantize_static as quantize

    if not images:
        raise MtError('static quantisation measures ranges on images: give --images DIR or --dataset NAME')
    model = read_graph(path)
    chosen = chosen_nodes(model, exclude, keep_sensitive)
    arguments, extra = static_options(target, method, ranges)
    note = note or f'8-bit weights and activations, calibrated ({method}) on {len(images)} images'

    def run(source, target_path):
        reader = Reader(images)
        with quiet(), reader.bar:
            quantize(
                source,
                target_path,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                nodes_to_quantize=chosen,
                op_types_to_quantize=list({node.op_type for node in model.graph.node if node.name in chosen}),
                calibrate_method=getattr(CalibrationMethod, METHODS[method]),
                extra_options=extra,
                **arguments,
            )

    return _write(path, output, model, run, note), len(chosen)


def quantize_dynamic(path, output, exclude=(), keep_sensitive=True):
    """
    Write the dynamically quantised version of a model; arguments as of :func:`quantize_static`.

    :return: (its metadata, number of nodes in 8 bits).
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    model = read_graph(path)
    chosen = chosen_nodes(model, exclude, keep_sensitive)
    products = ('Conv', 'Gemm', 'MatMul')
    chosen = [node.name for node in model.graph.node if node.op_type in products and node.name in chosen]

    def run(source, target_path):
        with quiet():
            quantize(
                source,
                target_path,
                op_types_to_quantize=list(products),
                nodes_to_quantize=chosen,
                # ONNX Runtime's integer convolution takes unsigned weights with one scale
                weight_type=QuantType.QUInt8,
                per_channel=False,
            )

    return _write(path, output, model, run, '8-bit weights, activations quantised in every run'), len(chosen)


def _write(path, output, model, run, note):
    """Quantise a named copy with ``run``, add the metadata, check that the file loads, rename it."""
    import onnx

    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    metadata = read_model(path, 'perception').metadata
    with tempfile.TemporaryDirectory(dir=output.parent, prefix='.quantize-') as folder:
        source, made = Path(folder) / 'named.onnx', Path(folder) / 'quantised.onnx'
        onnx.save(model, str(source))
        try:
            run(source, made)
        except MtError:
            raise
        except Exception as error:  # the quantiser raises whatever a graph it does not know leads to
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MtError(f"ONNX Runtime cannot quantise '{path}': {reason}") from error
        changed = finish(onnx.load(str(made)), metadata, made, note=note)
        read_model(made, 'perception')
        made.replace(output)
    return changed
