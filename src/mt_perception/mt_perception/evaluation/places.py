"""Loops after the odometry, with the same core as the node: what ``evaluate odometry --loops`` adds."""

from dataclasses import dataclass, replace

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.odometry.geometry import inverse
from mt_perception.odometry.metric_scale import without_scale
from mt_perception.place_recognition import Keyframe, PlaceRecognition, View
from mt_perception.place_recognition.similarity import angle_of

LOOP_KEYS = ('loops', 'loops_accepted', 'loops_false', 'ate_rmse_m_closed', 'ate_rmse_sim3_m_closed')
AROUND = 3  # keyframes before and after one that tell how its unit has changed
FALSE_ANGLE_DEG = 5.0  # a loop that turns by more against the truth is false …
FALSE_SHARE = 0.25  # … and one that lies off by more than this share of the distance of the scene


class KeyframeCollector:
    """Collects the keyframes while odometry runs: keypoints with depths as the map knew them then."""

    def __init__(self, camera):
        """:param camera: :class:`Camera` of the images."""
        self.camera = camera
        self.keyframes = []

    def take(self, odometry, result, descriptor):
        """
        Take the keyframe that a frame has become, if it has.

        :param odometry: :class:`VisualOdometry`, finished with the frame.
        :param result: its :class:`OdometryResult` of the frame.
        :param descriptor: [G] global descriptor of the image.
        """
        mapped = odometry.newest_keyframe() if result.is_keyframe else None
        if mapped is None or mapped.stamp != result.stamp:
            return
        view = View.create(mapped.stamp, mapped.keypoints, self.camera, descriptor)
        covariance = without_scale(result.covariance, result.pose[:3, 3], result.scale_sigma)
        self.keyframes.append(Keyframe(mapped.stamp, result.pose, covariance, view, metric=mapped.metric))


@dataclass
class Closed:
    """
    A trajectory after closing its loops.

    :param places: :class:`PlaceRecognition` with the map.
    :param poses: [N,4,4] of all frames of the run, corrected.
    :param verified: loops that the geometry of two images confirmed.
    :param scored: as :class:`mt_perception.evaluation.odometry.Scored`, of the corrected poses, or None.
    """

    places: PlaceRecognition
    poses: np.ndarray
    verified: int
    scored: object = None

    @property
    def accepted(self):
        """The loops that count."""
        graph = self.places.graph
        return [loop for loop, right in zip(graph.loops, graph.right) if right]


def close_loops(keyframes, stamps, poses, matcher, parameters=None, progress=True):
    """
    Run place recognition over the keyframes of a run.

    :param keyframes: list of :class:`Keyframe`.
    :param stamps: [N] seconds of all frames.
    :param poses: [N,4,4] of all frames as odometry knows them at the end.
    :param matcher: :class:`Matcher`.
    :param parameters: :class:`PlaceParameters`.
    :param progress: show a bar on stderr.
    :return: :class:`Closed`.
    """
    from tqdm import tqdm

    places = PlaceRecognition(matcher, parameters)
    verified = 0
    for keyframe in tqdm(
        as_known_in_the_end(keyframes, stamps, poses), desc='loops', unit='keyframe', disable=not progress
    ):
        verified += places.add(keyframe).verified
    if places.graph.loops:
        places.graph.optimize()
    return Closed(places, places.graph.correct(stamps, poses), verified)


def as_known_in_the_end(keyframes, stamps, poses):
    """
    Return keyframes with the poses that odometry gives them in the end, and depths in the same unit.

    The unit of depths and poses at one time is one, but odometry learns its scale on the way: what a step has
    become longer by, over a few keyframes around, the depths do, too.

    :param keyframes: list of :class:`Keyframe` as they were made.
    :param stamps: [N] seconds of all frames.
    :param poses: [N,4,4] of all frames.
    """
    if not keyframes:
        return []
    known = dict(zip(stamps.tolist(), poses))
    final = [known.get(keyframe.stamp, keyframe.pose) for keyframe in keyframes]
    before, after = (
        np.linalg.norm(np.diff([pose[:3, 3] for pose in each], axis=0).reshape(-1, 3), axis=1)
        for each in ([keyframe.pose for keyframe in keyframes], final)
    )
    out = []
    for k, (keyframe, pose) in enumerate(zip(keyframes, final)):
        around = slice(max(k - AROUND, 0), k + AROUND)
        was, became = before[around].sum(), after[around].sum()
        factor = became / was if min(was, became) > 0 else 1.0
        out.append(replace(keyframe, pose=pose, view=keyframe.view.scaled(factor)))
    return out


def score_loops(sequence, outcome, closed, metrics, compare):
    """
    Fill in ``LOOP_KEYS``.

    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param closed: :class:`Closed`; gets its ``scored``.
    :param metrics: of the odometry, already there.
    :param compare: function of (sequence, run, metrics) that returns :class:`Scored`.
    """
    metrics.update(dict.fromkeys(LOOP_KEYS))
    metrics['loops'], metrics['loops_accepted'] = closed.verified, len(closed.accepted)
    if metrics['ate_rmse_sim3_m'] is None:
        return
    after = {}
    try:
        closed.scored = compare(sequence, replace(outcome, poses=closed.poses), after)
    except EvaluationError as error:
        metrics['note'] = str(error)
        return
    for key in ('ate_rmse_m', 'ate_rmse_sim3_m'):
        metrics[f'{key}_closed'] = after[key]
    metrics['loops_false'] = count_false(sequence, closed, metrics['scale_ratio'])


def count_false(sequence, closed, scale):
    """
    Count the accepted loops that contradict the ground truth.

    :param scale: units of odometry per metre.
    :return: number, or None where a keyframe of a loop has no ground truth.
    """
    keyframes = closed.places.graph.keyframes
    stamps = np.asarray(sequence.stamps)
    wrong = 0
    for loop in closed.accepted:
        ends = [keyframes[k].stamp for k in (loop.earlier, loop.later)]
        first, second = (sequence.poses[int(np.abs(stamps - stamp).argmin())] for stamp in ends)
        if first is None or second is None:
            return None
        exact = inverse(first) @ second
        turned = np.degrees(angle_of(inverse(exact) @ loop.relation.transform)) > FALSE_ANGLE_DEG
        off = np.linalg.norm(loop.relation.transform[:3, 3] / scale - exact[:3, 3])
        allowed = FALSE_SHARE * loop.relation.distance / scale
        wrong += bool(turned or (loop.relation.has_length and off > allowed))
    return wrong


def check_features(features, name):
    """Refuse features without a global descriptor; EvaluationError."""
    tasks = getattr(features, 'tasks', ())
    if 'global_descriptor' not in tasks:
        raise EvaluationError(
            f'--loops needs a global descriptor of every image, and {name} gives none: use a model with the '
            'task global_descriptor'
        )


def write_loops(output, metrics, outcome, closed, scored):
    """
    Write the corrected trajectory (TUM) and a picture of the loops.

    :param scored: :class:`Scored` of the odometry before closing, or None.
    """
    from mt_perception.evaluation.place_plots import plot_loops
    from mt_perception.sequences.trajectory_io import write_tum

    path = output / 'trajectory_closed.txt'
    write_tum(path, outcome.stamps[outcome.tracked], closed.poses[outcome.tracked])
    plot_loops(metrics, outcome, closed, scored, output / 'loops.png')
