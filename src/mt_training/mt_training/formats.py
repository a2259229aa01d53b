"""A model in any of its formats as one function: PyTorch, ONNX Runtime in all precisions, TensorRT."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mt_perception.errors import MtError
from mt_perception.inference.contract import read_model
from mt_perception.inference.factory import create_engine
from mt_training.comparison import onnx_runner

SUFFIXES = ('.onnx', '.ckpt')
QUANTISED = ('DequantizeLinear', 'ConvInteger', 'MatMulInteger')


@dataclass
class Runner:
    """
    A model that is ready to run.

    :param name: unique among those compared.
    :param kind: such as 'ONNX Runtime float16'.
    :param megabytes: of the file.
    :param run: function of an image [1,H,W,3] uint8 that gives {output: array}.
    """

    name: str
    kind: str
    megabytes: float
    run: Callable


def precision_of(path):
    """Return 'int8', 'float16' or 'float32': what an ONNX file mostly computes in."""
    import onnx

    graph = onnx.load(str(path)).graph
    if any(node.op_type in QUANTISED for node in graph.node):
        return 'int8'
    sizes = dict.fromkeys((onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT), 0)
    for tensor in graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += len(tensor.raw_data)
    return 'float16' if sizes[onnx.TensorProto.FLOAT16] > sizes[onnx.TensorProto.FLOAT] else 'float32'


def torch_runner(path, threads=0):
    """Open a checkpoint of ``train`` as :class:`Runner`'s function: the network with its post-processing."""
    import torch

    from mt_training.deploy import DeployedNet
    from mt_training.export import load_net

    if threads:
        torch.set_num_threads(threads)
    net, config = load_net(path)
    deployed = DeployedNet(net, config['export'].get('max_keypoints', 0))

    def run(image):
        with torch.inference_mode():
            out = deployed(torch.from_numpy(image))
        return dict(zip(deployed.output_names(), (value.numpy() for value in out), strict=True))

    return run


def open_runners(paths, size, threads=0, tensorrt=None, cache_dir=None, logger=None):
    """
    Open files to compare.

    :param paths: checkpoints of ``train`` and exported perception models.
    :param size: (width, height) of the images; TensorRT builds engines for it.
    :param threads: CPU threads, 0 = one per core.
    :param tensorrt: also run every float32 ONNX file with TensorRT, in the precisions named ('fp16', 'fp32').
    :param cache_dir: of built engines. :param logger: hears that an engine is built.
    :return: list of :class:`Runner`.
    :raises MtError: a file that is missing or of another kind; TensorRT that is not there.
    """
    found = []
    for path in map(Path, paths):
        if path.suffix not in SUFFIXES:
            raise MtError(f"'{path}' is neither an exported model (.onnx) nor a checkpoint (.ckpt)")
        if not path.is_file():
            raise MtError(f"there is no model '{path}'")
        megabytes = path.stat().st_size / 1e6
        if path.suffix == '.ckpt':
            found.append(Runner(_unique(path.name, found), 'PyTorch', megabytes, torch_runner(path, threads)))
            continue
        read_model(path, 'perception')
        precision = precision_of(path)
        name = _unique(path.name, found)
        found.append(Runner(name, f'ONNX Runtime {precision}', megabytes, onnx_runner(path, threads)))
        for wanted in tensorrt or () if precision == 'float32' else ():
            engine = create_engine(path, 'tensorrt', size, wanted, cache_dir, logger=logger)
            run = _engine_runner(engine)
            found.append(Runner(_unique(path.name, found), engine.name, megabytes, run))
    return found


def _engine_runner(engine):
    return lambda image: engine.run({'image': image})


def _unique(name, found):
    taken, number, chosen = {runner.name for runner in found}, 2, name
    while chosen in taken:
        chosen, number = f'{name} ({number})', number + 1
    return chosen
