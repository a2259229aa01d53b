"""
The engine on TensorRT 10 and 11 (8.6 too), with PyCUDA for memory and streams.

The first start builds an engine for this GPU from the ONNX file and keeps it in the cache folder; see
:mod:`mt_perception.inference.engine_cache`. It runs one input size, or one number of keypoints.

Precision: on 10 and 11 it is what the ONNX file says. 'fp16' takes ``<model>.fp16.onnx`` beside the model,
which has float16 weights and the same inputs and outputs; without that file TensorRT computes in float32 with
TF32 multiplications, and a warning says so. 'fp32' computes in full float32.
"""

import contextlib
import hashlib
import importlib
import threading
import time
from dataclasses import dataclass

import numpy as np

from mt_perception.errors import EngineError, ModelError
from mt_perception.inference.contract import MATCHER_INPUTS, PERCEPTION_INPUTS, read_model
from mt_perception.inference.engine import Engine
from mt_perception.inference.engine_cache import file_sha256, load_or_build
from mt_perception.inference.tensorrt_builder import build_plan, make_logger, strongly_typed

DTYPES = {'FLOAT': 'float32', 'HALF': 'float16', 'INT32': 'int32', 'INT64': 'int64', 'UINT8': 'uint8'}


@dataclass
class Buffer:
    """A tensor's memory: ``host`` a page-locked array of the tensor's shape, ``device`` on the GPU."""

    host: np.ndarray
    device: object


class TensorRtEngine(Engine):
    """
    Runs a model with TensorRT on the first GPU (``CUDA_VISIBLE_DEVICES`` chooses which that is).

    :param model: :class:`mt_perception.inference.contract.ModelFile`.
    :param input_size: (width, height) of a perception model's images, None for a matcher.
    :param precision: 'fp16' or 'fp32'.
    :param cache_dir: folder of built engines.
    :param max_keypoints: number of keypoints per image of a matcher.
    :param logger: has ``info`` and ``warning``; None = silent.
    :raises EngineError: TensorRT cannot build, load or run the model.
    :raises ModelError: the float16 model does not belong to ``model``.
    """

    def __init__(self, model, input_size, precision, cache_dir, max_keypoints, logger=None):
        self._trt = importlib.import_module('tensorrt')
        self._cuda = importlib.import_module('pycuda.driver')
        self._lock = threading.Lock()
        self._execution = None
        log = logger.info if logger is not None else lambda text: None
        self._cuda.init()
        device = self._cuda.Device(0)
        shapes = input_shapes(model, input_size, max_keypoints)
        keypoints = shapes['keypoints0'][1] if model.metadata.kind == 'matcher' else None
        source, used, warning = precision_source(model, precision, strongly_typed(self._trt))
        name = f'tensorrt {self._trt.__version__} {device.name()} {used}'
        super().__init__(model, name, input_size, False, keypoints)
        if warning:
            self.warnings.append(warning)
        self._context = device.retain_primary_context()
        with self._active():
            self._open(source, used, shapes, device, cache_dir, log)

    def _open(self, source, precision, shapes, device, cache_dir, log):
        """Build or load the engine and reserve its memory."""
        trt = self._trt
        facts = {
            'tensorrt': trt.__version__,
            'gpu': device.name(),
            'compute_capability': list(device.compute_capability()),
            'onnx': source.path.name,
            'onnx_sha256': file_sha256(source.path),
            'precision': precision,
            'shapes': {name: list(shape) for name, shape in shapes.items()},
        }

        def build():
            log(f"building the TensorRT engine of '{source.path}' ({precision}): once, this takes minutes")
            start = time.monotonic()
            plan = build_plan(trt, source.path, shapes, precision, log)
            log(f'built the TensorRT engine in {time.monotonic() - start:.0f} s, {len(plan) / 1e6:.1f} MB')
            return plan

        cache = (cache_dir, cache_name(source, shapes, precision), facts, build, log, self.warnings.append)
        self._messages = make_logger(trt)
        self._runtime = trt.Runtime(self._messages)
        self._engine = self._runtime.deserialize_cuda_engine(load_or_build(*cache))
        if self._engine is None:
            plan = load_or_build(*cache, rebuild=f'TensorRT cannot load it ({self._messages.error})')
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"TensorRT cannot load the engine of '{source.path}': {self._messages.error}")
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise EngineError(f"TensorRT cannot start '{source.path}': {self._messages.error}")
        for name, shape in shapes.items():
            if not self._execution.set_input_shape(name, shape):
                raise EngineError(f"TensorRT engine of '{source.path}' does not take {name} of shape {shape}")
        self._stream = self._cuda.Stream()
        self._inputs, self._outputs = {}, {}
        try:
            for name in (self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)):
                is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
                (self._inputs if is_input else self._outputs)[name] = self._buffer(name, is_input)
        except self._cuda.Error as error:
            raise EngineError(f"the GPU has no memory for model '{source.path}': {error}") from None

    def _buffer(self, name, is_input):
        """Reserve memory for a tensor and tell TensorRT where it is."""
        expected = (self.model.inputs if is_input else self.model.outputs)[name].dtype
        dtype = DTYPES.get(self._engine.get_tensor_dtype(name).name, '')
        if dtype != expected:
            raise EngineError(f"TensorRT engine of '{self.model.path}' has {name} as {dtype}, not {expected}")
        shape = tuple(self._execution.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise EngineError(f"output {name} of '{self.model.path}' has no fixed shape ({shape})")
        host = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
        device = self._cuda.mem_alloc(max(int(host.nbytes), 1))
        self._execution.set_tensor_address(name, int(device))
        return Buffer(host, device)

    def run(self, inputs, outputs=None):
        """Run once; only the outputs asked for are copied from the GPU. See :class:`Engine`."""
        wanted = list(self.model.outputs) if outputs is None else list(outputs)
        unknown = [name for name in wanted if name not in self.model.outputs]
        if unknown:
            raise EngineError(f"model '{self.model.path}' has no output {', '.join(unknown)}")
        with self._lock:
            if self._execution is None:
                raise EngineError(f"the engine of model '{self.model.path}' is closed")
            try:
                with self._active():
                    return self._run(inputs, wanted)
            except self._cuda.Error as error:
                raise EngineError(f"CUDA fails while it runs model '{self.model.path}': {error}") from None

    def _run(self, inputs, wanted):
        for name, buffer in self._inputs.items():
            if inputs[name].shape != buffer.host.shape:
                raise EngineError(
                    f'the TensorRT engine is built for {name} of shape {buffer.host.shape}, '
                    f'not {inputs[name].shape}'
                )
            np.copyto(buffer.host, inputs[name], casting='no')
            self._cuda.memcpy_htod_async(buffer.device, buffer.host, self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise EngineError(f"TensorRT cannot run model '{self.model.path}': {self._messages.error}")
        for name in wanted:
            self._cuda.memcpy_dtoh_async(self._outputs[name].host, self._outputs[name].device, self._stream)
        self._stream.synchronize()
        return {name: self._outputs[name].host.copy() for name in wanted}

    def close(self):
        """Free the engine and its memory on the GPU."""
        with self._lock:
            if self._execution is None:
                return
            with self._active():
                self._execution = None
                for buffer in (*self._inputs.values(), *self._outputs.values()):
                    buffer.device.free()
                self._inputs, self._outputs = {}, {}
                self._stream = self._engine = self._runtime = None
            self._context = None

    @contextlib.contextmanager
    def _active(self):
        """Make the GPU's context current in this thread; CUDA knows one per thread."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()


def input_shapes(model, input_size, max_keypoints):
    """
    Return the fixed shape of every input.

    :param model: :class:`mt_perception.inference.contract.ModelFile`.
    :param input_size: (width, height) of a perception model's images.
    :param max_keypoints: N and M of a matcher, where its graph does not fix them.
    :return: {input: tuple}.
    """
    if model.metadata.kind == 'perception':
        width, height = input_size
        contract, axes = PERCEPTION_INPUTS, {'H': height, 'W': width}
    else:
        contract = MATCHER_INPUTS
        axes = {'D': model.metadata.descriptor_dim}
        for axis, name in (('N', 'keypoints0'), ('M', 'keypoints1')):
            size = model.inputs[name].shape[1]
            axes[axis] = size if isinstance(size, int) else max_keypoints
    return {name: tuple(axes.get(size, size) for size in shape) for name, (_, shape) in contract.items()}


def precision_source(model, precision, typed):
    """
    Choose the ONNX file for a precision.

    :param model: :class:`mt_perception.inference.contract.ModelFile`.
    :param precision: 'fp16' or 'fp32'.
    :param typed: True when TensorRT takes the precision from the file.
    :return: (:class:`ModelFile` to build, 'fp16', 'tf32' or 'fp32', a warning or '').
    :raises ModelError: the float16 file has other weights.
    """
    if precision == 'fp32' or not typed:
        return model, precision, ''
    path = model.path.with_name(f'{model.path.stem}.fp16.onnx')
    if not path.is_file():
        warning = (
            f"'{path}' does not exist: '{model.path.name}' runs in TF32 on TensorRT, FP16 would be faster"
        )
        return model, 'tf32', warning
    half = read_model(path, model.metadata.kind)
    if half.metadata.model_id != model.metadata.model_id or set(half.outputs) != set(model.outputs):
        raise ModelError(
            f"model '{path}' is not the float16 version of '{model.path.name}': it has model_id "
            f"'{half.metadata.model_id}' with outputs {', '.join(half.outputs)}, not "
            f"'{model.metadata.model_id}' with {', '.join(model.outputs)}; export or remove it"
        )
    return half, 'fp16', ''


def cache_name(model, shapes, precision):
    """File name of an engine; models of the same name in different folders do not share one."""
    folder = hashlib.sha256(str(model.path.resolve()).encode()).hexdigest()[:6]
    if 'image' in shapes:
        size = f'{shapes["image"][2]}x{shapes["image"][1]}'
    else:
        size = f'{shapes["keypoints0"][1]}x{shapes["keypoints1"][1]}'
    return f'{model.path.stem}-{folder}-{size}-{precision}'
