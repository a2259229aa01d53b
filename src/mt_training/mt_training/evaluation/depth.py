"""
Monocular depth: relative error, RMSE and inlier ratios, without and with median scaling.

The prediction is enlarged to the size of the ground truth (bilinear); where the camera is known it is scaled
to its focal length as at run time. Pixels count whose true depth lies between the limits; errors are averaged
per image, then over images. Definitions: mt_training.metrics.depth.
"""

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError
from mt_training.data.readers import registry
from mt_training.data.readers.sequence_frames import SequenceFrames
from mt_training.evaluation import options
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures import depth as pictures
from mt_training.evaluation.tables import format_table
from mt_training.metrics import depth as metrics

# name: (smallest, largest evaluated depth in metres)
DATASETS = {'rgbd': (0.1, 10.0), 'sequence': (metrics.MIN_DEPTH_M, metrics.MAX_DEPTH_M)}
SHOWN_IMAGES = 3
MAIN_KEYS = ('abs_rel', 'rmse_m', 'delta_1', 'delta_2', 'delta_3', 'sq_rel', 'rmse_log')
DEFINITION = (
    'errors per image on the pixels with true depth between the limits, then mean over images; prediction '
    'enlarged bilinearly and clamped to the limits; _median_scaled: every prediction multiplied by '
    'median(truth) / median(prediction) of its image first'
)


def add_arguments(parser):
    """Declare the options of ``evaluate depth``."""
    options.add_dataset_options(parser, [*DATASETS, *registry.names('frames', 'depth')])
    parser.add_argument('--split', help='part of the data set (default: val, of some test)')
    parser.add_argument('--min-depth', type=float, metavar='M', help='smallest depth that counts, metres')
    parser.add_argument('--max-depth', type=float, metavar='M', help='largest depth that counts, metres')
    options.add_model_options(parser)
    options.add_output_option(parser, 'depth')


def run(args):
    """
    Evaluate and write the results.

    :return: the content of ``metrics.json``.
    :raises MtError: data, model or output that cannot be used.
    """
    frames, defaults = open_depth(args)
    limits = tuple(
        d if given is None else given for d, given in zip(defaults, (args.min_depth, args.max_depth))
    )
    if not 0 < limits[0] < limits[1]:
        raise EvaluationError(f'--min-depth {limits[0]:g} and --max-depth {limits[1]:g} enclose no depth')
    output = OutputFolder(args.output)
    pipeline = options.open_pipeline(args, 'depth')
    with pipeline.engine:
        per_image, image_size, calibrated = evaluate(frames, pipeline, limits)
        if not per_image:
            raise EvaluationError(f"'{args.root}' has no pixel with a depth of {limits[0]:g}–{limits[1]:g} m")
        result = {
            'task': 'depth',
            **summarise(per_image),
            'images': len(per_image),
            'images_without_depth': len(frames) - len(per_image),
            'limits_m': limits,
            'depth_kind': pipeline.metadata.depth_kind,
            'camera_known': calibrated,
            'dataset': {
                'name': args.dataset,
                'root': args.root,
                'split': args.split,
                'frames': args.frames,
            },
            'weights': options.describe_pipeline(pipeline, image_size),
            'machine': options.describe_machine(),
            'definition': DEFINITION,
        }
        write_pictures(output, frames, pipeline, per_image, limits)
    output.write_csv('images.csv', per_image)
    output.write_metrics(result)
    rows = [[key, result[key], result[f'{key}_median_scaled']] for key in MAIN_KEYS]
    print(format_table(['', 'as predicted', 'median scaled'], rows))
    ratio = result['median_ratio']
    print(
        f'median(truth) / median(prediction): {ratio["mean"]:.3f} ± {ratio["std"]:.3f}   '
        f'{result["images"]} images   results in {output.path}'
    )
    return result


def open_depth(args):
    """Return (frames with depth, (smallest, largest) depth that counts by default) of the options."""
    if args.dataset in DATASETS:
        if args.root is None:
            raise EvaluationError(
                f'--dataset {args.dataset} needs --root: a sequence, or such as rendered:street:7'
            )
        return SequenceFrames(args.root, args.frames, 'depth'), DATASETS[args.dataset]
    frames = options.open_dataset(args)
    if 'depth' not in frames.provides:
        raise EvaluationError(f"data set '{args.dataset}' has no depth here")
    return frames, frames.depth_limits or DATASETS['sequence']


def evaluate(frames, pipeline, limits):
    """
    Run the model over a sequence.

    :param limits: (smallest, largest) depth in metres that counts.
    :return: (list of one row per image that has depth, (width, height) of the images, whether the camera is
        known).
    """
    per_image, image_size, calibrated = [], None, False
    for index in tqdm(range(len(frames)), desc='depth', unit='image', disable=None):
        frame = frames[index]
        image_size, calibrated = (frame.image.shape[1], frame.image.shape[0]), frame.camera is not None
        if frame.depth is None:
            continue
        mask = metrics.valid_pixels(frame.depth, *limits)
        if not mask.any():
            continue
        prediction, milliseconds = predict(pipeline, frame)
        ratio = metrics.median_ratio(prediction, frame.depth, mask)
        row = {'position': index, 'frame': frame.index, 'pixels': int(mask.sum())}
        row.update(metrics.depth_errors(prediction, frame.depth, mask, *limits))
        scaled = metrics.depth_errors(prediction * ratio, frame.depth, mask, *limits)
        row.update({f'{key}_median_scaled': value for key, value in scaled.items()})
        per_image.append({**row, 'median_ratio': ratio, 'milliseconds': milliseconds})
    return per_image, image_size, calibrated


def predict(pipeline, frame):
    """Return metres [H,W] at the size of the ground truth, and the milliseconds the pipeline took."""
    perception = pipeline.process(frame.image, camera=frame.camera, tasks=('depth',))
    size = frame.depth.shape[1], frame.depth.shape[0]
    depth = cv2.resize(perception.depth.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return depth, sum(perception.timings_ms.values())


def summarise(per_image):
    """Mean of every error over the images, and mean and deviation of the median ratio."""
    keys = [*MAIN_KEYS, *(f'{key}_median_scaled' for key in MAIN_KEYS)]
    out = {key: float(np.mean([row[key] for row in per_image])) for key in keys}
    ratios = np.array([row['median_ratio'] for row in per_image])
    ratios = ratios[np.isfinite(ratios)]
    out['median_ratio'] = {
        'mean': float(ratios.mean()) if len(ratios) else float('nan'),
        'std': float(ratios.std()) if len(ratios) else float('nan'),
    }
    return out


def write_pictures(output, frames, pipeline, per_image, limits):
    """Draw the best, a typical and the worst image, and the errors over the sequence."""
    order = sorted(range(len(per_image)), key=lambda i: per_image[i]['abs_rel'])
    chosen = list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))[:SHOWN_IMAGES]
    shown = []
    for index in chosen:
        frame = frames[per_image[index]['position']]
        prediction, _ = predict(pipeline, frame)
        shown.append(
            (frame, prediction, metrics.valid_pixels(frame.depth, *limits), per_image[index]['abs_rel'])
        )
    output.write_figure('images.png', pictures.examples(shown))
    output.write_figure('errors.png', pictures.over_frames(per_image))
