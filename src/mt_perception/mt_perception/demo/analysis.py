"""Numbers of a recording: coverage, latency, the trajectory against the truth, how alike places look."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.evaluation.trajectory import (
    associate,
    evaluate,
    path_length,
    position_errors,
    transform,
    umeyama,
)
from mt_perception.nodes.frames import OPTICAL_TO_BASE
from mt_perception.nodes.timing import percentiles

MAX_SIMILARITY_FRAMES = 400
INLIER_PX = 1.5


@dataclass
class TrajectoryResult:
    """
    The odometry's poses, with the truth where there is one.

    :param stamps: [N] seconds of the frames whose pose is known.
    :param estimate: [N,4,4] base poses in the odometry frame, aligned with the truth where there is one.
    :param truth: [M,4,4] true base poses of all frames, or None.
    :param truth_stamps: [M] seconds.
    :param errors: [K] position errors in metres of the frames that have both, or None.
    :param error_stamps: [K] seconds.
    :param metrics: the keys of ``evaluate odometry``; empty without a truth.
    :param alignment: what was aligned, in words.
    :param note: why there are no metrics, in one sentence.
    """

    stamps: np.ndarray
    estimate: np.ndarray
    truth: np.ndarray | None = None
    truth_stamps: np.ndarray | None = None
    errors: np.ndarray | None = None
    error_stamps: np.ndarray | None = None
    metrics: dict | None = None
    alignment: str = ''
    note: str = ''


def coverage(recording):
    """Return the counts of frames at each station."""
    frames = [frame for frame in recording.frames if frame.published_ns]
    return {
        'frames': len(frames),
        'frames_perceived': sum(frame.keypoints_ns > 0 for frame in frames),
        'frames_with_odometry': sum(frame.odometry_ns > 0 for frame in frames),
        'frames_tracked': sum(frame.tracked for frame in frames),
        'input_hz': (len(frames) - 1) / recording.seconds if recording.seconds > 0 else 0.0,
    }


def latency_ms(recording, attribute):
    """Return ([N] frame numbers, [N] milliseconds from publishing the image to the result's arrival)."""
    pairs = [
        (number, (getattr(frame, attribute) - frame.published_ns) * 1e-6)
        for number, frame in enumerate(recording.frames)
        if frame.published_ns and getattr(frame, attribute)
    ]
    numbers, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(numbers, int), np.array(values, float)


def latency_metrics(recording):
    """Return {'end_to_end_ms': …, 'odometry_end_to_end_ms': …} of what came out."""
    out = {}
    for key, attribute in (('end_to_end_ms', 'keypoints_ns'), ('odometry_end_to_end_ms', 'odometry_ns')):
        values = latency_ms(recording, attribute)[1]
        if len(values):
            out[key] = percentiles(values)
    return out


def in_base(poses):
    """Turn camera-to-world poses [N,4,4] into base poses in a frame where the first is the identity."""
    relative = np.linalg.inv(poses[0]) @ poses
    return OPTICAL_TO_BASE @ relative @ np.linalg.inv(OPTICAL_TO_BASE)


def in_camera(poses):
    """Turn base poses [N,4,4] into those of the camera's optical frame."""
    return np.linalg.inv(OPTICAL_TO_BASE) @ poses @ OPTICAL_TO_BASE


def trajectory(recording):
    """Return :class:`TrajectoryResult`, None when the odometry gave nothing."""
    sequence = recording.sequence
    tracked = [i for i, frame in enumerate(recording.frames) if frame.pose is not None and frame.tracked]
    if not tracked:
        return None
    stamps = np.asarray(sequence.stamps, np.float64)
    poses = np.stack([recording.frames[i].pose for i in tracked])
    result = TrajectoryResult(stamps[tracked], poses)
    known = [i for i, pose in enumerate(sequence.poses or []) if pose is not None]
    if not known:
        result.note = 'The sequence has no ground truth, so the trajectory stands alone.'
        return result
    result.truth = in_base(np.stack([sequence.poses[i] for i in known]))
    result.truth_stamps = stamps[known]
    pairs = associate(result.stamps, result.truth_stamps)
    metric = recording.values.get('visual_odometry', {}).get('scale') == 'metric'
    try:
        reference, estimate = result.truth[pairs[:, 1]], poses[pairs[:, 0]]
        result.metrics, _ = evaluate(in_camera(reference), in_camera(estimate))
        fit = umeyama(estimate[:, :3, 3], reference[:, :3, 3], with_scale=not metric)
    except EvaluationError as error:
        result.note = f'No error could be computed: {error}.'
        return result
    result.estimate = transform(poses, *fit)
    result.errors = position_errors(reference, result.estimate[pairs[:, 0]])
    result.error_stamps = result.stamps[pairs[:, 0]]
    result.alignment = 'rotation and translation' if metric else 'rotation, translation and scale'
    result.metrics['frames_matched'] = len(pairs)
    return result


def travelled(result):
    """Return the length of the estimated path in metres."""
    return path_length(result.estimate)


def similarity(recording):
    """
    Compare the global descriptors of all frames.

    :return: ([n] frame numbers, [n,n] cosine similarity, [n,n] true distance in metres or None); None without
        descriptors.
    """
    numbers = [i for i, frame in enumerate(recording.frames) if frame.global_descriptor is not None]
    if len(numbers) < 2:
        return None
    numbers = numbers[:: max(1, -(-len(numbers) // MAX_SIMILARITY_FRAMES))]
    descriptors = np.stack([recording.frames[i].global_descriptor for i in numbers])
    poses = recording.sequence.poses
    distance = None
    if poses is not None and all(poses[i] is not None for i in numbers):
        places = np.stack([poses[i][:3, 3] for i in numbers])
        distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    return np.array(numbers), descriptors @ descriptors.T, distance


def agree_with_motion(xy_first, xy_second, camera):
    """
    Tell which matches agree with one rigid motion of the camera (essential matrix, RANSAC).

    :param xy_first: [M,2] pixels.
    :param xy_second: [M,2] pixels.
    :param camera: :class:`mt_perception.camera.Camera`; None = a fundamental matrix is used instead.
    :return: [M] bool.
    """
    if len(xy_first) < 8:
        return np.zeros(len(xy_first), bool)
    cv2.setRNGSeed(0)
    if camera is None:
        _, mask = cv2.findFundamentalMat(xy_first, xy_second, cv2.FM_RANSAC, INLIER_PX, 0.999)
    else:
        rays = [camera.normalize(xy) for xy in (xy_first, xy_second)]
        _, mask = cv2.findEssentialMat(*rays, np.eye(3), cv2.RANSAC, 0.999, INLIER_PX / camera.fx)
    return np.zeros(len(xy_first), bool) if mask is None else mask.ravel().astype(bool)
