"""Choose and start an engine."""

import importlib
import os
from pathlib import Path

from mt_perception.errors import EngineError, ModelError
from mt_perception.inference.contract import read_model
from mt_perception.inference.input_size import choose_input_size

ENGINES = ('auto', 'tensorrt', 'onnxruntime')
PRECISIONS = ('fp16', 'fp32')
MAX_KEYPOINTS = 512


def create_engine(
    model,
    engine='auto',
    input_size=None,
    precision='fp16',
    cache_dir=None,
    threads=0,
    logger=None,
    max_keypoints=MAX_KEYPOINTS,
    kind=None,
):
    """
    Start the engine for a model file.

    'auto' takes TensorRT when it, PyCUDA and a GPU are there, else ONNX Runtime, and warns when that runs on
    the CPU. The first start with TensorRT builds the engine, which takes minutes and is logged; see
    :mod:`mt_perception.inference.tensorrt_engine`.

    :param model: path of an ONNX file under the model contract.
    :param engine: one of ``ENGINES``.
    :param input_size: (width, height) of the network's images; None or (0, 0) = the model's own.
    :param precision: one of ``PRECISIONS``: what TensorRT computes with.
    :param cache_dir: where built engines are kept; None = ``$XDG_CACHE_HOME/mt_perception``.
    :param threads: CPU threads of ONNX Runtime, 0 = one per core.
    :param logger: has ``info(text)``, such as a logging or ROS logger; None = silent.
    :param max_keypoints: matcher on TensorRT: number of keypoints per image its engine is built for.
    :param kind: 'perception' or 'matcher' when only that will do.
    :return: :class:`mt_perception.inference.engine.Engine`; read its ``warnings``.
    :raises ModelError: the file breaks the model contract, or cannot take ``input_size``.
    :raises EngineError: the engine is not installed or cannot run the model.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine '{engine}' is not one of {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"precision '{precision}' is not one of {', '.join(PRECISIONS)}")
    model = read_model(model, kind)
    if model.metadata.kind == 'perception':
        input_size = choose_input_size(model, None, input_size or (0, 0))
    elif input_size is not None:
        raise ModelError(f"model '{model.path}' is a matcher: it has no input_size")
    cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()

    reason = tensorrt_missing() if engine != 'onnxruntime' else ''
    if engine == 'tensorrt' and reason:
        raise EngineError(
            f'engine tensorrt cannot be used: {reason}; install TensorRT (part of JetPack on a Jetson, '
            "elsewhere 'pip install tensorrt') and 'pip install pycuda', or choose engine auto or onnxruntime"
        )
    if engine != 'onnxruntime' and not reason:
        from mt_perception.inference.tensorrt_engine import TensorRtEngine

        try:
            return TensorRtEngine(model, input_size, precision, cache_dir, max_keypoints, logger)
        except EngineError as error:
            if engine == 'tensorrt':
                raise
            reason = str(error)

    from mt_perception.inference.onnxruntime_engine import OnnxRuntimeEngine

    started = OnnxRuntimeEngine(model, input_size, threads, cache_dir=cache_dir)
    if engine == 'auto':
        slow = ' on the CPU' if started.name.endswith('CPUExecutionProvider') else ''
        started.warnings.append(
            f'TensorRT is not used ({reason}): {model.path.name} runs{slow} with ONNX Runtime'
        )
    return started


def default_cache_dir():
    """Folder for built engines: ``$XDG_CACHE_HOME/mt_perception``, else ``~/.cache/mt_perception``."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if os.path.isabs(base) else Path.home() / '.cache') / 'mt_perception'


def tensorrt_missing():
    """Return why TensorRT cannot be used here, '' when it can."""
    for module in ('tensorrt', 'pycuda.driver'):
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken install fails with OSError, RuntimeError or AttributeError too
            return f'{module} cannot be imported: {(str(error).splitlines() or [type(error).__name__])[0]}'
    driver = importlib.import_module('pycuda.driver')
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        return f'CUDA does not start: {error}'
    return '' if count else 'there is no NVIDIA GPU'
