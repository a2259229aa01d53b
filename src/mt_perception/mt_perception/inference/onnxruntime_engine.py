"""
The engine on ONNX Runtime: CPU everywhere, NVIDIA GPUs where onnxruntime-gpu is installed.

ONNX Runtime computes a whole graph whatever outputs are asked for (its run option
``only_execute_path_to_fetches`` saves nothing, measured with 1.31). So on the CPU a subset of outputs gets a
session of its own, made from the graph cut down to what these outputs need. On a GPU the rest costs little
and another session much (the TensorRT provider builds for minutes), so there one session does everything.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from mt_perception.errors import EngineError
from mt_perception.inference.engine import Engine
from mt_perception.inference.input_size import choose_input_size
from mt_perception.inference.onnx_file import cut_to_outputs

TENSORRT, CUDA, CPU = 'TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider'
PROVIDERS = (TENSORRT, CUDA, CPU)  # fastest first
MAX_SESSIONS = 4  # subsets of outputs kept ready; each costs the memory of its weights and activations


class OnnxRuntimeEngine(Engine):
    """
    Runs a model with ONNX Runtime on the best provider there is.

    :param model: :class:`mt_perception.inference.contract.ModelFile`.
    :param input_size: (width, height) a perception model is run with; None = the model's own.
    :param threads: threads per run on the CPU, 0 = one per core.
    :param providers: names of execution providers to try, None = all of ``PROVIDERS`` that are installed.
    :param cache_dir: where the TensorRT provider keeps its engines, None = it keeps none.
    :raises EngineError: ONNX Runtime is not installed or cannot load this model.
    """

    def __init__(self, model, input_size=None, threads=0, providers=None, cache_dir=None):
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"ONNX Runtime cannot be imported ({error}): install it with 'pip install onnxruntime'"
            ) from None
        self._ort = onnxruntime
        installed = onnxruntime.get_available_providers()
        wanted = [name for name in (providers or PROVIDERS) if name in installed]
        if not wanted:
            raise EngineError(
                f'ONNX Runtime has none of the providers {", ".join(providers)}; '
                f'it has {", ".join(installed)}'
            )
        self._providers = [(name, _provider_options(name, cache_dir)) for name in wanted]
        self._threads = threads
        self._sessions = OrderedDict()
        self._lock = threading.Lock()
        self._cuts = False
        used = self._session(model, tuple(model.outputs)).get_providers()[0]
        self._cuts = used == CPU
        size = (
            choose_input_size(model, None, input_size or (0, 0))
            if model.metadata.kind == 'perception'
            else None
        )
        any_size = size is not None and model.fixed_size is None
        super().__init__(model, f'onnxruntime {used}', size, any_size, _padded_keypoints(model))
        if used == CPU != wanted[0]:
            self.warnings.append(
                f'ONNX Runtime has {wanted[0]} but could not use it and runs on the CPU '
                '(see its messages above: CUDA, cuDNN and the driver have to fit)'
            )
        if used == TENSORRT:
            self.warnings.append(
                "ONNX Runtime's TensorRT provider builds an engine at the first image of each size, silently "
                'and for minutes'
            )

    def _session(self, model, outputs):
        """Return a session that computes ``outputs``, making it when it is new."""
        if not self._cuts:
            outputs = tuple(model.outputs)
        with self._lock:
            if self._sessions is None:
                raise EngineError(f"the engine of model '{model.path}' is closed")
            if outputs not in self._sessions:
                self._sessions[outputs] = self._load(model, outputs)
                if len(self._sessions) > MAX_SESSIONS:
                    self._sessions.popitem(last=False)
            self._sessions.move_to_end(outputs)
            return self._sessions[outputs]

    def _load(self, model, outputs):
        """Start ONNX Runtime on the part of the graph that computes ``outputs``."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # waiting threads sleep: on a robot the cores are shared with odometry, drivers and the rest
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        source = str(model.path) if outputs == tuple(model.outputs) else cut_to_outputs(model.path, outputs)
        try:
            return self._ort.InferenceSession(source, options, providers=self._providers)
        except Exception as error:  # ONNX Runtime raises a class per status code, without a common base
            raise EngineError(
                f"ONNX Runtime {self._ort.__version__} cannot load model '{model.path}': {_first_line(error)}"
            ) from None

    def run(self, inputs, outputs=None):
        """Run once; see :meth:`mt_perception.inference.engine.Engine.run`."""
        wanted = set(self.model.outputs if outputs is None else outputs)
        unknown = wanted - set(self.model.outputs)
        if unknown:
            raise EngineError(f"model '{self.model.path}' has no output {', '.join(sorted(unknown))}")
        names = tuple(name for name in self.model.outputs if name in wanted)
        session = self._session(self.model, names)
        needed = {info.name for info in session.get_inputs()}
        try:
            values = session.run(names, {name: inputs[name] for name in needed})
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime cannot run model '{self.model.path}': {_first_line(error)}"
            ) from None
        return dict(zip(names, values, strict=True))

    def close(self):
        """Free the sessions."""
        with self._lock:
            self._sessions = None


def _provider_options(name, cache_dir):
    """Options of one provider; precision stays what the ONNX file says."""
    if name == TENSORRT and cache_dir is not None:
        folder = str(Path(cache_dir) / 'onnxruntime')
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError:
            return {}  # it builds at every start then
        return {
            'trt_engine_cache_enable': True,
            'trt_engine_cache_path': folder,
            'trt_timing_cache_enable': True,
        }
    return {}


def _padded_keypoints(model):
    """Number of keypoints a matcher's graph is fixed to, None when it takes any."""
    if model.metadata.kind != 'matcher':
        return None
    size = model.inputs['keypoints0'].shape[1]
    return size if isinstance(size, int) else None


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
