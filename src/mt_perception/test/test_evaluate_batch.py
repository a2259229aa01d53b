"""``evaluate odometry`` over several sequences, in parallel and again; its numbers against evo and KITTI."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_perception.evaluation import batch, cli, trajectory
from mt_perception.evaluation.odometry import lost_spans
from mt_perception.evaluation.plots import broken
from mt_perception.evaluation.repeats import summarize
from mt_perception.evaluation.table import markdown_table, plain_table
from mt_perception.odometry import OdometryState
from mt_perception.sequences import open_sequence
from mt_perception.sequences.trajectory_io import read_tum
from mt_perception.sequences.writer import write_sequence
from test_trajectory_metrics import disturbed, rotation_about, winding_path

LONG = 'rendered:room:4:frames=16:width=320:height=240'
SHORT = 'rendered:room:4:frames=12:width=320:height=240'
NAME = 'rendered_room_4_frames16_width320_height240'
ORB = ['--features', 'orb', '--max-keypoints', '300']


def evaluate(*arguments):
    return cli.main(['odometry', *ORB, *map(str, arguments)])


def read(path):
    return json.loads((path / 'metrics.json').read_text())


@pytest.fixture(scope='module')
def evaluated(tmp_path_factory):
    """Two sequences and one that is not there, in two processes."""
    output = tmp_path_factory.mktemp('batch') / 'out'
    status = evaluate('--sequence', LONG, '/no/such', '--sequence', SHORT, '--jobs', 2, '--output', output)
    return status, output


def test_one_that_fails_does_not_lose_the_others(evaluated):
    status, output = evaluated
    assert status == 1
    results = read(output)['sequences']
    long, missing, short = results.values()
    assert list(results) == [NAME, 'such', next(reversed(results))]
    assert "no sequence '/no/such'" in missing['error']
    assert long['frames_tracked'] == 16 and long['ate_rmse_sim3_m'] < 0.1 and short['frames'] == 12
    table = (output / 'table.md').read_text()
    assert '/no/such' in table and NAME in table
    assert (output / 'trajectories.png').read_bytes().startswith(b'\x89PNG')
    assert not (output / 'such').exists()


def test_every_sequence_has_its_own_folder(evaluated):
    _, output = evaluated
    folder = output / NAME
    assert sorted(file.name for file in folder.iterdir()) == [
        'errors.png',
        'ground_truth.txt',
        'metrics.json',
        'segments.png',
        'trajectory.png',
        'trajectory.txt',
    ]
    assert read(folder) == read(output)['sequences'][folder.name]
    assert read(folder)['segment_lengths_m'] == [100, 200, 300, 400, 500, 600, 700, 800]
    assert read(folder)['t_rel_percent'] is None, 'a room is too short for KITTI'


def test_a_process_of_its_own_gives_the_same_trajectory(evaluated, tmp_path, capsys):
    """One sequence alone, in this process: the same poses to the last digit, in the layout of one."""
    _, output = evaluated
    assert evaluate('--sequence', LONG, '--segment-lengths', 0.2, 0.4, '--output', tmp_path) == 0
    parallel = output / NAME / 'trajectory.txt'
    assert (tmp_path / 'trajectory.txt').read_text() == parallel.read_text()
    metrics = read(tmp_path)
    assert metrics['segment_lengths_m'] == [0.2, 0.4] and metrics['t_rel_percent'] > 0
    assert 'repeat' not in metrics and metrics['sequence'] == parallel.parent.name
    assert 'frames tracked' in capsys.readouterr().out


def test_repeats_give_median_and_spread(tmp_path):
    assert evaluate('--sequence', SHORT, '--repeat', 3, '--output', tmp_path) == 0
    whole, runs = read(tmp_path), [read(tmp_path / f'run_{k}') for k in (1, 2, 3)]
    fps = sorted(run['fps'] for run in runs)
    assert whole['repeat'] == 3 and whole['fps'] == fps[1] and whole['spread']['fps'] == [fps[0], fps[2]]
    p95 = sorted(run['stage_ms']['odometry']['p95'] for run in runs)
    assert whole['stage_ms']['odometry']['p95'] == p95[1]
    assert whole['spread']['stage_ms']['odometry']['p95'] == [p95[0], p95[2]]
    assert whole['frames'] == 12 and whole['spread']['frames'] == [12, 12]
    assert len({(tmp_path / f'run_{k}' / 'trajectory.txt').read_text() for k in (1, 2, 3)}) == 1


def test_a_folder_of_sequences(tmp_path, capsys):
    """All that are sequences inside are evaluated; what is passed over is named."""
    folder = tmp_path / 'drives'
    for name, part in (('b', '0:6'), ('a', '6:12')):
        write_sequence(open_sequence(SHORT, frames=part), folder / name, 'images')
    (folder / 'notes').mkdir()
    assert evaluate('--sequence', folder, '--output', tmp_path / 'out') == 0
    assert list(read(tmp_path / 'out')['sequences']) == ['a', 'b']
    printed = capsys.readouterr().out
    assert 'passed over: notes' in printed and '\na ' in printed


def test_equal_names_get_a_number():
    assert batch.unique_names(['/x/03', '/y/03', 'rendered:room:noise=2', '/z/03']) == [
        '03',
        '03_2',
        'rendered_room_0_noise2',
        '03_3',
    ]


@pytest.mark.timeout(400)
def test_ctrl_c_ends_all_processes(tmp_path):
    """Exit status 130, one sentence, nobody left behind, nothing half written."""
    code = 'import sys; from mt_perception.evaluation import cli; sys.exit(cli.main(sys.argv[1:]))'
    output = tmp_path / 'out'
    long = [f'rendered:room:{seed}:frames=5000:width=96:height=72' for seed in (1, 2)]
    command = [
        sys.executable,
        '-c',
        code,
        'odometry',
        *ORB,
        '--sequence',
        *long,
        '--jobs',
        '2',
        '--output',
        output,
    ]
    source = str(Path(sys.modules['mt_perception'].__file__).parents[1])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([source, os.environ.get('PYTHONPATH', '')]))
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    try:
        wait_for(lambda: output.is_dir() and len(list(output.iterdir())) == 2, 240)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=90)[1]
        assert process.returncode == 130
        assert error.splitlines()[-1] == 'evaluate: interrupted; only what was finished is written'
        assert 'Traceback' not in error
        wait_for(lambda: not group_exists(process.pid), 20)
        assert not [file for file in output.rglob('*') if file.is_file()]
    finally:
        if group_exists(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.1)


def group_exists(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--repeat', '0'], '--repeat must be at least 1'),
        (['--jobs', '-1'], '--jobs at least 0'),
        (['--segment-lengths', '5', 'long'], "--segment-lengths takes metres, or 'auto'"),
        (['--segment-lengths', '-5'], 'takes metres'),
        (['--sequence', 'rendered:moon'], '1 of 2 sequences failed'),
    ],
)
def test_a_user_s_mistake_is_one_sentence(arguments, message, tmp_path, capsys):
    short = 'rendered:room:4:frames=3:width=96:height=72'
    assert evaluate('--sequence', short, *arguments, '--output', tmp_path / 'out') == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('evaluate: ') and message in error


def test_median_and_spread_by_hand():
    runs = [
        {'n': 3, 'a': {'b': 1.5}, 'name': 'x', 'none': None, 'some': None, 'ok': True, 'spans': [[1, 2]]},
        {'n': 5, 'a': {'b': 0.5}, 'name': 'x', 'none': None, 'some': 2.0, 'ok': True, 'spans': []},
        {'n': 4, 'a': {'b': 9.0}, 'name': 'x', 'none': None, 'some': 4.0, 'ok': True, 'spans': []},
    ]
    assert summarize(runs) == {
        'n': 4,
        'a': {'b': 1.5},
        'name': 'x',
        'none': None,
        'some': 3.0,
        'ok': True,
        'spans': None,
        'repeat': 3,
        'spread': {'n': [3, 5], 'a': {'b': [0.5, 9.0]}, 'some': [2.0, 4.0]},
    }


def test_the_table_shows_spread_and_sentences(evaluated):
    _, output = evaluated
    one = dict(read(output)['sequences'][NAME])
    one |= {'ate_rmse_sim3_m': 0.5, 'spread': {'ate_rmse_sim3_m': [0.25, 0.75], 'keyframes': [3, 3]}}
    results = {'one': one, 'other': {'error': 'it | failed'}}
    lines = plain_table(results).splitlines()
    assert '0.500 (0.250–0.750)' in lines[2] and '16 of 16' in lines[2] and 'n/a' in lines[2]
    assert lines[3] == 'other     it | failed'
    rows = markdown_table(results).splitlines()
    counts = [line.replace('\\|', '').count('|') for line in rows]
    assert len(set(counts)) == 1 and 'it \\| failed' in rows[3]


def test_spans_without_a_pose():
    t, w, n = OdometryState.TRACKING, OdometryState.LOST, OdometryState.INITIALIZING
    assert lost_spans([n, n, t, t, w, w, t, n, t, w]) == [[4, 5], [7, 7], [9, 9]]
    assert lost_spans([n, n]) == [] and lost_spans([]) == []


def test_files_give_evo_the_same_numbers(evaluated):
    """evo_ape and evo_rpe on trajectory.txt and ground_truth.txt say what metrics.json says."""
    pytest.importorskip('evo', reason='evo is not installed (pip install evo): nothing to compare with')
    from evo.core import metrics as evo_metrics
    from evo.core import sync
    from evo.tools import file_interface

    _, output = evaluated
    folder = output / NAME
    ours = read(folder)
    files = [
        file_interface.read_tum_trajectory_file(str(folder / f))
        for f in ('ground_truth.txt', 'trajectory.txt')
    ]

    def value(metric, statistic=evo_metrics.StatisticsType.rmse, scale=True):
        truth, estimate = sync.associate_trajectories(*files)
        _, _, factor = estimate.align(truth, correct_scale=scale)
        metric.process_data((truth, estimate))
        return metric.get_statistic(statistic), factor

    position, angle = evo_metrics.PoseRelation.translation_part, evo_metrics.PoseRelation.rotation_angle_deg
    assert ours['ate_rmse_m'] == pytest.approx(value(evo_metrics.APE(position), scale=False)[0], rel=1e-4)
    ate, factor = value(evo_metrics.APE(position))
    assert ours['ate_rmse_sim3_m'] == pytest.approx(ate, rel=1e-4)
    assert ours['scale_ratio'] == pytest.approx(1 / factor, rel=1e-6)
    largest = value(evo_metrics.APE(position), evo_metrics.StatisticsType.max)[0]
    assert ours['ate_max_sim3_m'] == pytest.approx(largest, rel=1e-4)
    for relation, key in ((position, 'rpe_trans_m'), (angle, 'rpe_rot_deg')):
        one = evo_metrics.RPE(relation, delta=1, delta_unit=evo_metrics.Unit.frames, all_pairs=True)
        assert ours[key] == pytest.approx(value(one)[0], rel=1e-3), 'TUM files have finite digits'


def devkit(truth, estimate, lengths, step=10):
    """KITTI's evaluate_odometry.cpp, written down step by step from its definition."""
    distance = [0.0]
    for a, b in zip(truth, truth[1:]):
        distance.append(distance[-1] + float(np.sqrt(((a[:3, 3] - b[:3, 3]) ** 2).sum())))
    rows = []
    for first in range(0, len(truth), step):
        for length in lengths:
            last = next((i for i in range(first, len(truth)) if distance[i] > distance[first] + length), None)
            if last is None:
                continue
            error = np.linalg.inv(np.linalg.inv(estimate[first]) @ estimate[last]) @ (
                np.linalg.inv(truth[first]) @ truth[last]
            )
            angle = np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1))
            rows.append((first, last, length, np.linalg.norm(error[:3, 3]) / length, angle / length))
    return np.array(rows)


@pytest.mark.parametrize('lengths', [(100, 200), (5, 17.5, 40)])
def test_segments_are_kittis(lengths):
    """Errors of every sub-path, and their means, as the benchmark defines them; with short lengths too."""
    truth = winding_path(260, 0.9)
    estimate = disturbed(truth)
    expected = devkit(truth, estimate, lengths)
    segments = trajectory.kitti_segments(truth, estimate, lengths)
    assert np.array_equal(np.c_[segments.first, segments.last, segments.length], expected[:, :3])
    np.testing.assert_allclose(np.c_[segments.translation, segments.rotation], expected[:, 3:], rtol=1e-7)
    t_rel, r_rel = trajectory.kitti_errors(truth, estimate, lengths)
    assert t_rel == pytest.approx(100 * expected[:, 3].mean())
    assert r_rel == pytest.approx(100 * np.degrees(expected[:, 4].mean()))


def test_lengths_for_short_paths():
    assert trajectory.short_lengths(250.0) == trajectory.KITTI_LENGTHS_M
    assert trajectory.short_lengths(16.0) == (2, 4, 6, 8, 10, 12, 14)
    assert trajectory.short_lengths(0.0) == ()
    assert batch.read_lengths(['auto']) == 'auto' and batch.read_lengths(['5', '2.5']) == (5.0, 2.5)
    with pytest.raises(EvaluationError, match='takes metres'):
        batch.read_lengths(['inf'])


def test_lines_are_broken_where_frames_are_missing():
    stamps, values = broken([0.0, 0.1, 0.2, 0.9, 1.0], [[1], [2], [3], [4], [5]])
    np.testing.assert_array_equal(values[:, 0], [1, 2, 3, np.nan, 4, 5])
    np.testing.assert_array_equal(stamps, [0.0, 0.1, 0.2, np.nan, 0.9, 1.0])
    assert len(broken([], np.zeros((0, 3)))[1]) == 0


def test_local_scale_follows_a_scale_that_changes():
    truth = winding_path(200)
    estimate = truth.copy()
    steps = np.diff(truth[:, :3, 3], axis=0) * np.where(np.arange(199) < 100, 1.0, 0.5)[:, None]
    estimate[1:, :3, 3] = np.cumsum(steps, 0)
    scale = trajectory.local_scale(truth, estimate, 20)
    np.testing.assert_allclose(scale[:89], 1, rtol=1e-6)
    np.testing.assert_allclose(scale[111:], 0.5, rtol=1e-6)
    standing = np.tile(np.eye(4), (10, 1, 1))
    assert np.isnan(trajectory.local_scale(standing, standing, 4)).all()


def test_drift_while_standing():
    """Two stops of 3 s; the estimate creeps 2 cm and turns 0.3° in the second; driving does not count."""
    truth = np.tile(np.eye(4), (90, 1, 1))
    truth[:, 2, 3] = np.r_[np.zeros(30), np.arange(1, 31), np.full(30, 30.0)]
    estimate = truth.copy()
    estimate[60:, 0, 3] = np.linspace(0, 0.02, 30)
    estimate[75, :3, :3] = rotation_about([0, 1, 0], np.radians(0.3))
    stamps = np.arange(90) / 10
    assert trajectory.standing_spans(stamps, truth) == [(0, 29), (59, 89)]
    metres, degrees = trajectory.standing_drift(stamps, truth, estimate)
    assert metres == pytest.approx(0.02) and degrees == pytest.approx(0.3)
    assert trajectory.standing_drift(stamps[30:60], truth[30:60], estimate[30:60]) == (None, None)


def test_ground_truth_beside_the_trajectory(evaluated):
    """The written ground truth is the sequence's own."""
    _, output = evaluated
    folder = output / NAME
    stamps, poses = read_tum(folder / 'ground_truth.txt')
    sequence = open_sequence(LONG)
    np.testing.assert_allclose(stamps, sequence.stamps)
    np.testing.assert_allclose(poses, sequence.poses, atol=1e-6)
