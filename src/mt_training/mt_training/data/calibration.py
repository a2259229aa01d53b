"""Some images of a set, at the size a network sees them: to calibrate on, to compare on, to time with."""

import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError
from mt_perception.inference.input_size import choose_input_size
from mt_perception.perception.images import resize
from mt_training.data.datasets_file import Datasets, add_datasets_option
from mt_training.data.readers.sample import take
from mt_training.half import scene


def add_image_options(parser, count, what='calibrate'):
    """
    Add ``--images``, ``--dataset``, ``--root``, ``--split``, ``--datasets``, ``--frames`` and ``--count``.

    :param count: default of ``--count``.
    :param what: what they are for.
    """
    group = parser.add_argument_group(f'images to {what} on')
    group.add_argument('--images', metavar='DIR', help='folder of images (any, no labels needed)')
    group.add_argument('--dataset', metavar='NAME', help='or: a name of datasets.yaml or of the registry')
    group.add_argument('--root', metavar='DIR', help='its folder (default: datasets.yaml)')
    group.add_argument('--split', help="default: the data set's own")
    group.add_argument('--frames', metavar='A:B[:STEP]', help='part of it')
    add_datasets_option(group)
    group.add_argument(
        '--count', type=int, default=count, metavar='N', help='of them, evenly spread (default: %(default)s)'
    )


def open_frames(args):
    """
    Open the set of the options.

    :return: :class:`mt_training.data.readers.sample.FrameSet`, or None where the options name no images.
    :raises EvaluationError: both kinds of options, a count below 1, or a set that is not there.
    """
    if args.count < 1:
        raise EvaluationError(f'--count {args.count} is not at least 1')
    if args.images and args.dataset:
        raise EvaluationError('--images and --dataset both say which images; give one of them')
    if not (args.images or args.dataset):
        return None
    name, root = ('images', args.images) if args.images else (args.dataset, args.root)
    options = {} if args.split is None else {'split': args.split}
    return take(Datasets(args.datasets).open_frames(name, root, **options), args.frames)


def network_images(frames, model, count, held_out=0, progress='reading images'):
    """
    Read images, evenly spread over a set, in the size the network sees them at run time.

    :param frames: :class:`mt_training.data.readers.sample.FrameSet`; None: made-up scenes.
    :param model: :class:`mt_perception.inference.contract.ModelFile`.
    :param count: how many at most.
    :param held_out: how many others besides, lying between them.
    :param progress: text beside the bar.
    :return: (list of [1,H,W,3] uint8, list of ``held_out`` others); with too few images these are the same.
    """
    if frames is None:
        size = tuple(model.metadata.input_size)
        made = [scene(*size, seed) for seed in range(count + held_out)]
        return made[:count], made[count:]
    total = min(len(frames), count + held_out)
    chosen = np.linspace(0, len(frames) - 1, total).round().astype(int)
    found = []
    for index in tqdm(chosen, desc=progress, unit='image', disable=None):
        image = frames[int(index)].image
        size = choose_input_size(model, (image.shape[1], image.shape[0]))
        found.append(np.ascontiguousarray(resize(image, size))[None])
    if not held_out:
        return found, []
    if total < count + held_out:
        return found[:count], found[-held_out:]
    others = set(np.linspace(0, total - 1, held_out).round().astype(int).tolist())
    return [x for i, x in enumerate(found) if i not in others], [found[i] for i in sorted(others)]
