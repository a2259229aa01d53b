"""
Label images with a large teacher: segmentation, depth, and how sure it is.

::

    pseudo_label --teacher big.onnx --dataset coco_stuff --split train --output labels
    pseudo_label --teacher deeplab.tflite --task segmentation --classes cityscapes --dataset images --root
    DIR \
        --output labels
    pseudo_label --teacher midas.pt --task depth --depth-kind inverse_relative --dataset images --root DIR
    --output labels

The teacher is a local file: ONNX under the model contract (it says itself what it does), any other ONNX,
TFLite (by ai-edge-litert) or TorchScript. Every image gets class ids or depth and a confidence, from the
teacher's probabilities and from how far several views of the image agree; what is too weak is left out when
the labels are read (``pseudo_labels`` and ``min_confidence`` of a set). Files are written whole or not at
all, and a run that was stopped goes on with the same command.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from mt_perception.commands import exit_status
from mt_perception.errors import EvaluationError
from mt_perception.writing import write_bytes
from mt_training.data.datasets_file import Datasets, add_datasets_option
from mt_training.data.readers import registry
from mt_training.data.readers.palette import bit_colors
from mt_training.data.readers.pseudo_labels import DEPTH_UNITS_PER_METRE, MANIFEST, label_path
from mt_training.data.readers.sample import take
from mt_training.evaluation.options import parse_size
from mt_training.evaluation.output import OutputFolder
from mt_training.teachers.base import DEPTH_KINDS, PlainSettings
from mt_training.teachers.formats import open_teacher
from mt_training.teachers.views import MAX_VIEWS, label

VERSION = 1
RELATIVE_MEDIAN = 10.0  # what the median of depth without scale is written as, so that 16 bits hold it
MAX_DEPTH = 65535 / DEPTH_UNITS_PER_METRE


def pseudo_label(frames, teacher, output, views=2, source=None, settings=None, progress=True):
    """
    Label a set.

    :param frames: :class:`mt_training.data.readers.sample.FrameSet`.
    :param teacher: see :func:`mt_training.teachers.formats.open_teacher`.
    :param output: folder; see :mod:`mt_training.data.readers.pseudo_labels` for what is in it.
    :param views: 1–4 views of every image.
    :param source: what is kept in the manifest about the images.
    :param settings: what is kept in the manifest about the teacher's input.
    :return: number of images labelled now; those labelled before are not counted.
    :raises EvaluationError: the folder holds labels of another teacher or of other settings.
    """
    folder = OutputFolder(output).path
    manifest = make_manifest(teacher, views, source or {}, settings or {})
    check_manifest(folder, manifest)
    done = 0
    bar = tqdm(range(len(frames)), desc='pseudo labels', unit='image', disable=None if progress else True)
    for index in bar:
        name = frames.name_of(index)
        if Path(name).is_absolute() or '..' in Path(name).parts:
            raise EvaluationError(f"the image name '{name}' leads out of the output folder")
        if all(label_path(folder, task, name).is_file() for task in teacher.tasks):
            continue
        sample = frames[index]
        found = label(teacher, sample.image, sample.camera, views)
        if not done:  # not before the teacher has shown that it can
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + '\n'
            write_bytes(folder / MANIFEST, text.encode())
        for task in teacher.tasks:
            write_labels(folder, task, name, found[task], found[f'{task}_confidence'], teacher.depth_kind)
        done += 1
    return done


def make_manifest(teacher, views, source, settings):
    """Return what ``manifest.json`` says: the teacher, its tasks and classes, how images were shown to it."""
    names = teacher.class_names
    return {
        'version': VERSION,
        'teacher': {'file': Path(teacher.path).name, 'sha256': sha256(teacher.path), **settings},
        'tasks': list(teacher.tasks),
        'class_names': list(names),
        'class_colors': teacher.class_colors or [list(c) for c in bit_colors(len(names))],
        'depth_kind': teacher.depth_kind,
        'depth_units_per_metre': DEPTH_UNITS_PER_METRE,
        'views': views,
        'source': source,
    }


def check_manifest(folder, manifest):
    """Raise an EvaluationError when ``folder`` holds labels made otherwise than ``manifest`` says."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        there = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        there = {}
    wrong = [key for key, value in manifest.items() if there.get(key) != json.loads(json.dumps(value))]
    if wrong:
        raise EvaluationError(
            f"'{folder}' holds labels made otherwise: its {MANIFEST} differs in {', '.join(wrong)}; "
            'name another --output'
        )


def write_labels(folder, task, name, values, confidence, depth_kind):
    """Write the labels of one image; the confidence first, so that labels are never without it."""
    if task == 'depth':
        values, unknown = encode_depth(values, depth_kind)
        confidence = np.where(unknown, 0, confidence)
    bits = np.clip(np.rint(confidence * 255), 0, 255).astype(np.uint8)
    for kind, array in ((f'{task}_confidence', bits), (task, values)):
        path = label_path(folder, kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, cv2.imencode('.png', array)[1].tobytes())


def encode_depth(depth, depth_kind):
    """
    Turn depth into 16-bit units of 1/256 m.

    :param depth: [H,W] float32, NaN = unknown.
    :param depth_kind: other than 'metric' the median becomes ``RELATIVE_MEDIAN``.
    :return: ([H,W] uint16, 0 = unknown or beyond 256 m; [H,W] bool, where that is).
    """
    known = np.isfinite(depth) & (depth > 0)
    if depth_kind != 'metric' and known.any():
        depth = depth * np.float32(RELATIVE_MEDIAN / np.median(depth[known]))
    units = np.rint(np.where(known, np.minimum(depth, 2 * MAX_DEPTH), 0) * DEPTH_UNITS_PER_METRE)
    unknown = ~known | (units > 65535) | (units < 1)
    return np.where(unknown, 0, units).astype(np.uint16), unknown


def sha256(path):
    """Return the hash of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def read_classes(text):
    """
    Return class names for ``--classes``.

    :param text: a data set whose classes are fixed (cityscapes, camvid, ade20k, coco_stuff), or a YAML list.
    :raises EvaluationError: neither.
    """
    if text in registry.ENTRIES:
        function = registry.ENTRIES[text].function
        names = getattr(function, 'class_names', ())
        if text == 'camvid':
            from mt_training.data.readers.camvid import CLASS_NAMES

            names = CLASS_NAMES
        if not names or not isinstance(names, tuple):
            raise EvaluationError(f"the classes of '{text}' depend on its files; write them to a YAML list")
        return names
    try:
        names = yaml.safe_load(Path(text).read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise EvaluationError(
            f"--classes '{text}' is neither a data set nor a YAML list: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(names, list) or not names or len(names) > 255:
        raise EvaluationError(f"--classes '{text}' is not a list of 1–255 names")
    return tuple(str(name) for name in names)


def build_parser():
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog='pseudo_label', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--teacher', metavar='FILE', required=True, help='ONNX, TFLite or TorchScript file')
    parser.add_argument('--output', metavar='OUT', required=True, help='folder for the labels')
    group = parser.add_argument_group('images')
    group.add_argument('--dataset', default='images', help='a name of datasets.yaml or of the registry')
    group.add_argument('--root', metavar='DIR', help='its folder (default: datasets.yaml)')
    group.add_argument('--split', help="default: the data set's own")
    group.add_argument('--frames', metavar='A:B[:STEP]', help='part of it')
    add_datasets_option(group)
    group = parser.add_argument_group('teacher, where it is not under the model contract')
    group.add_argument(
        '--task', choices=('segmentation', 'depth'), help='what it gives; of contract models: only this'
    )
    group.add_argument(
        '--classes', metavar='NAME|FILE', help='a data set such as cityscapes, or a YAML list of names'
    )
    group.add_argument('--depth-kind', choices=DEPTH_KINDS, default='metric', help='default: %(default)s')
    group.add_argument(
        '--input-size', type=parse_size, metavar='WxH', help="default: the model's own, or the image's"
    )
    group.add_argument('--mean', type=float, nargs=3, default=(0.485, 0.456, 0.406), help='of RGB / SCALE')
    group.add_argument('--std', type=float, nargs=3, default=(0.229, 0.224, 0.225), help='of RGB / SCALE')
    group.add_argument('--scale', type=float, default=255.0, help='default: %(default)s')
    group.add_argument(
        '--output-name', metavar='NAME', help='name or number of the output (default: the first)'
    )
    parser.add_argument(
        '--views', type=int, choices=range(1, MAX_VIEWS + 1), default=2,
        help='1: the image; 2: mirrored too; 3, 4: enlarged too (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--threads', type=int, default=0, help='CPU threads of the teacher, 0 = one per core')
    return parser


def run(args):
    """Open teacher and images and label them; return the number of images labelled now."""

    def settings(plain):
        if plain and args.task is None:
            raise EvaluationError(
                f"'{args.teacher}' is not under the model contract: say what it gives with --task"
            )
        if not plain:
            return PlainSettings('depth', input_size=args.input_size)
        return PlainSettings(
            args.task,
            read_classes(args.classes) if args.classes else (),
            args.input_size,
            tuple(args.mean),
            tuple(args.std),
            args.scale,
            args.depth_kind,
            args.output_name,
        )

    teacher = open_teacher(args.teacher, settings, None if args.task is None else (args.task,), args.threads)
    options = {} if args.split is None else {'split': args.split}
    frames = take(Datasets(args.datasets).open_frames(args.dataset, args.root, **options), args.frames)
    source = {'dataset': args.dataset, 'split': args.split}
    kept = {
        'input_size': args.input_size and list(args.input_size),
        'mean': list(args.mean),
        'std': list(args.std),
        'scale': args.scale,
        'depth_kind': args.depth_kind,
        'output': args.output_name,
    }
    done = pseudo_label(frames, teacher, args.output, args.views, source, kept)
    print(
        f'{done} of {len(frames)} images labelled now ({", ".join(teacher.tasks)}), the others before; '
        f'labels in {args.output}'
    )
    return done


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    args = build_parser().parse_args(argv)
    return exit_status('pseudo_label', run, args, interrupted='interrupted; the same command goes on')


if __name__ == '__main__':
    sys.exit(main())
