"""``evaluate odometry``: run the pipeline offline on a sequence and score the trajectory."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import trajectory
from mt_perception.evaluation.machine import describe_machine
from mt_perception.evaluation.output import print_table, write_json
from mt_perception.features import FEATURES, create_features
from mt_perception.matching import MATCHERS, create_matcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry

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
)


def add_arguments(parser):
    """Declare the command line."""
    parser.add_argument('--sequence', required=True, help='folder, bag, video or rendered:SCENE[:SEED]')
    parser.add_argument('--frames', default=None, help='part of the sequence, A:B (default: all)')
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
    :param total_ms: milliseconds of each frame without reading the image.
    """

    results: list
    stamps: np.ndarray
    poses: np.ndarray
    tracked: np.ndarray
    stage_ms: dict
    total_ms: list


def run(args):
    """
    Run the pipeline, write ``metrics.json``, ``trajectory.txt`` (TUM) and pictures, print a table.

    :return: exit status.
    :raises MtError: input that cannot be used.
    """
    from mt_perception.sequences import open_sequence

    matcher_name = args.matcher or ('lightglue' if args.features == 'model' else 'nearest')
    if args.features != 'model' and (args.model is not None or matcher_name == 'lightglue'):
        raise EvaluationError(
            f'--features {args.features} goes with --matcher nearest and without --model: '
            'LightGlue is trained for the descriptors of the network'
        )
    parameters = read_parameters(args.params_file) if args.params_file else OdometryParameters()
    sequence = open_sequence(args.sequence, frames=args.frames)
    if sequence.camera is None:
        raise EvaluationError(f"sequence '{args.sequence}' has no camera calibration, which odometry needs")
    features = make_features(args)
    matcher = make_matcher(matcher_name, args)
    output = make_folder(args.output)
    outcome = follow(sequence, features, matcher, parameters)
    metrics, aligned = score(sequence, outcome)
    metrics = {
        'sequence': sequence.name,
        'features': args.features,
        'model': features.metadata.model_id if args.features == 'model' else None,
        'matcher': matcher_name,
        **metrics,
        'machine': describe_machine(),
    }
    write(output, metrics, outcome, aligned)
    print_results(metrics, output)
    return 0


def read_parameters(path):
    """
    Read a ROS parameter file; names that are not the odometry core's are the node's and do not matter here.

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
    for field in fields(OdometryParameters):
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
    return replace(OdometryParameters(), **known)


def make_features(args):
    """Return what turns an image into keypoints."""
    if args.max_keypoints is not None and args.max_keypoints < 1:
        raise EvaluationError(f'--max-keypoints must be positive, it is {args.max_keypoints}')
    if args.features != 'model':
        return create_features(args.features, args.max_keypoints or CLASSICAL_KEYPOINTS)
    from mt_perception.perception import PerceptionPipeline

    return PerceptionPipeline(args.model, args.engine, max_keypoints=args.max_keypoints or MODEL_KEYPOINTS)


def make_matcher(name, args):
    """Return the matcher called ``name``."""
    if name == 'lightglue':
        return create_matcher(name, args.matcher_model, engine=args.engine)
    return create_matcher(name)


def make_folder(path):
    """Make the output folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"output folder '{path}' cannot be made: {error.strerror}") from error
    return path


def follow(sequence, features, matcher, parameters=None, progress=True):
    """
    Run features and odometry over a sequence, as the nodes do on its images.

    :param sequence: :class:`Sequence` with a camera.
    :param features: a :class:`PerceptionPipeline` or what ``create_features`` returns.
    :param matcher: :class:`Matcher`.
    :param parameters: :class:`OdometryParameters`.
    :param progress: show a bar on stderr.
    :return: :class:`Run`.
    """
    from tqdm import tqdm

    metadata = getattr(features, 'metadata', None)
    class_names = metadata.class_names if metadata is not None else ()
    odometry = VisualOdometry(sequence.camera, matcher, parameters, class_names)
    results, stage_ms, total_ms = [], {}, []
    with tqdm(total=len(sequence), desc=sequence.name, unit='frame', disable=not progress) as bar:
        for frame in sequence:
            began = perf_counter()
            perception = features.process(frame.image, frame.camera, ('keypoints',))
            result = odometry.track(float(frame.stamp), perception.keypoints)
            odometry.finish()
            total_ms.append((perf_counter() - began) * 1e3)
            results.append(result)
            stages = {**perception.timings_ms, **result.timings_ms}
            stages['odometry'] = stages.pop('total')
            for name, value in stages.items():
                stage_ms.setdefault(name, []).append(value)
            bar.set_postfix_str(f'{result.state.value}, {result.n_inliers} inliers', refresh=False)
            bar.update()
    path = odometry.trajectory()
    return Run(
        results,
        np.array([stamp for stamp, _ in path]),
        np.array([pose for _, pose in path]).reshape(-1, 4, 4),
        np.array(odometry.tracked(), bool),
        stage_ms,
        total_ms,
    )


def score(sequence, outcome):
    """
    Compute the metrics of a run.

    Trajectory errors are of the frames that were tracked, after the corrections of their keyframes;
    ``frames_tracked`` says how many those are. What has no ground truth is None.

    :return: (metrics, (stamps, truth, aligned estimate) of the frames scored, or None).
    """
    states = [result.state for result in outcome.results]
    metrics = {
        'frames': len(sequence),
        'frames_tracked': int(outcome.tracked.sum()),
        'frames_lost': sum(state == OdometryState.LOST for state in states),
        'keyframes': sum(result.is_keyframe for result in outcome.results),
        'map_segments': outcome.results[-1].segment + 1 if outcome.results else 0,
        'metric': bool(outcome.results and outcome.results[-1].metric),
        **dict.fromkeys(TRUTH_KEYS),
        'fps': 1e3 / float(np.mean(outcome.total_ms)) if outcome.total_ms else None,
        'stage_ms': {
            name: {f'p{p}': float(np.percentile(values, p)) for p in PERCENTILES}
            for name, values in outcome.stage_ms.items()
        },
        'note': None,
    }
    scored = None
    if sequence.poses is not None and any(pose is not None for pose in sequence.poses):
        try:
            scored = compare(sequence, outcome, metrics)
        except EvaluationError as error:
            metrics['note'] = str(error)
    return metrics, scored


def compare(sequence, outcome, metrics):
    """Fill in the metrics that need ground truth; return (stamps, truth, aligned estimate)."""
    known = np.array([i for i, pose in enumerate(sequence.poses) if pose is not None])
    stamps, poses = outcome.stamps[outcome.tracked], outcome.poses[outcome.tracked]
    pairs = trajectory.associate(stamps, np.asarray(sequence.stamps)[known])
    truth = np.array([sequence.poses[known[i]] for i in pairs[:, 1]], np.float64).reshape(-1, 4, 4)
    metrics['path_length_m'] = trajectory.path_length(np.array([sequence.poses[i] for i in known]))
    values, aligned = trajectory.evaluate(truth, poses[pairs[:, 0]])
    metrics.update({key: values[key] for key in TRUTH_KEYS if key != 'path_length_m'})
    return stamps[pairs[:, 0]], truth, aligned


def write(output, metrics, outcome, scored):
    """Write all files; ``metrics.json`` comes last, so that it never stands beside older pictures."""
    from mt_perception.evaluation.plots import plot_errors, plot_trajectory
    from mt_perception.sequences.trajectory_io import write_tum

    write_tum(output / 'trajectory.txt', outcome.stamps[outcome.tracked], outcome.poses[outcome.tracked])
    plot_trajectory(metrics, outcome, scored, output / 'trajectory.png')
    plot_errors(outcome, scored, output / 'errors.png')
    write_json(output / 'metrics.json', metrics)


def print_results(metrics, output):
    """Print what matters of the metrics."""

    def text(key, digits, unit=''):
        value = metrics[key]
        return 'n/a' if value is None else f'{value:.{digits}f}{unit}'

    rows = [
        ('frames tracked', f'{metrics["frames_tracked"]} of {metrics["frames"]}'),
        ('keyframes', str(metrics['keyframes'])),
        ('map segments', str(metrics['map_segments'])),
        ('path length', text('path_length_m', 2, ' m')),
        ('ATE RMSE, Sim(3)', text('ate_rmse_sim3_m', 3, ' m')),
        ('ATE RMSE, SE(3)', text('ate_rmse_m', 3, ' m')),
        ('scale (estimate / truth)', text('scale_ratio', 4, '' if metrics['metric'] else ' (not metric)')),
        ('t_rel after scale', text('t_rel_percent', 2, ' %')),
        ('r_rel', text('r_rel_deg_per_100m', 3, '°/100 m')),
        ('RPE per frame', f'{text("rpe_trans_m", 4, " m")}, {text("rpe_rot_deg", 3, "°")}'),
        ('frames per second', text('fps', 1)),
    ]
    print_table(rows, (f'{metrics["sequence"]}, {metrics["features"]} + {metrics["matcher"]}', ''))
    print()
    stages = [
        (name, *(f'{values[f"p{p}"]:.1f}' for p in PERCENTILES))
        for name, values in metrics['stage_ms'].items()
    ]
    print_table(stages, ('ms', *(f'p{p}' for p in PERCENTILES)))
    if metrics['note']:
        print(f'no trajectory errors: {metrics["note"]}')
    print(f'written: {output / "metrics.json"}, trajectory.txt, trajectory.png, errors.png')
