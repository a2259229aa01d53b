"""The contract of an engine: it runs one model file."""

from abc import ABC, abstractmethod


class Engine(ABC):
    """
    Runs one model.

    Every engine gives the same arrays for the same file (up to the precision it computes with). ``run`` may
    be called from any thread. An engine is a context manager that closes itself.

    :ivar model: :class:`mt_perception.inference.contract.ModelFile` that runs.
    :ivar name: what runs where, such as 'onnxruntime CPUExecutionProvider' or 'tensorrt 10.3 NVIDIA Orin'.
    :ivar input_size: (width, height) of the images a perception model is run with; None for a matcher.
    :ivar any_size: True when ``run`` also takes images of other sizes (multiples of ``input_multiple``).
    :ivar padded_keypoints: number of keypoints a matcher's inputs must have, None when any number will do.
    :ivar warnings: sentences a user should read, such as a fall-back to the CPU.
    """

    def __init__(self, model, name, input_size=None, any_size=False, padded_keypoints=None):
        self.model = model
        self.name = name
        self.input_size = input_size
        self.any_size = any_size
        self.padded_keypoints = padded_keypoints
        self.warnings = []

    @property
    def metadata(self):
        """:class:`mt_perception.inference.contract.ModelMetadata` of the model."""
        return self.model.metadata

    @abstractmethod
    def run(self, inputs, outputs=None):
        """
        Run the model once.

        :param inputs: {name: array} of all inputs, as the model contract describes them.
        :param outputs: names of the outputs wanted, None = all; where the engine can, it does not compute the
            others.
        :return: {name: array}; the arrays belong to the caller.
        :raises EngineError: the engine failed.
        """

    @abstractmethod
    def close(self):
        """Free what the engine holds; it cannot run afterwards."""

    def __enter__(self):
        """Return the engine."""
        return self

    def __exit__(self, *_):
        """Close the engine."""
        self.close()
