"""``evaluate localization``: where the images of a sequence were taken, each by itself, in a saved map."""

from pathlib import Path
from time import perf_counter

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import trajectory
from mt_perception.evaluation.machine import describe_machine
from mt_perception.evaluation.odometry import (
    MODEL_KEYPOINTS,
    PERCENTILES,
    make_folder,
    make_matcher,
    read_parameters,
)
from mt_perception.evaluation.output import print_table, write_json
from mt_perception.matching import MATCHERS
from mt_perception.place_recognition import PlaceParameters, PlaceRecognition, View

BOUNDS = (
    (0.05, 2.0),
    (0.1, 5.0),
    (0.25, 2.0),
    (0.5, 5.0),
)  # metres, degrees; Sattler et al., CVPR 2018, beside


def add_arguments(parser):
    """Declare the command line."""
    parser.add_argument('--map', type=Path, required=True, help='map saved by place recognition')
    parser.add_argument(
        '--sequence', required=True, help='folder, bag, video or rendered:SCENE[:SEED][:VARIANT]'
    )
    parser.add_argument('--frames', default=None, help='part of the sequence, A:B (default: all)')
    parser.add_argument(
        '--map-sequence',
        default=None,
        help='sequence that the map was made from, whose ground truth aligns it (default: --sequence)',
    )
    parser.add_argument(
        '--model', type=Path, default=None, help='perception model (default: the one shipped)'
    )
    parser.add_argument('--matcher', default='lightglue', choices=MATCHERS)
    parser.add_argument(
        '--matcher-model', type=Path, default=None, help='matcher model (default: the one shipped)'
    )
    parser.add_argument('--engine', default='auto', choices=('auto', 'tensorrt', 'onnxruntime'))
    parser.add_argument('--max-keypoints', type=int, default=MODEL_KEYPOINTS)
    parser.add_argument(
        '--params-file',
        type=Path,
        default=None,
        help='parameters of the place_recognition node, the same YAML file',
    )
    parser.add_argument(
        '--output', type=Path, default=Path('out/localization'), help='folder (default: out/localization)'
    )


def run(args):
    """
    Localise every frame, write ``metrics.json`` and ``localization.png``, print a table.

    :raises MtError: input that cannot be used.
    """
    from mt_perception.perception import PerceptionPipeline
    from mt_perception.sequences import open_sequence

    parameters = read_parameters(args.params_file, PlaceParameters) if args.params_file else PlaceParameters()
    sequence = open_sequence(args.sequence, frames=args.frames)
    if sequence.camera is None:
        raise EvaluationError(f"sequence '{args.sequence}' has no camera calibration, which poses need")
    sequence.skip_depth()
    args.threads = 0
    features = PerceptionPipeline(args.model, args.engine, max_keypoints=args.max_keypoints)
    places = PlaceRecognition(make_matcher(args.matcher, args), parameters)
    places.load(args.map, features.metadata.model_id)
    output = make_folder(args.output)
    mapped = open_sequence(args.map_sequence or args.sequence)
    results = localize_all(sequence, features, places)
    fit, alignment = align_map(places, mapped)
    metrics = {
        'sequence': sequence.name,
        'map': str(args.map),
        'model': features.metadata.model_id,
        'matcher': args.matcher,
        **score(sequence, results, fit),
        **alignment,
        'machine': describe_machine(),
    }
    from mt_perception.evaluation.place_plots import plot_localization

    plot_localization(results, output / 'localization.png')
    write_json(output / 'metrics.json', {**metrics, 'results': results})
    print_results(metrics, output)


def localize_all(sequence, features, places, progress=True):
    """
    Localise every frame by itself.

    :param features: :class:`PerceptionPipeline`, or what has its ``process``.
    :param places: :class:`PlaceRecognition` with a loaded map.
    :return: list of dicts: ``frame``, ``stamp``, ``pose`` [4,4] in the map or None, ``inliers``, ``matches``,
        ``score``, ``localize_ms``.
    """
    from tqdm import tqdm

    results = []
    for index, frame in enumerate(tqdm(sequence, desc=sequence.name, unit='frame', disable=not progress)):
        seen = features.process(frame.image, frame.camera, ('keypoints', 'global_descriptor'))
        began = perf_counter()
        view = View.create(frame.stamp, seen.keypoints, frame.camera, seen.global_descriptor)
        found = places.localize(view)
        results.append(
            {
                'frame': index,
                'stamp': float(frame.stamp),
                'pose': None if found is None else found.pose,
                'inliers': 0 if found is None else found.inliers,
                'matches': 0 if found is None else found.matches,
                'score': None if found is None else found.score,
                'localize_ms': (perf_counter() - began) * 1e3,
            }
        )
    return results


def align_map(places, sequence):
    """
    Find the similarity between a map and the ground truth of the sequence that it was made from.

    The scale is the ratio of how far the positions spread (Horn 1987, section 2D); rotation and translation
    are least squares over the positions and the ends of the cameras' axes, as long as the scene is far: where
    a camera looks fixes the rotation where its path is too short for that.

    :param sequence: :class:`Sequence`.
    :return: ((rotation, translation, scale) as :func:`trajectory.umeyama` gives it or None, what
        ``metrics.json`` says about it).
    """
    keyframes = places.graph.keyframes
    report = {
        'map_keyframes': len(keyframes),
        'map_scale_ratio': None,
        'map_position_rmse_m': None,
        'map_rotation_rmse_deg': None,
        'note': None,
    }
    truth, poses, distances = [], [], []
    stamps = np.asarray(sequence.stamps)
    pairs = trajectory.associate(np.array([k.stamp for k in keyframes]), stamps)
    for k, frame in pairs:
        exact = None if sequence.poses is None else sequence.poses[frame]
        if exact is not None:
            truth.append(exact)
            poses.append(keyframes[k].pose)
            distances.append(np.nanmedian(keyframes[k].view.depth) if len(keyframes[k].view) else np.nan)
    if len(truth) < 3 or not np.isfinite(distances).any():
        report['note'] = (
            f'{len(truth)} keyframes of the map have a ground truth in {sequence.name}: too few to align it; '
            'name the sequence that it was made from with --map-sequence'
        )
        return None, report
    truth, poses = np.array(truth), np.array(poses)
    reach = float(np.nanmedian(distances))
    scale = spread(truth[:, :3, 3]) / max(spread(poses[:, :3, 3]), 1e-12)
    source, target = scale * ends(poses, reach), ends(truth, reach * scale)
    fit = (*trajectory.umeyama(source, target, with_scale=False)[:2], scale)
    aligned = trajectory.transform(poses, *fit)
    angles = trajectory.rotation_angles(np.swapaxes(truth[:, :3, :3], 1, 2) @ aligned[:, :3, :3])
    report['map_scale_ratio'] = 1 / scale
    report['map_position_rmse_m'] = trajectory.rmse(trajectory.position_errors(truth, aligned))
    report['map_rotation_rmse_deg'] = float(np.degrees(trajectory.rmse(angles)))
    return fit, report


def spread(points):
    """Root of the mean squared distance of points [N,3] from their mean."""
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))


def ends(poses, length):
    """Return the positions of poses [N,4,4] and the ends of their axes, both ways, [7N,3]."""
    centers = poses[:, :3, 3]
    axes = [centers + sign * length * poses[:, :3, k] for k in range(3) for sign in (1, -1)]
    return np.concatenate([centers, *axes])


def score(sequence, results, fit):
    """
    Compare poses with the ground truth; ``results`` get ``position_error_m`` and ``rotation_error_deg``.

    Shares are of all frames with a ground truth; a frame that was not located counts as wrong.

    :param fit: from :func:`align_map`, or None.
    :return: metrics.
    """
    known = fit is not None and sequence.poses is not None
    errors = []
    for index, result in enumerate(results):
        result['position_error_m'] = result['rotation_error_deg'] = None
        truth = sequence.poses[index] if known else None
        if truth is None:
            continue
        if result['pose'] is None:
            errors.append((np.inf, np.inf))
            continue
        pose = trajectory.transform(result['pose'][None], *fit)
        turn = trajectory.rotation_angles(truth[None, :3, :3].transpose(0, 2, 1) @ pose[:, :3, :3])
        result['position_error_m'] = float(trajectory.position_errors(truth[None], pose)[0])
        result['rotation_error_deg'] = float(np.degrees(turn[0]))
        errors.append((result['position_error_m'], result['rotation_error_deg']))
    errors = np.array(errors).reshape(-1, 2)
    located = [result['inliers'] for result in results if result['inliers']]
    times = [result['localize_ms'] for result in results]
    metrics = {
        'frames': len(results),
        'frames_localized': len(located),
        'inliers_median': float(np.median(located)) if located else None,
    }
    for meters, degrees in BOUNDS:
        share = ((errors[:, 0] < meters) & (errors[:, 1] < degrees)).mean() if len(errors) else None
        metrics[f'share_{round(100 * meters)}cm_{degrees:g}deg'] = None if share is None else float(share)
    found = errors[np.isfinite(errors[:, 0])]
    for name, column in (('position_error_m', 0), ('rotation_error_deg', 1)):
        metrics[name] = {
            f'p{p}': float(np.percentile(found[:, column], p)) if len(found) else None for p in PERCENTILES
        }
    metrics['localize_ms'] = {f'p{p}': float(np.percentile(times, p)) if times else None for p in PERCENTILES}
    return metrics


def print_results(metrics, output):
    """Print what matters of the metrics."""

    def text(value, digits, unit=''):
        return 'n/a' if value is None else f'{value:.{digits}f}{unit}'

    rows = [
        ('frames localised', f'{metrics["frames_localized"]} of {metrics["frames"]}'),
        *(
            (
                f'within {100 * meters:g} cm and {degrees:g}°',
                text(share if share is None else 100 * share, 1, ' %'),
            )
            for meters, degrees in BOUNDS
            for share in [metrics[f'share_{round(100 * meters)}cm_{degrees:g}deg']]
        ),
        ('position error, median', text(metrics['position_error_m']['p50'], 3, ' m')),
        ('rotation error, median', text(metrics['rotation_error_deg']['p50'], 2, '°')),
        ('keyframes of the map', str(metrics['map_keyframes'])),
        ('their own position error, RMSE', text(metrics['map_position_rmse_m'], 3, ' m')),
        ('their own rotation error, RMSE', text(metrics['map_rotation_rmse_deg'], 2, '°')),
        ('scale of the map / truth', text(metrics['map_scale_ratio'], 3)),
        ('localisation, median', text(metrics['localize_ms']['p50'], 0, ' ms')),
    ]
    print_table(rows, (f'{metrics["sequence"]} in {metrics["map"]}', ''))
    if metrics['note']:
        print(f'no errors: {metrics["note"]}')
    print(f'written: {output / "metrics.json"}, localization.png')
