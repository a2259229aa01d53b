"""
A stand-in for TensorRT that runs the ONNX file through ONNX Runtime. For tests only.

``make('10.3.0')`` returns a module with the names of that version; test_tensorrt_names.py checks each of them
against the real bindings. "Engines" hold the ONNX file and the version, and load with no other version.
"""

import ctypes
import enum
import json
import types

import numpy as np
import onnxruntime

import standin_pycuda

TYPES = {
    'tensor(float)': 'FLOAT',
    'tensor(uint8)': 'UINT8',
    'tensor(int32)': 'INT32',
    'tensor(int64)': 'INT64',
}
NUMPY = {'FLOAT': np.float32, 'UINT8': np.uint8, 'INT32': np.int32, 'INT64': np.int64}
MAGIC = b'stand-in engine\n'


class ILogger:
    """Base of loggers."""

    Severity = enum.Enum('Severity', 'INTERNAL_ERROR ERROR WARNING INFO VERBOSE', start=0)

    def __init__(self):
        self._constructed = True

    def log(self, severity, msg):
        """Take a message."""


class IProgressMonitor:
    """Base of progress monitors."""

    def __init__(self):
        self._constructed = True

    def phase_start(self, phase_name, parent_phase, num_steps):
        """A phase starts."""

    def step_complete(self, phase_name, step):
        """A step is done; False stops the build."""

    def phase_finish(self, phase_name):
        """A phase ends."""


class ITensor:
    """An input of the network."""

    def __init__(self, name, shape):
        self.name = name
        self.shape = shape


class INetworkDefinition:
    """The parsed file."""

    def __init__(self):
        self._model = None
        self._tensors = []

    @property
    def num_inputs(self):
        """Number of inputs."""
        return len(self._tensors)

    def get_input(self, index):
        """Return an input; dynamic axes are -1."""
        return self._tensors[index]


class ParserError:
    """Why the parser failed."""

    def __init__(self, text):
        self._text = text

    def desc(self):
        """Return the text."""
        return self._text


class OnnxParser:
    """Loads the file in ONNX Runtime."""

    def __init__(self, network, logger):
        assert logger._constructed
        self._network = network
        self._errors = []

    @property
    def num_errors(self):
        """Number of errors."""
        return len(self._errors)

    def get_error(self, index):
        """Return an error."""
        return self._errors[index]

    def parse(self, model, path=None):
        """Parse bytes."""
        try:
            session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
        except Exception as error:
            self._errors.append(ParserError(str(error).splitlines()[0]))
            return False
        self._network._model = bytes(model)
        self._network._tensors = [
            ITensor(i.name, tuple(s if isinstance(s, int) else -1 for s in i.shape))
            for i in session.get_inputs()
        ]
        return True


class IOptimizationProfile:
    """Shapes of dynamic inputs."""

    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        """Set the shapes of one input."""
        assert tuple(min) == tuple(opt) == tuple(max)
        self._shapes[input] = tuple(opt)


class IBuilderConfig:
    """What the builder may do."""

    def __init__(self):
        self._profiles = []
        self._flags = set()
        self._limits = {}
        self.progress_monitor = None

    def set_memory_pool_limit(self, pool, pool_size):
        """Limit memory."""
        self._limits[pool] = pool_size

    def set_flag(self, flag):
        """Switch on."""
        self._flags.add(flag.name)

    def clear_flag(self, flag):
        """Switch off."""
        self._flags.discard(flag.name)

    def add_optimization_profile(self, profile):
        """Add a profile."""
        self._profiles.append(profile)
        return len(self._profiles) - 1


class ICudaEngine:
    """A loaded engine."""

    def __init__(self, session, shapes):
        self._session = session
        self._shapes = shapes
        self._tensors = {i.name: i for i in (*session.get_inputs(), *session.get_outputs())}

    @property
    def num_io_tensors(self):
        """Number of inputs and outputs."""
        return len(self._tensors)

    def get_tensor_name(self, index):
        """Return the name of a tensor."""
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        """Return whether a tensor is an input."""
        return (
            TensorIOMode.INPUT
            if name in {i.name for i in self._session.get_inputs()}
            else TensorIOMode.OUTPUT
        )

    def get_tensor_dtype(self, name):
        """Return the element type."""
        return DataType[TYPES[self._tensors[name].type]]

    def create_execution_context(self):
        """Return what runs the engine."""
        return IExecutionContext(self)


class IExecutionContext:
    """Runs an engine."""

    def __init__(self, engine):
        self._engine = engine
        self._shapes = {}
        self._addresses = {}

    def set_input_shape(self, name, shape):
        """Set the shape of an input; only what the profile allows."""
        if name in self._engine._shapes and tuple(shape) != self._engine._shapes[name]:
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        """Return the shape of a tensor, which ONNX Runtime knows only after a run."""
        if name in self._shapes:
            return self._shapes[name]
        feeds = {
            i.name: np.zeros(self._shapes[i.name], NUMPY[TYPES[i.type]])
            for i in self._engine._session.get_inputs()
        }
        return self._engine._session.run([name], feeds)[0].shape

    def set_tensor_address(self, name, memory):
        """Say where a tensor is on the device."""
        assert isinstance(memory, int)
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        """Put a run on the stream."""
        standin_pycuda.STREAMS[stream_handle].queue.append(self._execute)
        return set(self._addresses) == set(self._engine._tensors)

    def _execute(self):
        feeds = {}
        for tensor in self._engine._session.get_inputs():
            array = np.zeros(self._shapes[tensor.name], NUMPY[TYPES[tensor.type]])
            ctypes.memmove(array.ctypes.data, self._addresses[tensor.name], array.nbytes)
            feeds[tensor.name] = array
        names = [output.name for output in self._engine._session.get_outputs()]
        for name, array in zip(names, self._engine._session.run(names, feeds), strict=True):
            array = np.ascontiguousarray(array)
            ctypes.memmove(self._addresses[name], array.ctypes.data, array.nbytes)


DataType = enum.Enum('DataType', 'FLOAT HALF INT8 INT32 INT64 BOOL UINT8', start=0)
TensorIOMode = enum.Enum('TensorIOMode', 'NONE INPUT OUTPUT', start=0)
MemoryPoolType = enum.Enum('MemoryPoolType', 'WORKSPACE', start=0)

NETWORK_FLAGS = {
    '8': ['EXPLICIT_BATCH'],
    '10': ['EXPLICIT_BATCH', 'STRONGLY_TYPED'],
    '11': ['STRONGLY_TYPED'],
}
BUILDER_FLAGS = {'8': ['FP16', 'TF32'], '10': ['FP16', 'TF32'], '11': ['TF32']}


def make(version, fail=''):
    """
    Return a module that looks like this TensorRT.

    :param version: '8.6.1', '10.3.0' or '11.4.0'.
    :param fail: text of the error with which every build fails.
    """
    major = version.split('.')[0]

    class Builder:
        """Builds engines."""

        builds = []

        def __init__(self, logger):
            assert logger._constructed
            self._logger = logger

        def create_network(self, flags=0):
            """Return an empty network."""
            kind = 'STRONGLY_TYPED' if major != '8' else 'EXPLICIT_BATCH'
            assert flags == 1 << int(module.NetworkDefinitionCreationFlag[kind])
            return INetworkDefinition()

        def create_builder_config(self):
            """Return the default configuration, in which TF32 is on."""
            config = IBuilderConfig()
            config.set_flag(module.BuilderFlag.TF32)
            if major == '8':
                del config.progress_monitor
            return config

        def create_optimization_profile(self):
            """Return an empty profile."""
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            """Return the engine; None when it fails, the reason goes to the logger."""
            if fail:
                self._logger.log(ILogger.Severity.ERROR, fail)
                return None
            monitor = getattr(config, 'progress_monitor', None)
            if monitor is not None:
                assert monitor._constructed
                monitor.phase_start('Building Engine', None, 2)
                assert monitor.step_complete('Building Engine', 0)
                assert monitor.step_complete('Building Engine', 1)
                monitor.phase_finish('Building Engine')
            shapes = {name: shape for profile in config._profiles for name, shape in profile._shapes.items()}
            missing = [t.name for t in network._tensors if -1 in t.shape and t.name not in shapes]
            if missing:
                self._logger.log(ILogger.Severity.ERROR, f'no profile for {missing}')
                return None
            header = {'version': version, 'shapes': shapes}
            Builder.builds.append({**header, 'flags': sorted(config._flags)})
            return MAGIC + json.dumps(header).encode() + b'\n' + network._model

    class Runtime:
        """Loads engines."""

        def __init__(self, logger):
            assert logger._constructed
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            """Return the engine; None when it is of another version."""
            assert standin_pycuda.depth(), 'no context is current'
            header = json.loads(serialized_engine[len(MAGIC) :].split(b'\n')[0])
            if header['version'] != version:
                self._logger.log(
                    ILogger.Severity.ERROR,
                    f'Version tag does not match. Current Version {version}, Serialized {header["version"]}',
                )
                return None
            model = serialized_engine[len(MAGIC) :].split(b'\n', 1)[1]
            session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
            return ICudaEngine(session, {name: tuple(shape) for name, shape in header['shapes'].items()})

    module = types.ModuleType('tensorrt')
    module.__version__ = version
    module.NetworkDefinitionCreationFlag = enum.IntEnum(
        'NetworkDefinitionCreationFlag', NETWORK_FLAGS[major], start=0
    )
    module.BuilderFlag = enum.Enum('BuilderFlag', BUILDER_FLAGS[major], start=0)
    shared = [
        ILogger,
        ITensor,
        INetworkDefinition,
        ParserError,
        OnnxParser,
        IOptimizationProfile,
        IBuilderConfig,
    ]
    shared += [ICudaEngine, IExecutionContext, DataType, TensorIOMode, MemoryPoolType, Builder, Runtime]
    if major != '8':
        shared.append(IProgressMonitor)
    for item in shared:
        setattr(module, item.__name__, item)
    return module
