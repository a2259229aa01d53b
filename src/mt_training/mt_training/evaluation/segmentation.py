"""
Semantic segmentation: IoU of every class, mIoU and pixel accuracy.

The network's class ids are enlarged to the size of the labels (nearest pixel) and counted in one confusion
matrix over the whole split; unlabelled pixels do not count; mIoU is the mean over the classes that the labels
have. Classes of the model and of the data set go together by name. Definitions:
mt_training.metrics.segmentation.
"""

import numpy as np
import yaml
from tqdm import tqdm

from mt_perception.errors import EvaluationError
from mt_training.data.readers import registry
from mt_training.data.readers.sequence_frames import SequenceFrames
from mt_training.evaluation import options
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures import segmentation as pictures
from mt_training.evaluation.tables import format_table
from mt_training.metrics import segmentation as metrics

NO_CLASS = 254  # predicted class that the data set does not have: never right
SHOWN_IMAGES = 3
DEFINITION = (
    'one confusion matrix over all images, unlabelled pixels dropped, IoU = TP / (TP + FP + FN), mean over '
    'the classes with labels; class ids enlarged to the labels by nearest pixel'
)


def add_arguments(parser):
    """Declare the options of ``evaluate segmentation``."""
    options.add_dataset_options(parser, registry.names('frames', 'segmentation') + ['sequence'])
    parser.add_argument('--split', help='part of the data set (default: val, of some test)')
    parser.add_argument(
        '--class-map',
        metavar='MAP.yaml',
        help='{class of the model: class of the data set} where the names differ',
    )
    options.add_model_options(parser)
    options.add_output_option(parser, 'segmentation')


def run(args):
    """
    Evaluate and write the results.

    :return: the content of ``metrics.json``.
    :raises MtError: data, model or output that cannot be used.
    """
    dataset = open_labelled(args)
    output = OutputFolder(args.output)
    pipeline = options.open_pipeline(args, 'segmentation')
    with pipeline.engine:
        lookup, absent = class_lookup(
            pipeline.metadata.class_names, dataset.class_names, read_class_map(args.class_map)
        )
        confusion, per_image, image_size = evaluate(dataset, pipeline, lookup)
        if not confusion.sum():
            raise EvaluationError(f"'{args.root}' has no labelled pixel of the classes of {args.dataset}")
        iou = metrics.iou_per_class(confusion)
        result = {
            'task': 'segmentation',
            'miou': metrics.mean_iou(confusion),
            'iou': dict(zip(dataset.class_names, iou)),
            'pixel_accuracy': metrics.pixel_accuracy(confusion),
            'class_accuracy': dict(zip(dataset.class_names, metrics.class_accuracy(confusion))),
            'images': len(dataset),
            'classes_averaged': [n for n, v in zip(dataset.class_names, iou) if np.isfinite(v)],
            'classes_not_in_model': absent,
            'confusion': confusion,
            'dataset': {'name': args.dataset, 'root': args.root, 'split': args.split, 'frames': args.frames},
            'weights': options.describe_pipeline(pipeline, image_size),
            'machine': options.describe_machine(),
            'definition': DEFINITION,
        }
        write_pictures(output, dataset, pipeline, lookup, confusion, per_image)
    output.write_csv('images.csv', per_image)
    output.write_metrics(result)
    rows = [
        [name, 100 * value, 100 * result['class_accuracy'][name]] for name, value in result['iou'].items()
    ]
    print(format_table(['class', 'IoU %', 'recall %'], rows))
    print(
        f'mIoU {100 * result["miou"]:.2f} %   pixel accuracy {100 * result["pixel_accuracy"]:.2f} %   '
        f'{result["images"]} images   results in {output.path}'
    )
    return result


def open_labelled(args):
    """Open the data set of the options as a :class:`FrameSet` with class ids."""
    if args.dataset == 'sequence':
        if args.root is None:
            raise EvaluationError('--dataset sequence needs --root: a folder, or such as rendered:street:7')
        return SequenceFrames(args.root, args.frames, 'labels')
    dataset = options.open_dataset(args)
    if 'segmentation' not in dataset.provides:
        raise EvaluationError(f"data set '{args.dataset}' has no class labels here")
    return dataset


def evaluate(dataset, pipeline, lookup):
    """
    Run the model over a data set.

    :param lookup: [256] uint8 of :func:`class_lookup`.
    :return: (confusion matrix [C, C+1], list of one row per image, (width, height) of the last image).
    """
    classes = len(dataset.class_names)
    total = np.zeros((classes, classes + 1), np.int64)
    per_image = []
    for index in tqdm(range(len(dataset)), desc='segmentation', unit='image', disable=None):
        sample = dataset[index]
        prediction, milliseconds = predict(pipeline, sample.image, sample.labels.shape, lookup)
        confusion = metrics.confusion_matrix(sample.labels, prediction, classes)
        total += confusion
        per_image.append(
            {
                'image': sample.name,
                'miou': metrics.mean_iou(confusion),
                'pixel_accuracy': metrics.pixel_accuracy(confusion),
                'milliseconds': milliseconds,
            }
        )
    return total, per_image, (sample.image.shape[1], sample.image.shape[0])


def predict(pipeline, image, shape, lookup):
    """Return class ids of the data set at ``shape`` (height, width) and the milliseconds it took."""
    perception = pipeline.process(image, tasks=('segmentation',))
    ids = enlarge_nearest(lookup[perception.segmentation], shape)
    return ids, sum(perception.timings_ms.values())


def enlarge_nearest(ids, shape):
    """
    Resize class ids by the nearest pixel, pixel areas kept: x ↦ ⌊(x + ½) w / W⌋.

    :param ids: [h,w].
    :param shape: (H, W).
    :return: [H,W].
    """
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.intp) for n, m in zip(shape, ids.shape))
    return ids[rows[:, None], columns]


def class_lookup(model_classes, dataset_classes, renamed=None):
    """
    Translate class ids of the model to those of the data set by name.

    :param renamed: {name in the model: name in the data set} before names are compared.
    :return: ([256] uint8 with ``NO_CLASS`` where there is none, names of the data set that the model lacks).
    :raises EvaluationError: no name in common, or ``renamed`` has a name that is not there.
    """
    renamed = renamed or {}
    for there, here in renamed.items():
        for name, names, what in ((there, model_classes, 'model'), (here, dataset_classes, 'data set')):
            if name not in names:
                raise EvaluationError(
                    f"the class map says '{there}: {here}', but the {what} has no class '{name}'; "
                    f'it has {", ".join(names)}'
                )
    ids = {name.lower(): index for index, name in enumerate(dataset_classes)}
    lookup = np.full(256, NO_CLASS, np.uint8)
    for index, name in enumerate(model_classes):
        lookup[index] = ids.get(renamed.get(name, name).lower(), NO_CLASS)
    absent = [name for index, name in enumerate(dataset_classes) if index not in lookup]
    if len(absent) == len(dataset_classes):
        raise EvaluationError(
            f'the model has none of the classes {", ".join(dataset_classes)}; it has '
            f'{", ".join(model_classes)}: say which is which with --class-map'
        )
    return lookup, absent


def read_class_map(path):
    """Read ``--class-map``, None = none; EvaluationError when it is not a YAML mapping of names."""
    if path is None:
        return None
    try:
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise EvaluationError(f"class map '{path}' cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for pair in content.items() for v in pair):
        raise EvaluationError(f"class map '{path}' is not a mapping of names to names")
    return content


def write_pictures(output, dataset, pipeline, lookup, confusion, per_image):
    """Draw the best, typical and worst images, the confusion matrix and the classes."""
    order = np.argsort([-row['miou'] if np.isfinite(row['miou']) else 0 for row in per_image], kind='stable')
    middle = max((len(order) - SHOWN_IMAGES) // 2, 0)
    for name, chosen in (
        ('best', order[:SHOWN_IMAGES]),
        ('typical', order[middle : middle + SHOWN_IMAGES]),
        ('worst', order[::-1][:SHOWN_IMAGES]),
    ):
        shown = []
        for index in chosen:
            sample = dataset[int(index)]
            shown.append(
                (
                    sample,
                    predict(pipeline, sample.image, sample.labels.shape, lookup)[0],
                    per_image[index]['miou'],
                )
            )
        output.write_figure(
            f'{name}.png', pictures.overlays(shown, dataset.class_names, dataset.class_colors)
        )
    output.write_figure('confusion_matrix.png', pictures.confusion(confusion, dataset.class_names))
    output.write_figure(
        'iou_per_class.png',
        pictures.class_bars(dataset.class_names, dataset.class_colors, metrics.iou_per_class(confusion)),
    )
