"""Teachers by file format: ONNX under the model contract, plain ONNX, TFLite, TorchScript."""

from pathlib import Path

import numpy as np

from mt_perception.errors import ModelError
from mt_perception.inference.contract import METADATA_KEY
from mt_perception.inference.onnx_file import read_onnx_header
from mt_training.teachers.base import PlainTeacher, Prediction

SUFFIXES = ('.onnx', '.tflite', '.pt', '.pth', '.ts', '.torchscript')


class ContractTeacher:
    """
    A model under the model contract: it says itself what it does.

    :param path: ONNX file.
    :param tasks: which of segmentation and depth are wanted; None = those it has.
    :param input_size: (width, height), None = as at run time.
    :param threads: of ONNX Runtime, 0 = one per core.
    """

    def __init__(self, path, tasks=None, input_size=None, threads=0):
        from mt_perception.perception import PerceptionPipeline

        self.path = Path(path)
        self.pipeline = PerceptionPipeline(str(path), 'onnxruntime', input_size or (0, 0), threads=threads)
        has = [task for task in ('segmentation', 'depth') if task in self.pipeline.tasks]
        self.tasks = tuple(has if tasks is None else tasks)
        missing = [task for task in self.tasks if task not in has]
        if missing or not self.tasks:
            raise ModelError(
                f"model '{path}' has no task {', '.join(missing) or 'segmentation or depth'}; "
                f'it has {", ".join(self.pipeline.tasks)}'
            )
        metadata = self.pipeline.metadata
        segments = 'segmentation' in self.tasks
        self.class_names = tuple(metadata.class_names) if segments else ()
        self.class_colors = [list(c) for c in metadata.class_colors] if segments else None
        self.depth_kind = metadata.depth_kind if 'depth' in self.tasks else None

    def predict(self, image, camera=None):
        """Label one image; with its camera, metric depth is in metres of that camera."""
        found = self.pipeline.process(image, camera=camera, tasks=self.tasks)
        confidence = found.segmentation_confidence
        return Prediction(
            ids=found.segmentation,
            confidence=None if confidence is None else confidence.astype(np.float32) / 255,
            depth=None if found.depth is None else np.where(found.depth > 0, found.depth, np.nan),
        )


class OnnxTeacher(PlainTeacher):
    """Any other ONNX file."""

    def __init__(self, path, settings, threads=0):
        import onnxruntime

        super().__init__(path, settings)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # ONNX Runtime's own classes differ from version to version
            raise ModelError(f"'{path}' cannot be opened: {str(error).splitlines()[0]}") from None
        first = self.session.get_inputs()[0]
        self.shape = tuple(v if isinstance(v, int) else -1 for v in first.shape)
        self.dtype = {'tensor(uint8)': np.uint8, 'tensor(int8)': np.int8, 'tensor(float16)': np.float16}.get(
            first.type, np.float32
        )
        check_input(path, self.shape)
        self.input = first.name
        self.output = choose_output(path, [o.name for o in self.session.get_outputs()], settings.output)

    def _run(self, array):
        return self.session.run([self.output], {self.input: array})[0]


class TfliteTeacher(PlainTeacher):
    """A TFLite file, run by ai-edge-litert; 8-bit outputs are brought back to numbers."""

    def __init__(self, path, settings, threads=0):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ModelError(
                f"'{path}' is run by ai-edge-litert, which is not installed: pip install ai-edge-litert"
            ) from None
        super().__init__(path, settings)
        try:
            self.interpreter = Interpreter(str(path), num_threads=threads or None)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"'{path}' cannot be opened: {str(error).splitlines()[0]}") from None
        entry = self.interpreter.get_input_details()[0]
        self.index, self.dtype = entry['index'], np.dtype(entry['dtype']).type
        self.shape = tuple(int(v) for v in entry['shape'])
        check_input(path, self.shape)
        outputs = {o['name']: o for o in self.interpreter.get_output_details()}
        self.entry = outputs[choose_output(path, list(outputs), settings.output)]

    def _run(self, array):
        self.interpreter.set_tensor(self.index, array)
        self.interpreter.invoke()
        out = self.interpreter.get_tensor(self.entry['index'])
        scale, zero = self.entry['quantization']
        if scale and not np.issubdtype(out.dtype, np.floating):
            return (out.astype(np.float32) - zero) * np.float32(scale)
        return out


class TorchScriptTeacher(PlainTeacher):
    """A TorchScript file; float32 images [1,3,H,W] in."""

    def __init__(self, path, settings, threads=0):
        try:
            import torch
        except ImportError:
            raise ModelError(
                f"'{path}' is run by PyTorch, which is not installed: ./mt build --training"
            ) from None
        super().__init__(path, settings)
        self.torch = torch
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if threads:
            torch.set_num_threads(threads)
        try:
            self.module = torch.jit.load(str(path), map_location=self.device).eval()
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"'{path}' is no TorchScript file: {str(error).strip().splitlines()[0]}; weights alone "
                'will not '
                'do, save the model with torch.jit.trace or torch.jit.script'
            ) from None

    def _run(self, array):
        try:
            with self.torch.inference_mode():
                out = self.module(self.torch.from_numpy(array).to(self.device))
        except RuntimeError as error:
            raise ModelError(f"'{self.path}' fails on an image: {str(error).splitlines()[-1]}") from None
        if isinstance(out, dict):
            out = out[choose_output(self.path, list(out), self.settings.output)]
        elif isinstance(out, (tuple, list)):
            numbers = [str(i) for i in range(len(out))]
            out = out[int(choose_output(self.path, numbers, self.settings.output))]
        return out.float().cpu().numpy() if out.is_floating_point() else out.cpu().numpy()


def check_input(path, shape):
    """Raise a ModelError unless a model takes one image of three channels."""
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ModelError(f"'{path}' takes {list(shape)}, not one RGB image [1,3,H,W] or [1,H,W,3]")


def choose_output(path, names, wanted):
    """Return the name of the wanted output (a name or a number), the first without a wish."""
    if wanted is None:
        return names[0]
    if wanted in names:
        return wanted
    if str(wanted).isdigit() and int(wanted) < len(names):
        return names[int(wanted)]
    raise ModelError(f"'{path}' has no output '{wanted}'; it has {', '.join(names)}")


def is_contract_model(path):
    """Tell whether an ONNX file says what it is, as mt_training's exports do."""
    return METADATA_KEY in read_onnx_header(path).metadata


def open_teacher(path, settings=None, tasks=None, threads=0):
    """
    Open a teacher.

    :param path: ONNX, TFLite or TorchScript file.
    :param settings: function that returns :class:`PlainSettings`; called for models that need them.
    :param tasks: tasks wanted of a model under the contract.
    :return: object with tasks, class_names, class_colors, depth_kind and ``predict(image, camera)``.
    :raises ModelError: no such file, another format, or one that is damaged.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no teacher at '{path}'")
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"teacher '{path}' is none of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == '.onnx':
        if is_contract_model(path):
            return ContractTeacher(path, tasks, settings(False).input_size, threads)
        return OnnxTeacher(path, settings(True), threads)
    if path.suffix.lower() == '.tflite':
        return TfliteTeacher(path, settings(True), threads)
    return TorchScriptTeacher(path, settings(True), threads)
