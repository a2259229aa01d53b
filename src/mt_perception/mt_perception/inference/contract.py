"""
The model contract: what an ONNX file must hold so that this package can run it.

The file carries one JSON value under the key ``mt_model`` of its ``metadata_props``; mt_training writes it
with :meth:`ModelMetadata.to_json`, the run time reads it with :func:`read_model`. The tensors:

==========================  =======================  ====================================================
perception                  type, shape              meaning
==========================  =======================  ====================================================
in ``image``                uint8 [1,H,W,3]          RGB, resized without keeping the aspect ratio
``segmentation``            uint8 [1,H,W]            class id
``segmentation_confidence`` uint8 [1,H,W]            top probability × 255 (optional)
``depth``                   float32 [1,H,W]          metres along the optical axis (see ``depth_focal``)
``keypoints``               float32 [1,K,2]          x, y in network pixels, strongest first
``scores``                  float32 [1,K]            0 for padding
``descriptors``             float32 [1,K,D]          unit length
``global_descriptor``       float32 [1,G]            unit length
==========================  =======================  ====================================================

==========================  =======================  ====================================================
matcher                     type, shape              meaning
==========================  =======================  ====================================================
in ``keypoints0``           float32 [1,N,2]          x, y in pixels (``keypoints1``: [1,M,2], and so on)
in ``descriptors0``         float32 [1,N,D]          unit length
in ``scores0``              float32 [1,N]            0 = padding
in ``size0``                float32 [1,2]            width, height of the image the pixels live in
``matches0``                int32 [1,N]              index into set 1, -1 = no match
``matching_scores0``        float32 [1,N]            0–1
==========================  =======================  ====================================================

Pixels have the centre of the top-left pixel at (0, 0). TensorRT converts uint8 only to and from floating
point: directly behind ``image`` stands a Cast to float, and each uint8 output is a Cast from float.
"""

import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from mt_perception.errors import ModelError
from mt_perception.inference.onnx_file import read_onnx_header

CONTRACT_VERSION = 1
METADATA_KEY = 'mt_model'
KINDS = ('perception', 'matcher')
DEPTH_KINDS = ('metric', 'relative')

TASK_OUTPUTS = {
    'segmentation': ('segmentation',),
    'depth': ('depth',),
    'keypoints': ('keypoints', 'scores', 'descriptors'),
    'global_descriptor': ('global_descriptor',),
}
TASKS = tuple(TASK_OUTPUTS)

# name: (dtype, shape); a string is an axis of any size, the same within one model
PERCEPTION_INPUTS = {'image': ('uint8', (1, 'H', 'W', 3))}
PERCEPTION_OUTPUTS = {
    'segmentation': ('uint8', (1, 'H', 'W')),
    'segmentation_confidence': ('uint8', (1, 'H', 'W')),
    'depth': ('float32', (1, 'H', 'W')),
    'keypoints': ('float32', (1, 'K', 2)),
    'scores': ('float32', (1, 'K')),
    'descriptors': ('float32', (1, 'K', 'D')),
    'global_descriptor': ('float32', (1, 'G')),
}
MATCHER_INPUTS = {
    'keypoints0': ('float32', (1, 'N', 2)),
    'descriptors0': ('float32', (1, 'N', 'D')),
    'scores0': ('float32', (1, 'N')),
    'size0': ('float32', (1, 2)),
    'keypoints1': ('float32', (1, 'M', 2)),
    'descriptors1': ('float32', (1, 'M', 'D')),
    'scores1': ('float32', (1, 'M')),
    'size1': ('float32', (1, 2)),
}
MATCHER_OUTPUTS = {'matches0': ('int32', (1, 'N')), 'matching_scores0': ('float32', (1, 'N'))}


@dataclass(frozen=True)
class ModelMetadata:
    """
    What a model says about itself.

    :param kind: 'perception' or 'matcher'.
    :param architecture: such as 'mtnet-small' or 'lightglue-L3'.
    :param model_id: short name of exactly these weights, such as 'mtnet-small-1a2b3c4d'; descriptors may only
        be compared under the same id.
    :param contract_version: version of this contract.
    :param tasks: which of ``TASKS`` a perception model solves.
    :param input_size: [width, height] in pixels the model was made for; the default of the run time.
    :param input_multiple: width and height must be multiples of it.
    :param class_names: name of each class id.
    :param class_colors: [r, g, b] of each class id, 0–255.
    :param movable_classes: names of classes that move by themselves (car, pedestrian); odometry distrusts
        them.
    :param depth_kind: 'metric', 'relative' or None without depth.
    :param depth_focal: focal length in network pixels for which depth is in metres; for another camera depth
        is multiplied by f / depth_focal. None: depth is in metres whatever the camera.
    :param descriptor_dim: D.
    :param global_descriptor_dim: G.
    :param max_keypoints: K; the run time may keep fewer, the strongest.
    :param matches_model: matcher: model_id of the perception model whose descriptors it matches.
    :param training_data: what it was trained on, a text or a list of texts.
    :param license: terms of the weights.
    :param accuracy: measured numbers, {name: value}.
    :raises ModelError: values that contradict each other or the contract.
    """

    kind: str
    architecture: str
    model_id: str
    contract_version: int = CONTRACT_VERSION
    tasks: list = field(default_factory=list)
    input_size: list = None
    input_multiple: int = 32
    class_names: list = field(default_factory=list)
    class_colors: list = field(default_factory=list)
    movable_classes: list = field(default_factory=list)
    depth_kind: str = None
    depth_focal: float = None
    descriptor_dim: int = 0
    global_descriptor_dim: int = 0
    max_keypoints: int = 0
    matches_model: str = ''
    training_data: object = ''
    license: str = ''
    accuracy: dict = field(default_factory=dict)

    def __post_init__(self):
        """Check everything the run time relies on."""
        if self.contract_version != CONTRACT_VERSION:
            raise ModelError(
                f'model contract version is {self.contract_version}, this mt_perception reads version '
                f'{CONTRACT_VERSION}: export the model again, or use the mt_perception it was made for'
            )
        _require(self.kind in KINDS, f"kind '{self.kind}' is not one of {', '.join(KINDS)}")
        for name in ('architecture', 'model_id'):
            value = getattr(self, name)
            _require(isinstance(value, str) and value, f'{name} is not a text')
        _require(
            _is_int(self.input_multiple) and self.input_multiple > 0,
            'input_multiple is not a positive integer',
        )
        for name in ('tasks', 'class_names', 'class_colors', 'movable_classes'):
            _require(isinstance(getattr(self, name), (list, tuple)), f'{name} is not a list')
        if self.kind == 'perception':
            self._check_perception()
        else:
            _require(
                _is_int(self.descriptor_dim) and self.descriptor_dim > 0,
                'descriptor_dim is not a positive integer',
            )
            _require(
                bool(self.matches_model),
                'a matcher names in matches_model the model whose descriptors it matches',
            )

    def _check_perception(self):
        tasks = self.tasks
        _require(len(tasks) > 0, f'tasks is empty; it is a list out of {", ".join(TASKS)}')
        unknown = [task for task in tasks if task not in TASKS]
        _require(not unknown, f'tasks holds {unknown}; known are {", ".join(TASKS)}')
        size = self.input_size
        _require(
            isinstance(size, (list, tuple)) and len(size) == 2 and all(_is_int(v) and v > 0 for v in size),
            'input_size is not [width, height]',
        )
        _require(
            all(v % self.input_multiple == 0 for v in size),
            f'input_size {list(size)} is not a multiple of input_multiple {self.input_multiple}',
        )
        if 'segmentation' in tasks:
            _require(0 < len(self.class_names) <= 255, 'class_names has no names, or more than 255')
            _require(
                len(self.class_colors) == len(self.class_names)
                and all(
                    len(c) == 3 and all(_is_int(v) and 0 <= v <= 255 for v in c) for c in self.class_colors
                ),
                'class_colors is not one [r, g, b] of 0–255 for each class name',
            )
            unknown = [name for name in self.movable_classes if name not in self.class_names]
            _require(not unknown, f'movable_classes holds {unknown}, which class_names does not')
        if 'depth' in tasks:
            _require(self.depth_kind in DEPTH_KINDS, f'depth_kind is not one of {", ".join(DEPTH_KINDS)}')
            _require(
                self.depth_focal is None or (_is_number(self.depth_focal) and self.depth_focal > 0),
                'depth_focal is neither null nor a positive number of pixels',
            )
        if 'keypoints' in tasks:
            for name in ('descriptor_dim', 'max_keypoints'):
                value = getattr(self, name)
                _require(_is_int(value) and value > 0, f'{name} is not a positive integer')
        if 'global_descriptor' in tasks:
            value = self.global_descriptor_dim
            _require(_is_int(value) and value > 0, 'global_descriptor_dim is not a positive integer')

    @classmethod
    def from_json(cls, text):
        """
        Read the JSON value under ``mt_model``.

        Fields this version does not know are ignored: what breaks readers raises ``contract_version``.

        :raises ModelError: not JSON, a field is missing, or its value breaks the contract.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ModelError(f"metadata '{METADATA_KEY}' is not JSON: {error}") from None
        _require(isinstance(values, dict), 'it is not a JSON object')
        _require('contract_version' in values, 'contract_version is missing')
        known = {f.name: f for f in fields(cls)}
        required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
        if values['contract_version'] == CONTRACT_VERSION:
            missing = [name for name in required if name not in values]
            _require(not missing, f'{", ".join(missing)} is missing')
        else:  # another version may lack anything; its number is the message
            values = {**dict.fromkeys(required, '?'), **values}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_json(self):
        """Return the JSON value that belongs under ``mt_model`` in the ONNX file."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def movable_class_ids(self):
        """Ids of ``movable_classes``."""
        return [self.class_names.index(name) for name in self.movable_classes]

    @property
    def color_table(self):
        """[256,3] uint8 RGB of each class id; ids without a class are black."""
        table = np.zeros((256, 3), np.uint8)
        if len(self.class_colors):
            table[: len(self.class_colors)] = self.class_colors
        return table


@dataclass(frozen=True)
class ModelFile:
    """
    A checked model file.

    :param path: where it is.
    :param metadata: :class:`ModelMetadata`.
    :param inputs: {name: :class:`~mt_perception.inference.onnx_file.TensorInfo`}.
    :param outputs: the same.
    """

    path: Path
    metadata: ModelMetadata
    inputs: dict
    outputs: dict

    @property
    def fixed_size(self):
        """(width, height) when the graph takes images of one size only, else None."""
        height, width = self.inputs['image'].shape[1:3]
        return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def read_model(path, kind=None):
    """
    Read and check a model file.

    :param path: ONNX file.
    :param kind: 'perception' or 'matcher' when only that will do.
    :return: :class:`ModelFile`.
    :raises ModelError: missing file, not ONNX, no or another contract, tensors that break it, another kind.
    """
    path = Path(path)
    header = read_onnx_header(path)
    if METADATA_KEY not in header.metadata:
        raise ModelError(
            f"model '{path}' has no '{METADATA_KEY}' metadata: it was not exported by mt_training "
            "('./mt run mt_training export' adds it)"
        )
    try:
        metadata = ModelMetadata.from_json(header.metadata[METADATA_KEY])
        if kind is not None and metadata.kind != kind:
            raise ModelError(
                f'it is a {metadata.kind} model ({metadata.architecture}) where a {kind} model is needed'
            )
        _check_tensors(metadata, header)
    except ModelError as error:
        raise ModelError(f"model '{path}': {error}") from None
    model = ModelFile(path, metadata, header.inputs, header.outputs)
    if metadata.kind == 'perception' and model.fixed_size not in (None, tuple(metadata.input_size)):
        raise ModelError(
            f"model '{path}': its graph takes images of {list(model.fixed_size)} pixels, its metadata says "
            f'input_size {list(metadata.input_size)}'
        )
    return model


def _check_tensors(metadata, header):
    """Compare the graph's inputs and outputs with the contract."""
    if metadata.kind == 'perception':
        needed = [name for task in metadata.tasks for name in TASK_OUTPUTS[task]]
        inputs, outputs = PERCEPTION_INPUTS, PERCEPTION_OUTPUTS
        axes = {
            'K': metadata.max_keypoints,
            'D': metadata.descriptor_dim,
            'G': metadata.global_descriptor_dim,
        }
    else:
        needed = list(MATCHER_OUTPUTS)
        inputs, outputs = MATCHER_INPUTS, MATCHER_OUTPUTS
        axes = {'D': metadata.descriptor_dim}
    extra = [name for name in header.inputs if name not in inputs]
    _require(not extra, f'it has an input {extra[:1]} that the contract does not know')
    for found, expected, names, word in (
        (header.inputs, inputs, list(inputs), 'input'),
        (header.outputs, outputs, [n for n in outputs if n in needed or n in header.outputs], 'output'),
    ):
        for name in names:
            dtype, shape = expected[name]
            text = f"{word} '{name}' {dtype} [{', '.join(map(str, shape))}]"
            _require(name in found, f'{text} is missing')
            fits = found[name].dtype == dtype and len(found[name].shape) == len(shape)
            for size, wanted in zip(found[name].shape, shape, strict=False):
                wanted = axes.get(wanted, wanted)
                fits = fits and (not isinstance(size, int) or not isinstance(wanted, int) or size == wanted)
            _require(fits, f'{text} expected, with {axes}, but the graph has {found[name]}')


def _require(condition, message):
    """Raise ModelError with ``message`` about the metadata unless ``condition``."""
    if not condition:
        raise ModelError(f'it breaks the model contract: {message}')


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
