"""
The errors a user can cause.

Every command catches :class:`MtError`, prints its one sentence and exits with status 1; a node
reports it in its log and its diagnostics. Anything else is a bug and keeps its traceback.
"""


class MtError(Exception):
    """Base of all errors caused by input: one sentence that says what, where and what to do."""


class ModelError(MtError):
    """A model file that is missing, unreadable or breaks the model contract."""


class EngineError(MtError):
    """An engine (ONNX Runtime, TensorRT) that is not installed or cannot run this model."""


class SequenceError(MtError):
    """A sequence folder, bag or video that is missing, incomplete or damaged."""


class ImageError(MtError):
    """An image whose encoding, size or buffer does not fit what it claims to be."""


class CameraError(MtError):
    """Calibration that is missing or unusable (no focal length, unknown distortion model)."""


class EvaluationError(MtError):
    """An evaluation that cannot be carried out on the data given."""
