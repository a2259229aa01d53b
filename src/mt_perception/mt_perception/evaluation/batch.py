"""
``evaluate odometry`` over one or several sequences, once or several times.

One sequence, one run: OUT holds its files, ``metrics.json`` among them. Several runs (``--repeat N``):
OUT/run_1 to OUT/run_N hold those of each run, and OUT/metrics.json the medians under the same keys, with
``repeat`` and ``spread`` ([least, greatest] under the same keys again). Several sequences: each has such a
folder OUT/NAME, and OUT holds ``metrics.json`` (``sequences``: {NAME: its metrics, or {"error": sentence}}),
``table.md`` and ``trajectories.png``.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from mt_perception.errors import EvaluationError, SequenceError
from mt_perception.evaluation import odometry, places
from mt_perception.evaluation.ahead import MOST_AT_ONCE
from mt_perception.evaluation.jobs import cores, run_tasks
from mt_perception.evaluation.machine import describe_machine
from mt_perception.evaluation.output import plain, write_json
from mt_perception.evaluation.repeats import summarize
from mt_perception.evaluation.table import markdown_table, plain_table
from mt_perception.evaluation.trajectory import KITTI_LENGTHS_M
from mt_perception.odometry import OdometryParameters
from mt_perception.odometry.visual_odometry import check
from mt_perception.place_recognition import PlaceParameters
from mt_perception.writing import whole_file

AUTO = 'auto'


@dataclass(frozen=True)
class Settings:
    """
    What all runs have in common.

    :param features: 'model', 'sift' or 'orb'.
    :param model: path, or None for the one shipped.
    :param matcher: 'lightglue' or 'nearest'.
    :param matcher_model: path, or None for the one shipped.
    :param engine: of both.
    :param max_keypoints: of a frame, or None.
    :param parameters: :class:`OdometryParameters`.
    :param frames: 'A:B' of every sequence, or None.
    :param lengths: of KITTI's sub-paths in metres, or 'auto'.
    :param threads: of the engines on the CPU, 0 = one per core.
    :param at_once: images that are perceived at a time, see :func:`mt_perception.evaluation.odometry.follow`.
    :param places: :class:`PlaceParameters` to close loops with, or None.
    :param map_file: where the map is saved, or None.
    """

    features: str
    model: Path | None
    matcher: str
    matcher_model: Path | None
    engine: str
    max_keypoints: int | None
    parameters: OdometryParameters
    frames: str | None = None
    lengths: tuple | str = KITTI_LENGTHS_M
    threads: int = 0
    at_once: int = 1
    places: PlaceParameters | None = None
    map_file: Path | None = None


@dataclass(frozen=True)
class Task:
    """
    One run over one sequence.

    :param source: what ``open_sequence`` takes.
    :param folder: for its files.
    :param settings: :class:`Settings`.
    """

    source: str
    folder: Path
    settings: Settings

    def __str__(self):
        """Return what a progress bar shows."""
        run = self.folder.name.startswith('run_')
        return '/'.join(self.folder.parts[-2:]) if run else self.folder.name


def read_settings(args):
    """Return the :class:`Settings` of a command line; EvaluationError for what does not go together."""
    matcher = args.matcher or ('lightglue' if args.features == 'model' else 'nearest')
    if args.features != 'model' and (args.model is not None or matcher == 'lightglue'):
        raise EvaluationError(
            f'--features {args.features} goes with --matcher nearest and without --model: '
            'LightGlue is trained for the descriptors of the network'
        )
    if args.max_keypoints is not None and args.max_keypoints < 1:
        raise EvaluationError(f'--max-keypoints must be positive, it is {args.max_keypoints}')
    if args.repeat < 1 or args.jobs < 0:
        raise EvaluationError('--repeat must be at least 1, and --jobs at least 0 (one per core)')
    return Settings(
        args.features,
        args.model,
        matcher,
        args.matcher_model,
        args.engine,
        args.max_keypoints,
        read_odometry_parameters(args),
        args.frames,
        read_lengths(args.segment_lengths),
        at_once=0 if args.one_by_one else images_at_once(args.features, cores()),
        places=read_place_parameters(args),
        map_file=args.save_map,
    )


def images_at_once(features, threads):
    """Return how many images to perceive at a time; OpenCV's detectors take one."""
    return min(threads, MOST_AT_ONCE) if features == 'model' else 1


def read_odometry_parameters(args):
    """Return the :class:`OdometryParameters` of a command line; EvaluationError for what contradicts."""
    given = odometry.read_parameters(args.params_file) if args.params_file else OdometryParameters()
    own = {'scale_source': args.scale_source, 'camera_height': args.camera_height}
    given = replace(given, **{name: value for name, value in own.items() if value is not None})
    if given.scale_source == 'camera_height' and args.features != 'model':
        raise EvaluationError(
            '--scale-source camera_height needs the classes of the network: use --features model'
        )
    check(given)
    return given


def read_place_parameters(args):
    """Return the :class:`PlaceParameters` of a command line, None when loops are not asked for."""
    if args.save_map is not None and (args.repeat > 1 or len(args.sequence) > 1):
        raise EvaluationError('--save-map takes the map of one run over one sequence')
    if args.place_params_file is not None:
        return odometry.read_parameters(args.place_params_file, PlaceParameters)
    return PlaceParameters() if args.loops or args.save_map is not None else None


def read_lengths(texts):
    """Return lengths of sub-paths in metres, or 'auto'."""
    if not texts:
        return KITTI_LENGTHS_M
    if texts == [AUTO]:
        return AUTO
    try:
        lengths = tuple(float(text) for text in texts)
        if not all(0 < length < float('inf') for length in lengths):
            raise ValueError
    except ValueError:
        raise EvaluationError(
            f"--segment-lengths takes metres, or '{AUTO}'; it has '{' '.join(texts)}'"
        ) from None
    return lengths


def run(args):
    """
    Evaluate the sequences of a command line.

    :raises MtError: input that cannot be used; with several sequences, after all others were evaluated.
    """
    settings = read_settings(args)
    sources, several = find_sources(args.sequence)
    jobs = min(args.jobs or cores(), len(sources) * args.repeat)
    if not several and args.repeat == 1:
        metrics = evaluate_sequence(Task(sources[0], args.output, settings), show=True)
        odometry.print_results(metrics, args.output)
        return
    if settings.features == 'model':  # one sentence for all, before anything runs
        _tools(settings)
    if jobs > 1:
        threads = max(1, cores() // jobs)
        at_once = settings.at_once and images_at_once(settings.features, threads)
        settings = replace(settings, threads=threads, at_once=at_once)
    output = odometry.make_folder(args.output)
    names = unique_names(sources) if several else ['']
    tasks = [
        Task(source, output / name / (f'run_{k + 1}' if args.repeat > 1 else ''), settings)
        for source, name in zip(sources, names)
        for k in range(args.repeat)
    ]
    outcomes = run_tasks(evaluate_sequence, tasks, jobs)
    results = {}
    for i, name in enumerate(names):
        results[name] = together(outcomes[i * args.repeat : (i + 1) * args.repeat])
        if args.repeat > 1 and 'error' not in results[name]:
            write_json(output / name / 'metrics.json', results[name])
    if several:
        finish(output, settings, results, args.repeat)
    elif 'error' in results['']:
        raise EvaluationError(results['']['error'])
    else:
        odometry.print_results(results[''], output)


def find_sources(arguments):
    """Return the sequences that the arguments name, and whether there may be several."""
    from mt_perception.sequences.opening import find_sequences

    sources, several = [], len(arguments) > 1
    for argument in arguments:
        found, others = find_sequences(argument)
        several |= found != [argument]
        sources += found
        if others:
            print(f"in '{argument}' no sequence, passed over: {', '.join(others)}")
    return sources, several


def unique_names(sources):
    """Return a folder's name for each sequence; a number after it tells equal ones apart."""
    from mt_perception.sequences.rendered_name import PREFIX, folder_name, parse_name

    names = []
    for source in sources:
        name = Path(source).expanduser().resolve().name
        if source.startswith(PREFIX):
            try:
                name = folder_name(*parse_name(source))
            except SequenceError:  # said when it is opened
                name = source.replace(':', '_')
        first, count = name, 1
        while name in names:
            count += 1
            name = f'{first}_{count}'
        names.append(name)
    return names


@lru_cache(maxsize=1)
def _tools(settings):
    """Return features and matcher; several sequences in one process share them."""
    features = odometry.make_features(settings)
    return features, odometry.make_matcher(settings.matcher, settings)


def evaluate_sequence(task, report=None, show=False):
    """
    Run the odometry over one sequence and write its files.

    :param task: :class:`Task`.
    :param report: called with (frames done, frames).
    :param show: a progress bar of its own.
    :return: its metrics, as written.
    :raises MtError: input that cannot be used; nothing is written then.
    """
    from mt_perception.sequences import open_sequence

    settings = task.settings
    sequence = open_sequence(task.source, frames=settings.frames)
    if sequence.camera is None:
        raise EvaluationError(f"sequence '{task.source}' has no camera calibration, which odometry needs")
    features, matcher = _tools(settings)
    collector = None
    if settings.places is not None:
        places.check_features(features, f'--features {settings.features}')
        collector = places.KeyframeCollector(sequence.camera)
    output = odometry.make_folder(task.folder)
    if settings.parameters.scale_source != 'rgbd':
        sequence.skip_depth()
    outcome = odometry.follow(
        sequence, features, matcher, settings.parameters, show, report, collector, settings.at_once
    )
    metrics, scored = odometry.score(sequence, outcome, settings.lengths)
    if collector is not None:
        closed = places.close_loops(
            collector.keyframes, outcome.stamps, outcome.poses, matcher, settings.places, show
        )
        places.score_loops(sequence, outcome, closed, metrics, odometry.compare)
        places.write_loops(output, metrics, outcome, closed, scored)
        if settings.map_file is not None:
            closed.places.save(settings.map_file)
    metrics = {
        'sequence': sequence.name,
        'features': settings.features,
        'model': features.metadata.model_id if settings.features == 'model' else None,
        'matcher': settings.matcher,
        **metrics,
        'machine': describe_machine(),
    }
    odometry.write(output, metrics, outcome, scored, sequence)
    return plain(metrics)


def together(outcomes):
    """Return the metrics of the runs of one sequence as one, or {'error': sentence}."""
    for outcome in outcomes:
        if outcome.error is not None:
            return {'error': outcome.error}
    return outcomes[0].value if len(outcomes) == 1 else summarize([outcome.value for outcome in outcomes])


def finish(output, settings, results, repeat):
    """Write and print what stands over all sequences; EvaluationError when some failed."""
    from mt_perception.evaluation.plots import plot_overview

    plot_overview(output, results, output / 'trajectories.png', 'run_1' if repeat > 1 else '')
    with whole_file(output / 'table.md') as beside:
        beside.write_text(markdown_table(results), encoding='utf-8')
    write_json(
        output / 'metrics.json',
        {
            'features': settings.features,
            'matcher': settings.matcher,
            'sequences': results,
            'machine': describe_machine(),
        },
    )
    print(f'{settings.features} + {settings.matcher}')
    print(plain_table(results))
    print(f'written: {output / "metrics.json"}, table.md, trajectories.png, and a folder for each sequence')
    failed = [name for name, one in results.items() if 'error' in one]
    if failed:
        raise EvaluationError(
            f'{len(failed)} of {len(results)} sequences failed, see the table: {", ".join(failed)}'
        )
