"""``evaluate odometry``: run the pipeline offline on a sequence and score the trajectory."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import trajectory
from mt_perception.evaluation.ahead import results_of
from mt_perception.evaluation.output import print_table, write_json
from mt_perception.features import FEATURES, create_features
from mt_perception.matching import MATCHERS, create_matcher
from mt_perception.odometry import OdometryParameters, OdometryState, ReferenceMatches, VisualOdometry
from mt_perception.odometry.metric_scale import SCALE_SOURCES
from mt_perception.perception.sampling import with_depth

PERCENTILES = (50, 95, 99)
CLASSICAL_KEYPOINTS = 1000
MODEL_KEYPOINTS = 512
KINDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    tuple: 'a list of texts',
}
TRUTH_KEYS = (
    'path_length_m',
    'ate_rmse_m',
    'ate_rmse_sim3_m',
    'ate_max_sim3_m',
    'scale_ratio',
    't_rel_percent',
    'r_rel_deg_per_100m',
    'rpe_trans_m',
    'rpe_rot_deg',
    'standing_drift_m',
    'standing_drift_deg',
)


def add_arguments(parser):
    """Declare the command line."""
    parser.add_argument(
        '--sequence',
        required=True,
        nargs='+',
        action='extend',
        metavar='SEQUENCE',
        help='folder, bag, video or rendered:SCENE[:SEED][:VARIANT…]; several of them, or a folder of such',
    )
    parser.add_argument('--frames', default=None, help='part of each sequence, A:B (default: all)')
    parser.add_argument('--features', default='model', choices=('model', *FEATURES))
    parser.add_argument(
        '--model', type=Path, default=None, help='perception model (default: the one shipped)'
    )
    parser.add_argument(
        '--matcher', default=None, choices=MATCHERS, help='default: lightglue for the model, else nearest'
    )
    parser.add_argument(
        '--matcher-model', type=Path, default=None, help='matcher model (default: the one shipped)'
    )
    parser.add_argument('--engine', default='auto', choices=('auto', 'tensorrt', 'onnxruntime'))
    parser.add_argument(
        '--max-keypoints',
        type=int,
        default=None,
        help=f'keypoints of a frame (default: {MODEL_KEYPOINTS} of the model, else {CLASSICAL_KEYPOINTS})',
    )
    parser.add_argument(
        '--params-file',
        type=Path,
        default=None,
        help='parameters of the visual_odometry node, the same YAML file',
    )
    parser.add_argument(
        '--segment-lengths',
        nargs='+',
        metavar='METRES',
        default=None,
        help="lengths of the sub-paths of t_rel and r_rel (default: KITTI's 100 … 800); auto: eighths of a "
        'path shorter than 100 m',
    )
    parser.add_argument(
        '--repeat', type=int, default=1, metavar='N', help='runs of each; medians and spread are written'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        metavar='N',
        help='sequences at a time, each in a process of its own (default: 1, 0: one per core); they share '
        'the cores, so that times are longer',
    )
    parser.add_argument(
        '--one-by-one',
        action='store_true',
        help='perceive an image when odometry is done with the one before, as a live camera; without it one '
        'image per core is perceived at a time, which is faster, but each stage takes longer',
    )
    parser.add_argument(
        '--loops',
        action='store_true',
        help='close loops after the odometry, and score the corrected path too',
    )
    parser.add_argument(
        '--place-params-file',
        type=Path,
        default=None,
        help='parameters of the place_recognition node, the same YAML file',
    )
    parser.add_argument(
        '--save-map',
        type=Path,
        default=None,
        metavar='FILE',
        help='save the map with its loops closed, for evaluate localization and place_recognition/load_map',
    )
    parser.add_argument(
        '--scale-source',
        default=None,
        choices=SCALE_SOURCES,
        help='what makes it metric (default: that of the parameters, depth)',
    )
    parser.add_argument(
        '--camera-height',
        type=float,
        default=None,
        metavar='M',
        help='metres from the ground to the camera, for --scale-source camera_height',
    )
    parser.add_argument(
        '--output', type=Path, default=Path('out/odometry'), help='folder (default: out/odometry)'
    )


@dataclass
class Run:
    """
    One pass of the pipeline over a sequence.

    :param results: :class:`OdometryResult` of each frame, in order.
    :param stamps: [N] seconds of the trajectory's poses.
    :param poses: [N,4,4] as known at the end.
    :param tracked: [N] bool: located against the map.
    :param stage_ms: {stage: list of milliseconds}.
    :param seconds: all frames took, reading the images included.
    """

    results: list
    stamps: np.ndarray
    poses: np.ndarray
    tracked: np.ndarray
    stage_ms: dict
    seconds: float


def run(args):
    """Evaluate the sequences that the command line names; see :mod:`mt_perception.evaluation.batch`."""
    from mt_perception.evaluation import batch

    batch.run(args)


def read_parameters(path, table=OdometryParameters):
    """
    Read a ROS parameter file; names that are not the core's are the node's and do not matter here.

    :param table: dataclass of the core's parameters.
    :return: an instance of it.
    :raises EvaluationError: a file that is missing, not YAML, or has a value of the wrong type.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding='utf-8'))
        values = {}
        for node in document.values():
            values.update(node['ros__parameters'])
    except OSError as error:
        raise EvaluationError(f"parameter file '{path}' cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise EvaluationError(f"'{path}' is not a ROS parameter file (node: ros__parameters: …)") from error
    known = {}
    for field in fields(table):
        if field.name not in values:
            continue
        value, kind = values[field.name], type(field.default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            value = tuple(value)
        if type(value) is not kind:
            raise EvaluationError(
                f"parameter '{field.name}' in '{path}' is {value!r}, it must be {KINDS[kind]}"
            )
        known[field.name] = value
    return replace(table(), **known)


def make_features(args):
    """
    Return what turns an image into keypoints; ``args`` are the settings of :mod:`batch`.

    Where several images are worked on at once, each has one thread: they wait less than threads that share an
    image.
    """
    if args.features != 'model':
        return create_features(args.features, args.max_keypoints or CLASSICAL_KEYPOINTS)
    from mt_perception.perception import PerceptionPipeline

    most = args.max_keypoints or MODEL_KEYPOINTS
    threads = 1 if args.at_once > 1 else args.threads
    return PerceptionPipeline(args.model, args.engine, max_keypoints=most, threads=threads)


def make_matcher(name, args):
    """Return the matcher called ``name``."""
    if name == 'lightglue':
        return create_matcher(name, args.matcher_model, engine=args.engine, threads=args.threads)
    return create_matcher(name)


def make_folder(path):
    """Make the output folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"output folder '{path}' cannot be made: {error.strerror}") from error
    return path


def follow(
    sequence, features, matcher, parameters=None, progress=True, report=None, collector=None, at_once=1
):
    """
    Run features and odometry over a sequence, as the nodes do on its images.

    :param sequence: :class:`Sequence` with a camera.
    :param features: a :class:`PerceptionPipeline` or what ``create_features`` returns.
    :param matcher: :class:`Matcher`.
    :param parameters: :class:`OdometryParameters`.
    :param progress: show a bar on stderr.
    :param report: called with (frames done, frames) after each frame.
    :param collector: :class:`mt_perception.evaluation.places.KeyframeCollector` for the keyframes, or None.
    :param at_once: images that are perceived at a time, beside odometry; 0 = each when odometry is done with
        the one before. The poses are the same.
    :return: :class:`Run`.
    """
    from tqdm import tqdm

    metadata = getattr(features, 'metadata', None)
    class_names = metadata.class_names if metadata is not None else ()
    tasks = ('keypoints',) if collector is None else ('keypoints', 'global_descriptor')
    odometry = VisualOdometry(sequence.camera, matcher, parameters, class_names)

    def perceive(frame):
        return features.process(frame.image, frame.camera, tasks)

    results, stage_ms = [], {}
    began = perf_counter()
    with (
        tqdm(total=len(sequence), desc=sequence.name, unit='frame', disable=not progress) as bar,
        results_of(sequence, perceive, at_once) as perceived,
    ):
        for frame, perception in perceived:
            keypoints = perception.keypoints
            if odometry.parameters.scale_source == 'rgbd':
                keypoints = with_depth(keypoints, frame.depth)
            result = odometry.track(float(frame.stamp), keypoints)
            odometry.finish()
            if collector is not None:
                collector.take(odometry, result, perception.global_descriptor)
            results.append(replace(result, matches=ReferenceMatches()))  # they are for display, and large
            stages = {**perception.timings_ms, **result.timings_ms}
            stages['odometry'] = stages.pop('total')
            for name, value in stages.items():
                stage_ms.setdefault(name, []).append(value)
            bar.set_postfix_str(f'{result.state.value}, {result.n_inliers} inliers', refresh=False)
            bar.update()
            if report is not None:
                report(len(results), len(sequence))
    seconds = perf_counter() - began
    path = odometry.trajectory()
    return Run(
        results,
        np.array([stamp for stamp, _ in path]),
        np.array([pose for _, pose in path]).reshape(-1, 4, 4),
        np.array(odometry.tracked(), bool),
        stage_ms,
        seconds,
    )


def score(sequence, outcome, lengths=trajectory.KITTI_LENGTHS_M):
    """
    Compute the metrics of a run.

    Trajectory errors are of the frames that were tracked, after the corrections of their keyframes;
    ``frames_tracked`` says how many those are. What has no ground truth is None. ``lost_spans`` are the
    [first, last] frames between which there was no pose, once there had been one. ``standing_drift_*`` is how
    far the pose moved, as given at each frame, while the camera stood. ``movable_share`` is of the keypoints
    that did not decide where the camera is, as they were on things that move by themselves.

    :param lengths: of KITTI's sub-paths in metres; 'auto': eighths of a path too short for the benchmark's.
    :return: (metrics, :class:`Scored` or None).
    """
    states = [result.state for result in outcome.results]
    metrics = {
        'frames': len(sequence),
        'frames_tracked': int(outcome.tracked.sum()),
        'frames_lost': sum(state == OdometryState.LOST for state in states),
        'lost_spans': lost_spans(states),
        'keyframes': sum(result.is_keyframe for result in outcome.results),
        'map_segments': outcome.results[-1].segment + 1 if outcome.results else 0,
        'metric': bool(outcome.results and outcome.results[-1].metric),
        'scale_sigma': scale_sigma(outcome),
        'movable_share': movable_share(outcome.results),
        **dict.fromkeys(TRUTH_KEYS),
        'segment_lengths_m': None if lengths == 'auto' else list(lengths),
        'fps': len(outcome.results) / outcome.seconds if outcome.results else None,
        'stage_ms': {
            name: {f'p{p}': float(np.percentile(values, p)) for p in PERCENTILES}
            for name, values in outcome.stage_ms.items()
        },
        'note': None,
    }
    scored = None
    if sequence.poses is not None and any(pose is not None for pose in sequence.poses):
        try:
            scored = compare(sequence, outcome, metrics, lengths)
        except EvaluationError as error:
            metrics['note'] = str(error)
        drift(sequence, outcome, metrics)
    return metrics, scored


def scale_sigma(outcome):
    """Return the standard deviation of the log scale at the end, None when it is not metric."""
    sigma = outcome.results[-1].scale_sigma if outcome.results else float('inf')
    return sigma if np.isfinite(sigma) else None


def movable_share(results):
    """Return the share of the keypoints that counted as on things that move by themselves, or None."""
    total = sum(result.n_keypoints for result in results)
    return sum(result.n_movable for result in results) / total if total else None


def lost_spans(states):
    """Return [first, last] of the frames without a pose, after the first that had one."""
    without = [state != OdometryState.TRACKING for state in states]
    start = without.index(False) if False in without else len(states)
    without[:start] = [False] * start
    edges = np.flatnonzero(np.diff(np.r_[0, np.array(without, int), 0]))
    return [[int(first), int(after) - 1] for first, after in edges.reshape(-1, 2)]


@dataclass
class Scored:
    """
    The frames of a run that have a ground truth.

    :param stamps: [N] seconds.
    :param truth: [N,4,4].
    :param aligned: [N,4,4] estimate after Sim(3) alignment.
    :param lengths: metres of the sub-paths that t_rel is of.
    """

    stamps: np.ndarray
    truth: np.ndarray
    aligned: np.ndarray
    lengths: tuple


def compare(sequence, outcome, metrics, lengths=trajectory.KITTI_LENGTHS_M):
    """Fill in the metrics that need ground truth; return the :class:`Scored`."""
    known = np.array([i for i, pose in enumerate(sequence.poses) if pose is not None])
    stamps, poses = outcome.stamps[outcome.tracked], outcome.poses[outcome.tracked]
    pairs = trajectory.associate(stamps, np.asarray(sequence.stamps)[known])
    truth = np.array([sequence.poses[known[i]] for i in pairs[:, 1]], np.float64).reshape(-1, 4, 4)
    metrics['path_length_m'] = trajectory.path_length(np.array([sequence.poses[i] for i in known]))
    if lengths == 'auto':
        lengths = trajectory.short_lengths(metrics['path_length_m'])
        metrics['segment_lengths_m'] = list(lengths)
    values, aligned = trajectory.evaluate(truth, poses[pairs[:, 0]], lengths)
    metrics.update({key: values[key] for key in TRUTH_KEYS if key in values and key != 'path_length_m'})
    return Scored(stamps[pairs[:, 0]], truth, aligned, tuple(lengths))


def drift(sequence, outcome, metrics):
    """
    Fill in how far the pose moved while the camera stood.

    In metres of the ground truth where the scale could be found, else in those of the estimate.
    """
    if len(outcome.results) != len(sequence) or any(pose is None for pose in sequence.poses):
        return
    poses = np.array([result.pose for result in outcome.results], np.float64)
    poses[:, :3, 3] /= metrics['scale_ratio'] or 1.0
    metrics['standing_drift_m'], metrics['standing_drift_deg'] = trajectory.standing_drift(
        sequence.stamps, sequence.poses, poses
    )


def write(output, metrics, outcome, scored, sequence=None):
    """
    Write all files; ``metrics.json`` comes last, so that it never stands beside older pictures.

    :param sequence: whose ground truth is written beside the trajectory, for other evaluators.
    """
    from mt_perception.evaluation.plots import plot_errors, plot_segments, plot_trajectory
    from mt_perception.sequences.trajectory_io import write_tum

    write_tum(output / 'trajectory.txt', outcome.stamps[outcome.tracked], outcome.poses[outcome.tracked])
    if sequence is not None and sequence.poses is not None:
        known = [i for i, pose in enumerate(sequence.poses) if pose is not None]
        truth = np.array([sequence.poses[i] for i in known], np.float64).reshape(-1, 4, 4)
        write_tum(output / 'ground_truth.txt', np.asarray(sequence.stamps)[known], truth)
    plot_trajectory(metrics, outcome, scored, output / 'trajectory.png')
    plot_errors(outcome, scored, output / 'errors.png', metrics['scale_ratio'])
    if scored is not None:
        plot_segments(scored, output / 'segments.png')
    write_json(output / 'metrics.json', metrics)


def print_results(metrics, output):
    """Print what matters of the metrics."""

    def text(key, digits, unit=''):
        value = metrics[key]
        return 'n/a' if value is None else f'{value:.{digits}f}{unit}'

    rows = [
        ('frames tracked', f'{metrics["frames_tracked"]} of {metrics["frames"]}'),
        ('lost between frames', ', '.join(f'{a}–{b}' for a, b in metrics['lost_spans'] or ()) or 'never'),
        ('keyframes', str(metrics['keyframes'])),
        ('map segments', str(metrics['map_segments'])),
        ('path length', text('path_length_m', 2, ' m')),
        ('ATE RMSE, Sim(3)', text('ate_rmse_sim3_m', 3, ' m')),
        ('ATE RMSE, SE(3)', text('ate_rmse_m', 3, ' m')),
        ('scale (estimate / truth)', text('scale_ratio', 4, '' if metrics['metric'] else ' (not metric)')),
        ('its standard deviation', text('scale_sigma', 3)),
        ('t_rel after scale', text('t_rel_percent', 2, ' %')),
        ('r_rel', text('r_rel_deg_per_100m', 3, '°/100 m')),
        ('RPE per frame', f'{text("rpe_trans_m", 4, " m")}, {text("rpe_rot_deg", 3, "°")}'),
        ('keypoints on movable things', text('movable_share', 2)),
        ('frames per second', text('fps', 1)),
    ]
    if 'loops' in metrics:
        false = '' if metrics['loops_false'] is None else f', {metrics["loops_false"]} of them false'
        rows[-1:-1] = [
            ('loops', f'{metrics["loops_accepted"]} of {metrics["loops"]} accepted{false}'),
            ('ATE RMSE, Sim(3), loops closed', text('ate_rmse_sim3_m_closed', 3, ' m')),
            ('ATE RMSE, SE(3), loops closed', text('ate_rmse_m_closed', 3, ' m')),
        ]
    if metrics['standing_drift_m'] is not None:
        drifted = f'{text("standing_drift_m", 4, " m")}, {text("standing_drift_deg", 3, "°")}'
        rows.insert(-1, ('drift while standing', drifted))
    spread = metrics.get('spread', {}).get('ate_rmse_sim3_m')
    if spread is not None:
        rows.append(('ATE RMSE, Sim(3), of the runs', f'{spread[0]:.3f} to {spread[1]:.3f} m'))
    if metrics.get('repeat'):
        rows.append(('runs', f'{metrics["repeat"]}; the numbers are their medians'))
    print_table(rows, (f'{metrics["sequence"]}, {metrics["features"]} + {metrics["matcher"]}', ''))
    print()
    stages = [
        (name, *(f'{values[f"p{p}"]:.1f}' for p in PERCENTILES))
        for name, values in metrics['stage_ms'].items()
    ]
    print_table(stages, ('ms', *(f'p{p}' for p in PERCENTILES)))
    if metrics['note']:
        print(f'no trajectory errors: {metrics["note"]}')
    print(f'written: in {output}: metrics.json, trajectory.txt and pictures')
