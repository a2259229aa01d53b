"""Runs the nodes on a sequence and records what comes out."""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError, MtError
from mt_perception.inference.contract import read_model
from mt_perception.inference.models import default_matcher, default_model
from mt_perception.nodes.conversions import stamp_from_seconds, stamp_key
from mt_perception.nodes.recorder import FrameRecord, Recorder
from mt_perception.nodes.system import System
from mt_perception.sequences import open_sequence

SPARE_FRAMES = 3  # of a picture's frame and the ones after it, the first that came through is shown
MATCH_GAP = 5  # frames between the two images of a pair of matches
READ_AHEAD_BYTES = 256 * 2**20
FULL_HD_BYTES = 1920 * 1080 * 3  # of an image whose size is not known beforehand
IN_FLIGHT = 2  # images without a result: both nodes are busy, and none drops an image


@dataclass
class Recording:
    """
    One run of the system on one sequence.

    :param source: what ``--sequence`` said.
    :param sequence: :class:`mt_perception.sequences.base.Sequence`, the frames that were played.
    :param frames: one :class:`FrameRecord` per frame of the sequence; ``published_ns`` is 0 where the player
        did not get to.
    :param metadata: of the perception model.
    :param matcher: (name, model path or None) for matches shown.
    :param stage_ms: {node: {stage: {'p50': ms, …}}}.
    :param values: {node: {key: text}}, the last diagnostics.
    :param sentences: {node: last diagnostics sentence}.
    :param map_points: [N,3] float32 in the odometry frame, or None.
    :param pictures: indices of the frames whose masks and depth were kept.
    :param seconds: how long the sequence took to play.
    :param rate: images per second that were asked for.
    :param live: the player did not wait for results.
    """

    source: str
    sequence: object
    frames: list
    metadata: object
    matcher: tuple
    stage_ms: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    sentences: dict = field(default_factory=dict)
    map_points: np.ndarray = None
    pictures: list = field(default_factory=list)
    seconds: float = 0.0
    rate: float = 0.0
    live: bool = False


def run(args):
    """Check the input, run the system, write the report; return the exit status."""
    from mt_perception.demo.report import write_report

    recording_model = read_model(args.model or default_model(), 'perception')
    matcher_model = None
    if args.matcher == 'lightglue':
        matcher_model = args.matcher_model or default_matcher()
        read_model(matcher_model, 'matcher')
    if args.rate < 0 or args.pictures < 1:
        raise EvaluationError('--rate must not be negative, and --pictures at least 1')
    sequence = open_sequence(args.sequence, frames=args.frames)
    make_folder(args.output)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='mt_demo_') as logs:
        try:
            recording = record(args, sequence, recording_model.metadata, matcher_model, Path(logs))
        except MtError:
            keep_logs(Path(logs), args.output)
            raise
        print('writing the report ...', flush=True)
        report = write_report(recording, args.output, time.monotonic() - started)
        keep_logs(Path(logs), args.output)
    print(f'report: {report.resolve()}')
    return 0


def record(args, sequence, metadata, matcher_model, logs):
    """Start the nodes, play the sequence, return the :class:`Recording`."""
    keys = [stamp_key(stamp_from_seconds(stamp)) for stamp in sequence.stamps]
    pictures = picture_indices(len(sequence), args.pictures)
    spare = {keys[i + k] for i in pictures for k in range(SPARE_FRAMES) if i + k < len(keys)}
    paired = {
        keys[i + MATCH_GAP + k]
        for i in pictures
        for k in range(SPARE_FRAMES)
        if i + MATCH_GAP + k < len(keys)
    }
    with_odometry = sequence.camera is not None and 'keypoints' in metadata.tasks
    perception = {'engine': args.engine, **({'model': str(args.model.resolve())} if args.model else {})}
    odometry = {'engine': args.engine, 'matcher': args.matcher}
    if args.matcher_model:
        odometry['matcher_model'] = str(args.matcher_model.resolve())
    with System(logs, perception, odometry if with_odometry else None, args.domain_id) as system:
        recorder = Recorder(system.listener, spare, spare | paired, tuple(metadata.tasks))
        print(
            f'starting the nodes (ROS_DOMAIN_ID={system.domain}; look on with ros2 topic list, rviz2) ...',
            flush=True,
        )
        system.start(subscribers=(2 if with_odometry else 1) if 'keypoints' in metadata.tasks else 0)
        seconds = play(args, system, recorder, sequence, with_odometry)
        recording = Recording(
            source=args.sequence,
            sequence=sequence,
            frames=[recorder.frames.get(key, FrameRecord()) for key in keys],
            metadata=metadata,
            matcher=(args.matcher, matcher_model),
            stage_ms={name: system.stage_ms(name) for name in ('perception', 'visual_odometry')},
            values={name: values for name, (_, values) in system.diagnostics.items()},
            sentences={name: sentence for name, (sentence, _) in system.diagnostics.items()},
            map_points=recorder.map_points,
            pictures=pictures,
            seconds=seconds,
            rate=nominal_rate(args, sequence),
            live=args.live,
        )
    if not any(frame.published_ns for frame in recording.frames):
        raise EvaluationError('no image was heard from the player')
    return recording


def play(args, system, recorder, sequence, with_odometry):
    """Play the sequence to its end, with a progress bar; return the seconds it took."""
    last = (
        'odometry_ns'
        if with_odometry
        else 'keypoints_ns'
        if 'keypoints' in recorder.tasks
        else 'published_ns'
    )
    parameters = {
        'sequence': str(args.sequence),
        'frames': args.frames or '',
        'rate': nominal_rate(args, sequence),
        'in_flight': IN_FLIGHT,
        'step': ('odometry' if with_odometry else 'keypoints')
        if last != 'published_ns' and not args.live
        else 'none',
        'wait_for_info_subscribers': 3 if with_odometry else 2,
        'wait_for_subscribers': 2,
        'read_ahead': read_ahead(sequence),
    }
    phase = 'reading ahead'
    with tqdm(total=len(sequence), desc=phase, unit='image') as bar:

        def watch():
            nonlocal phase
            played = recorder.count('published_ns')
            if played and phase == 'reading ahead':
                phase = 'playing'
                bar.reset()
                bar.set_description(phase, refresh=False)
            done = played or int(system.value('sequence_player', 'images read') or 0)
            bar.update(done - bar.n)
            if played and with_odometry:
                bar.set_postfix_str(
                    f'odometry {system.value("visual_odometry", "odometry") or "waits"}', refresh=False
                )

        system.play_to_end(parameters, recorder, last, watch)
    frames = recorder.in_order()
    if not frames:
        return 0.0
    system.settle(recorder.count(last))
    return (frames[-1][1].published_ns - frames[0][1].published_ns) * 1e-9


def nominal_rate(args, sequence):
    """Return the images per second asked for, or those of the sequence's stamps."""
    if args.rate > 0 or len(sequence) < 2:
        return float(args.rate)
    seconds = float(sequence.stamps[-1] - sequence.stamps[0])
    return min((len(sequence) - 1) / seconds, 1000.0) if seconds > 0 else 0.0


def read_ahead(sequence):
    """Return how many frames the player may hold, so that rendering does not disturb the playing."""
    size = (
        sequence.camera.width * sequence.camera.height * 3 if sequence.camera is not None else FULL_HD_BYTES
    )
    return int(np.clip(READ_AHEAD_BYTES // size, 2, max(len(sequence), 2)))


def picture_indices(frames, pictures):
    """Return which frames are shown: evenly spread, away from the very ends."""
    if frames <= pictures:
        return list(range(frames))
    places = (np.arange(pictures) + 0.5) / pictures * frames
    return sorted({int(place) for place in places})


def make_folder(folder):
    """Make the output folder; raises EvaluationError when that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"output folder '{folder}' cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise EvaluationError(f"output folder '{folder}' cannot be written to")


def keep_logs(logs, output):
    """Copy the nodes' output beside the report."""
    (output / 'logs').mkdir(exist_ok=True)
    for log in logs.iterdir():
        shutil.copyfile(log, output / 'logs' / log.name)
