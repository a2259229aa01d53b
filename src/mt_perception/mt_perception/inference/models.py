"""The models shipped with the package."""

from pathlib import Path

from mt_perception.errors import ModelError

MODELS = Path(__file__).resolve().parent.parent / 'models'


def default_model():
    """Return the path of the perception model shipped with the package."""
    return _shipped('mtnet_small.onnx')


def default_matcher():
    """Return the path of the matcher shipped with the package; it matches the default model's descriptors."""
    return _shipped('lightglue.onnx')


def _shipped(name):
    path = MODELS / name
    if not path.is_file():
        raise ModelError(
            f"model '{path}' is missing from this installation: reinstall mt_perception or name a model file"
        )
    return path
