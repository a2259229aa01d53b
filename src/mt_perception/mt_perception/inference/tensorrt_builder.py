"""
Build a TensorRT engine from an ONNX file.

TensorRT 10 and 11 build strongly typed networks: every layer computes in the type the ONNX file gives it.
TensorRT 8.6 (JetPack 5) has no such networks; there FP16 is a flag of the builder.
"""

import time
from pathlib import Path

from mt_perception.errors import EngineError

WORKSPACE_BYTES = 1 << 30  # scratch memory a layer may use; the default is all the GPU has
REPORT_SECONDS = 5.0


def strongly_typed(trt):
    """Return whether this TensorRT takes the precision from the ONNX file."""
    return hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED')


def build_plan(trt, path, shapes, precision, log):
    """
    Build an engine for fixed input shapes.

    :param trt: the tensorrt module.
    :param path: ONNX file.
    :param shapes: {input: shape}.
    :param precision: 'fp16', 'tf32' or 'fp32'; in strongly typed networks 'fp16' is up to the ONNX file.
    :param log: called with a sentence about progress every few seconds.
    :return: bytes of the serialized engine.
    :raises EngineError: TensorRT cannot parse or build the model.
    """
    messages = make_logger(trt)
    builder = trt.Builder(messages)
    kinds = trt.NetworkDefinitionCreationFlag
    kind = kinds.STRONGLY_TYPED if strongly_typed(trt) else kinds.EXPLICIT_BATCH
    network = builder.create_network(1 << int(kind))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse(Path(path).read_bytes(), str(path)):
        errors = '; '.join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"TensorRT {trt.__version__} cannot parse model '{path}': {errors}")

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if precision == 'fp32':
        config.clear_flag(trt.BuilderFlag.TF32)
    if precision == 'fp16' and not strongly_typed(trt):
        config.set_flag(trt.BuilderFlag.FP16)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor.name for tensor in inputs if -1 in tuple(tensor.shape)]
    if dynamic:
        profile = builder.create_optimization_profile()
        for name in dynamic:
            profile.set_shape(name, shapes[name], shapes[name], shapes[name])
        config.add_optimization_profile(profile)
    monitor = _progress_monitor(trt, log)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot build model '{path}': {messages.error}")
    return bytes(plan)


def make_logger(trt):
    """Return a TensorRT logger that keeps the latest error in ``error`` and is silent otherwise."""

    class MessageLogger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.error = 'TensorRT gave no reason'

        def log(self, severity, msg):
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.error = msg

    return MessageLogger()


def _progress_monitor(trt, log):
    """Return a monitor that reports the build every few seconds; None where TensorRT has none (8.6)."""
    if not hasattr(trt, 'IProgressMonitor'):
        return None

    class Progress(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.start = self.reported = time.monotonic()
            self.steps = {}

        def phase_start(self, phase_name, parent_phase, num_steps):
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name, step):
            now = time.monotonic()
            if now - self.reported >= REPORT_SECONDS:
                self.reported = now
                log(
                    f'building TensorRT engine for {now - self.start:.0f} s: {phase_name}, '
                    f'step {step + 1} of {self.steps.get(phase_name, "?")}'
                )
            return True

        def phase_finish(self, phase_name):
            self.steps.pop(phase_name, None)

    return Progress()
