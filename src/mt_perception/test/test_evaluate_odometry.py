"""``evaluate odometry``: what it writes, what it says about bad input, and a short real drive."""

import json
import time

import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import cli
from mt_perception.evaluation import odometry as evaluation
from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters
from mt_perception.sequences.base import Sequence, SequenceFrame
from mt_perception.sequences.trajectory_io import read_tum
from mt_perception.types import Perception
from synthetic_world import World, drive

KEYS = {
    'frames',
    'frames_tracked',
    'path_length_m',
    'ate_rmse_m',
    'ate_rmse_sim3_m',
    'scale_ratio',
    't_rel_percent',
    'r_rel_deg_per_100m',
    'rpe_trans_m',
    'rpe_rot_deg',
    'fps',
    'stage_ms',
}


class WorldSequence(Sequence):
    """A drive through a :class:`World`; images are black, keypoints come from :class:`WorldFeatures`."""

    name = 'world'

    def __init__(self, n=25, with_truth=True):
        self.world = World()
        self.camera = self.world.camera
        self.stamps = np.arange(n) * 0.1
        self.path = drive(n)
        self.poses = self.path if with_truth else None

    def __len__(self):
        return len(self.path)

    def __getitem__(self, index):
        return SequenceFrame(
            index, self.stamps[index], np.zeros((480, 640, 3), np.uint8), self.camera, self.path[index]
        )


class WorldFeatures:
    """Keypoints of the frames of a :class:`WorldSequence`, one after the other."""

    def __init__(self, sequence):
        self.sequence = sequence
        self.number = 0

    def process(self, image, camera=None, tasks=None):
        keypoints = self.sequence.world.image(self.sequence.path[self.number], self.number, depth_noise=0.1)
        self.number += 1
        return Perception((640, 480), keypoints=keypoints, timings_ms={'inference': 1.0})


def evaluate(sequence, folder):
    """Run and write as the command does; return what metrics.json holds."""
    outcome = evaluation.follow(sequence, WorldFeatures(sequence), NearestMatcher(), progress=False)
    metrics, scored = evaluation.score(sequence, outcome)
    metrics = {'sequence': sequence.name, 'features': 'world', 'matcher': 'nearest', **metrics}
    evaluation.write(folder, metrics, outcome, scored)
    evaluation.print_results(metrics, folder)
    return json.loads((folder / 'metrics.json').read_text())


def test_everything_is_written(tmp_path, capsys):
    """All keys of the contract with sensible values, a trajectory that reads back, two pictures, a table."""
    sequence = WorldSequence()
    metrics = evaluate(sequence, tmp_path)
    assert set(metrics) >= KEYS
    assert metrics['frames'] == metrics['frames_tracked'] == 25
    assert metrics['ate_rmse_sim3_m'] <= metrics['ate_rmse_m'] < 0.5
    assert metrics['scale_ratio'] == pytest.approx(1, abs=0.05) and metrics['metric'] is True
    assert metrics['t_rel_percent'] is None, 'shorter than 100 m'
    assert metrics['fps'] > 0
    assert metrics['movable_share'] == 0, 'no class is movable here'
    for name in ('inference', 'match', 'odometry'):
        assert 0 <= metrics['stage_ms'][name]['p50'] <= metrics['stage_ms'][name]['p95']
    stamps, poses = read_tum(tmp_path / 'trajectory.txt')
    np.testing.assert_allclose(stamps, sequence.stamps)
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-6)
    for name in ('trajectory.png', 'errors.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'errors.png',
        'metrics.json',
        'segments.png',
        'trajectory.png',
        'trajectory.txt',
    ]
    table = capsys.readouterr().out
    assert 'frames tracked' in table and '25 of 25' in table


class PlacedFeatures(WorldFeatures):
    """The same for any order of the images: each says in its first pixels which one it is."""

    def process(self, image, camera=None, tasks=None):
        number = int(image[0, 0, 0])
        time.sleep(0.02 if number % 3 == 0 else 0.0)  # the next ones overtake
        keypoints = self.sequence.world.image(self.sequence.path[number], number, depth_noise=0.1)
        return Perception((640, 480), keypoints=keypoints, timings_ms={'inference': 1.0})


class NumberedSequence(WorldSequence):
    """Images that say which one they are."""

    def __getitem__(self, index):
        frame = super().__getitem__(index)
        frame.image[0, 0, 0] = index
        return frame


def test_perception_ahead_of_odometry_changes_nothing():
    """Poses and states are the same to the last bit, however many images are worked on at a time."""
    runs = []
    for at_once in (0, 1, 3):
        sequence = NumberedSequence()
        features = PlacedFeatures(sequence)
        runs.append(evaluation.follow(sequence, features, NearestMatcher(), progress=False, at_once=at_once))
    for run in runs[1:]:
        np.testing.assert_array_equal(run.poses, runs[0].poses)
        assert [(r.stamp, r.state, r.n_inliers) for r in run.results] == [
            (r.stamp, r.state, r.n_inliers) for r in runs[0].results
        ]


def test_without_ground_truth_there_are_no_errors_but_speed(tmp_path):
    """Null, not NaN and not zero; the JSON is strict."""
    metrics = evaluate(WorldSequence(with_truth=False), tmp_path)
    assert metrics['frames_tracked'] == 25 and metrics['fps'] > 0 and metrics['stage_ms']
    for key in KEYS - {'frames', 'frames_tracked', 'fps', 'stage_ms'}:
        assert metrics[key] is None
    text = (tmp_path / 'metrics.json').read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))


def test_a_sequence_that_cannot_be_tracked_still_gets_its_metrics(tmp_path):
    """Standing still: nothing to align, so the errors are null with the reason beside them."""
    sequence = WorldSequence()
    sequence.path = sequence.poses = [sequence.path[0]] * 25
    metrics = evaluate(sequence, tmp_path)
    assert metrics['frames_tracked'] == 0 and metrics['ate_rmse_m'] is None
    assert metrics['path_length_m'] == 0 and 'align' in metrics['note']


def test_node_parameters_are_read_from_the_node_s_own_file(tmp_path):
    """The same file configures the node and the evaluation; what is not the core's is left alone."""
    file = tmp_path / 'parameters.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    window: 5\n    search_radius_px: 12\n    odom_frame: odom\n'
    )
    parameters = evaluation.read_parameters(file)
    assert parameters == OdometryParameters(window=5, search_radius_px=12.0)
    file.write_text('/**:\n  ros__parameters:\n    window: wide\n')
    with pytest.raises(EvaluationError, match="'window'.*must be a whole number"):
        evaluation.read_parameters(file)
    for text in ('window: 5', '[1, 2]', 'a: {b', ''):
        file.write_text(text)
        with pytest.raises(EvaluationError, match='not a ROS parameter file'):
            evaluation.read_parameters(file)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--sequence', '/no/such/folder', '--features', 'orb'], '/no/such/folder'),
        (['--sequence', 'rendered:street', '--features', 'orb', '--matcher', 'lightglue'], 'nearest'),
        (['--sequence', 'rendered:street', '--features', 'orb', '--max-keypoints', '0'], 'positive'),
        (['--sequence', 'rendered:street', '--features', 'orb', '--params-file', '/no/file'], '/no/file'),
    ],
)
def test_a_user_s_mistake_is_one_sentence(arguments, message, tmp_path, capsys):
    """Exit status 1, one line on stderr, nothing written."""
    output = tmp_path / 'out'
    assert cli.main(['odometry', *arguments, '--output', str(output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith('evaluate: ') and message in error and error.count('\n') == 1
    assert not output.exists()


def test_a_real_drive_with_orb(shared, tmp_path):
    """The first 15 frames of a KITTI drive (18 m) are followed within 20 cm."""
    sequence = shared / 'data' / 'kitti_short_1'
    arguments = [
        '--sequence',
        str(sequence),
        '--frames',
        '0:15',
        '--features',
        'orb',
        '--output',
        str(tmp_path),
    ]
    assert cli.main(['odometry', *arguments]) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['frames_tracked'] == metrics['frames'] == 15
    assert metrics['path_length_m'] == pytest.approx(16.7, abs=0.5)
    assert metrics['ate_rmse_sim3_m'] < 0.2
