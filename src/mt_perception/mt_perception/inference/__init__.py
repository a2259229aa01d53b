"""Engines that run ONNX models under the model contract."""

from mt_perception.inference.contract import ModelFile, ModelMetadata, read_model
from mt_perception.inference.engine import Engine
from mt_perception.inference.factory import create_engine
from mt_perception.inference.input_size import choose_input_size

__all__ = ['Engine', 'ModelFile', 'ModelMetadata', 'choose_input_size', 'create_engine', 'read_model']
