"""
``evaluate latency``: how long an image takes through the real nodes and the real middleware.

The sequence player, the perception node and the odometry node run as processes in a DDS domain of their
own. Latency is from the moment the middleware of the player takes the image's camera_info (published just
before the image) to the moment the middleware here has the result; it is measured while images come at
a fixed rate, as in NVIDIA's ros2_benchmark. Throughput is measured in a second pass, in which images go out
as results come back, two at a time, so that no node waits for another.
"""

import tempfile
from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.evaluation.machine import describe_machine
from mt_perception.evaluation.output import print_table, write_json
from mt_perception.writing import whole_file

WARM_UP_FRAMES = 10
MAX_FRAMES = 300


def add_arguments(parser):
    """Declare the command line."""
    parser.add_argument(
        '--sequence', required=True, help='folder, bag, video or rendered:SCENE[:SEED][:VARIANT]'
    )
    parser.add_argument(
        '--frames', default=None, help=f'part of the sequence, A:B (default: the first {MAX_FRAMES})'
    )
    parser.add_argument('--model', default=None, help='perception model (default: the one shipped)')
    parser.add_argument('--matcher', default='lightglue', choices=('lightglue', 'nearest'))
    parser.add_argument('--matcher-model', default=None, help='matcher model (default: the one shipped)')
    parser.add_argument('--engine', default='auto', choices=('auto', 'tensorrt', 'onnxruntime'))
    parser.add_argument('--rate', type=float, default=10.0, help='images per second (default: 10)')
    parser.add_argument(
        '--throughput-frames', type=int, default=60, help='images of the second pass (default: 60)'
    )
    parser.add_argument('--output', type=Path, required=True, help='folder for metrics.json and latency.png')


def run(args):
    """
    Measure, write ``metrics.json`` and ``latency.png``, print a table.

    :return: exit status.
    :raises MtError: input that cannot be used, or a node that ended.
    """
    from mt_perception.inference.contract import read_model
    from mt_perception.inference.models import default_model
    from mt_perception.sequences import open_sequence

    if args.rate <= 0:
        raise EvaluationError(f'--rate must be positive, it is {args.rate:g}')
    read_model(args.model or default_model(), 'perception')
    frames = args.frames or f'0:{min(len(open_sequence(args.sequence)), MAX_FRAMES)}'
    sequence = open_sequence(args.sequence, frames=frames)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"output folder '{args.output}' cannot be made: {error.strerror}") from error
    metrics, series = measure(args, sequence, frames)
    write_json(args.output / 'metrics.json', metrics)
    plot(series, metrics, args.output / 'latency.png')
    print_table(rows(metrics), ('', 'p50', 'p95', 'p99'))
    print(summary(metrics))
    print(f'written: {args.output / "metrics.json"}, {args.output / "latency.png"}')
    return 0


def measure(args, sequence, frames):
    """
    Run both passes.

    :param sequence: opened with ``frames``.
    :return: (metrics, {name: [N] milliseconds per frame}).
    """
    from mt_perception.nodes.recorder import Recorder
    from mt_perception.nodes.system import System

    with_odometry = sequence.camera is not None
    perception = {'engine': args.engine, **({'model': str(args.model)} if args.model else {})}
    odometry = {'engine': args.engine, 'matcher': args.matcher}
    if args.matcher_model:
        odometry['matcher_model'] = str(args.matcher_model)
    player = {
        'sequence': str(args.sequence),
        'read_ahead': 100000,
        'wait_for_info_subscribers': 3 if with_odometry else 2,
    }
    with tempfile.TemporaryDirectory(prefix='mt_latency_') as logs:
        with System(logs, perception, odometry if with_odometry else None) as system:
            recorder = Recorder(system.listener)
            system.start(subscribers=2 if with_odometry else 1)
            play(system, recorder, {**player, 'frames': frames, 'rate': args.rate}, len(sequence), 'live')
            system.settle(recorder.count('keypoints_ns'))
            metrics, series = live_metrics(system, recorder, with_odometry)
            first = int(frames.split(':')[0] or 0)
            count = min(args.throughput_frames, len(sequence))
            stepped = {**player, 'frames': f'{first}:{first + count}', 'in_flight': 2}
            for step, key in (('keypoints', 'max_throughput_hz'), ('odometry', 'max_odometry_hz')):
                if step == 'odometry' and not with_odometry:
                    continue
                recorder.forget()
                play(system, recorder, {**stepped, 'step': step}, count, f'as fast as {step} come')
                metrics[key] = published_hz(recorder)
    metrics['machine'] = describe_machine()
    return metrics, series


def play(system, recorder, parameters, total, name):
    """Play a sequence from its beginning to its end and wait for the last result, with a progress bar."""
    from tqdm import tqdm

    with_odometry = system.value('visual_odometry', 'state') is not None
    last = 'odometry_ns' if with_odometry else 'keypoints_ns'
    system.reset_odometry()
    with tqdm(total=total, desc=name, unit='image') as bar:
        system.play_to_end(
            parameters, recorder, last, lambda: bar.update(recorder.count('published_ns') - bar.n)
        )
    if not recorder.in_order():
        raise EvaluationError('the player ended, and no image was heard from it')


def live_metrics(system, recorder, with_odometry):
    """Return the metrics of the pass at a fixed rate, and the latencies frame by frame."""
    frames_in, frames_out = recorder.count('published_ns'), recorder.count('keypoints_ns')
    if frames_out == 0:
        raise EvaluationError(
            f'{frames_in} images went in and no keypoints came out: '
            f'{system.diagnostics.get("perception", ("",))[0]}'
        )
    skip = WARM_UP_FRAMES if frames_in > 3 * WARM_UP_FRAMES else 0
    stages = {'perception': system.stage_ms('perception')}
    metrics = {
        'input_hz': published_hz(recorder),
        'frames_in': frames_in,
        'frames_out': frames_out,
        'end_to_end_ms': recorder.latency_percentiles('keypoints_ns', skip),
        'inference_ms': stages['perception'].get('inference', {}),
    }
    series = {'keypoints': recorder.latency_ms('keypoints_ns')}
    if with_odometry:
        stages['visual_odometry'] = system.stage_ms('visual_odometry')
        metrics['odometry_frames_out'] = recorder.count('odometry_ns')
        metrics['odometry_end_to_end_ms'] = recorder.latency_percentiles('odometry_ns', skip)
        series['odometry'] = recorder.latency_ms('odometry_ns')
    metrics['warm_up_frames'] = skip
    metrics['stage_ms'] = stages
    metrics['model'] = system.value('perception', 'model')
    metrics['engine'] = system.value('perception', 'engine')
    return metrics, series


def published_hz(recorder):
    """Return images per second from the first to the last."""
    times = [frame.published_ns for _, frame in recorder.in_order()]
    return (len(times) - 1) / ((times[-1] - times[0]) * 1e-9) if len(times) > 1 else 0.0


def rows(metrics):
    """Return the rows of the printed table."""
    lines = [('image → keypoints', metrics['end_to_end_ms'])]
    if 'odometry_end_to_end_ms' in metrics:
        lines.append(('image → odometry', metrics['odometry_end_to_end_ms']))
    for node, stages in metrics['stage_ms'].items():
        lines += [(f'{node}: {stage}', values) for stage, values in stages.items()]
    return [(name, *(f'{values[p]:.1f} ms' for p in ('p50', 'p95', 'p99'))) for name, values in lines]


def summary(metrics):
    """Return the counts and rates as a sentence."""
    text = (
        f'{metrics["frames_out"]} of {metrics["frames_in"]} images came out at {metrics["input_hz"]:.1f} Hz; '
        f'at most {metrics["max_throughput_hz"]:.1f} images a second'
    )
    if 'max_odometry_hz' in metrics:
        text += f', {metrics["max_odometry_hz"]:.1f} with odometry'
    return f'{text} ({metrics["model"]}, {metrics["engine"]})'


def plot(series, metrics, path):
    """Draw latency per frame and its distribution."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for name, values in series.items():
        left.plot(values, '.', markersize=3, label=f'image → {name}')
        right.plot(np.sort(values), np.linspace(0, 1, len(values)), label=f'image → {name}')
    left.set(
        xlabel='frame',
        ylabel='latency in ms',
        ylim=(0, None),
        title=f'{metrics["input_hz"]:.1f} images a second',
    )
    right.set(
        xlabel='latency in ms', ylabel='share of frames', xlim=(0, None), ylim=(0, 1), title='distribution'
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    with whole_file(path) as beside:
        figure.savefig(beside, format='png', dpi=120)
    plt.close(figure)
