"""Command-line options the evaluations share, and what they turn into."""

import argparse
import hashlib
import platform

import cv2
import numpy as np
import yaml

from mt_perception.errors import EvaluationError
from mt_perception.inference.factory import ENGINES, PRECISIONS
from mt_perception.perception import PerceptionPipeline
from mt_training.data.datasets_file import Datasets, add_datasets_option
from mt_training.data.readers import registry
from mt_training.data.readers.sample import take


def add_model_options(parser):
    """Add ``--model`` and how it is run."""
    group = parser.add_argument_group('model')
    group.add_argument(
        '--model', metavar='M.onnx', help='model under the model contract; default: the shipped one'
    )
    group.add_argument(
        '--engine', choices=ENGINES, default='auto', help='what runs it (default: %(default)s)'
    )
    group.add_argument(
        '--precision', choices=PRECISIONS, default='fp16', help='TensorRT only (default: %(default)s)'
    )
    group.add_argument(
        '--input-size',
        type=parse_size,
        default=(0, 0),
        metavar='WxH',
        help="network input; default: as at run time, from the image's aspect ratio and the model's own size",
    )
    group.add_argument('--threads', type=int, default=0, help='CPU threads of ONNX Runtime, 0 = one per core')


def add_dataset_options(parser, names, frames=True):
    """
    Add ``--dataset``, ``--root``, ``--datasets``, ``--option`` and ``--frames``.

    :param names: of the registry's data sets that suit; a name of the user's ``datasets.yaml`` will do too.
    :param frames: add ``--frames``.
    """
    parser.add_argument(
        '--dataset',
        required=True,
        metavar='NAME',
        help=f'one of {", ".join(dict.fromkeys(names))}, or a name in datasets.yaml',
    )
    parser.add_argument('--root', metavar='DIR', help='its folder (default: where datasets.yaml says)')
    add_datasets_option(parser)
    parser.add_argument(
        '--option',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help="an option of the data set's reader, such as depth=disparity; may be repeated",
    )
    if frames:
        parser.add_argument('--frames', metavar='A:B[:STEP]', help='part of it')


# what is evaluated unless --split or datasets.yaml says otherwise; of the others 'val' where they have splits
EVALUATED_SPLITS = {
    'nyuv2': 'test',
    'seven_scenes': 'test',
    'pittsburgh': 'test',
    'tokyo247': 'test',
    'tum_rgbd': 'all',
    'images': 'all',
    'sequence': 'all',
    'rendered': None,
}


def open_dataset(args, kind='frames', **extra):
    """
    Open the data set of the options; ``args.split`` says afterwards which part of it.

    :param kind: what it has to be: 'frames', 'planar' or 'places'.
    :param extra: options of the reader, left out where it has none of that name.
    :return: see :func:`mt_training.data.readers.registry.open_dataset`; of frames, the part ``--frames``.
    :raises EvaluationError: an unknown name, one of another kind, or files that are missing.
    """
    datasets = Datasets(args.datasets)
    source = datasets.source(args.dataset, args.root)
    entry = registry.entry_of(source.dataset)
    if entry.kind != kind:
        raise EvaluationError(
            f"data set '{args.dataset}' does not suit; here are {', '.join(registry.names(kind))}"
        )
    if 'split' in entry.options:
        default = source.options.get('split', EVALUATED_SPLITS.get(source.dataset, 'val'))
        args.split = getattr(args, 'split', None) or default
        extra = {'split': args.split, **extra}
    given = {}
    for text in getattr(args, 'option', []):
        key, equals, value = text.partition('=')
        if not equals:
            raise EvaluationError(f"--option '{text}' is not KEY=VALUE")
        given[key] = yaml.safe_load(value)
    for key, value in extra.items():
        if key in entry.options and value is not None:
            given.setdefault(key, value)
    found = datasets.open(args.dataset, args.root, **given)
    return take(found, args.frames) if kind == 'frames' else found


def add_output_option(parser, task):
    """Add ``--output``."""
    parser.add_argument(
        '--output',
        metavar='OUT',
        default=f'out/evaluate_{task}',
        help='folder for metrics.json and pictures (default: %(default)s)',
    )


def parse_size(text):
    """Read '640x480' as (640, 480)."""
    width, x, height = text.lower().partition('x')
    if not (x and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size like 640x480")
    return int(width), int(height)


def parse_range(text):
    """Read 'A:B' or 'A:B:STEP' (Python's slice notation, each part may be empty) as a slice."""
    parts = text.split(':')
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1):
        raise argparse.ArgumentTypeError(f"'{text}' is not a range like 320:400")
    return slice(*numbers)


def open_pipeline(args, task, max_keypoints=512, min_score=0.0):
    """
    Start the model of ``--model`` and check that it has ``task`` (None: any will do).

    :return: :class:`mt_perception.perception.PerceptionPipeline`.
    :raises EvaluationError: the model does not have the task.
    """
    pipeline = PerceptionPipeline(
        args.model,
        args.engine,
        args.input_size,
        max_keypoints=max_keypoints,
        min_score=min_score,
        precision=args.precision,
        threads=args.threads,
    )
    if task is not None and task not in pipeline.tasks:
        path = pipeline.engine.model.path
        pipeline.close()
        raise EvaluationError(f"model '{path}' has no task {task}; it has {', '.join(pipeline.tasks)}")
    for warning in pipeline.warnings:
        print(f'note: {warning}')
    return pipeline


def describe_engine(engine):
    """What ran, for ``metrics.json``: file, hash, id and engine."""
    path = engine.model.path
    return {
        'file': path.name,
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'model_id': engine.metadata.model_id,
        'architecture': engine.metadata.architecture,
        'engine': engine.name,
    }


def describe_pipeline(pipeline, image_size):
    """:func:`describe_engine` and the input size for images of ``image_size``."""
    return {**describe_engine(pipeline.engine), 'input_size': list(pipeline.network_size(image_size))}


def describe_machine():
    """Versions and processor that numbers and times may depend on."""
    return {
        'machine': platform.machine(),
        'processor': _processor(),
        'python': platform.python_version(),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
    }


def _processor():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            names = [line.split(':', 1)[1].strip() for line in file if line.startswith('model name')]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
