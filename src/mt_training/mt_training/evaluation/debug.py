"""``--debug N``: what the network says about N images of an evaluation's data set, as pictures."""

import numpy as np

from mt_training.data.datasets_file import Datasets
from mt_training.evaluation import depth, options, segmentation
from mt_training.evaluation.output import OutputFolder
from mt_training.predict import draw

FOLDER = 'debug'


def add_option(parser):
    """Add ``--debug``."""
    parser.add_argument(
        '--debug', type=int, nargs='?', const=8, default=0, metavar='N',
        help=f'also write pictures of all tasks for N images, to OUT/{FOLDER} (N: %(const)s)',
    )  # fmt: skip


def open_images(args):
    """Return the images of an evaluation as a set of samples, whatever the task."""
    if args.task == 'segmentation':
        return segmentation.open_labelled(args)
    if args.task == 'depth':
        return depth.open_depth(args)[0]
    chosen = {'split': args.split} if getattr(args, 'split', None) else {}
    return Datasets(args.datasets).open_frames(args.dataset, args.root, **chosen)


def write(args):
    """
    Write the pictures.

    :param args: of an evaluation; ``args.debug`` images, evenly spread over its set.
    :return: names of the files in OUT/debug.
    :raises MtError: as of the evaluation itself.
    """
    frames = open_images(args)
    output = OutputFolder(OutputFolder(args.output).path / FOLDER)
    written = []
    pipeline = options.open_pipeline(args, None)
    with pipeline.engine:
        for index in np.unique(np.linspace(0, len(frames) - 1, args.debug).round().astype(int)):
            sample = frames[int(index)]
            perception = pipeline.process(sample.image, getattr(sample, 'camera', None))
            for task, picture in draw(sample.image, perception, pipeline.metadata).items():
                name = f'{index:06d}_{task}.png'
                output.write_image(name, picture)
                written.append(name)
    return written
