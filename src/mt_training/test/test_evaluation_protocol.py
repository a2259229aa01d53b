"""The HPatches protocol over many pairs, and the files and tables of an evaluation."""

import argparse
import json

import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_perception.matching import NearestMatcher
from mt_perception.matching.base import Matcher, Matches
from mt_perception.types import Keypoints
from mt_training.evaluation.options import parse_range, parse_size
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.planar_protocol import evaluate_pair, groups, homography_accuracy, summarise
from mt_training.evaluation.tables import format_table
from mt_training.metrics.homography import warp_points

SIZE = (640, 480)
HOMOGRAPHY = np.array([[0.9, -0.1, 50.0], [0.1, 0.9, 10.0], [0, 0, 1]])


def keypoints(xy, descriptors):
    """Keypoints of an image of ``SIZE``."""
    return Keypoints.create(xy, np.linspace(1, 0.5, len(xy)), descriptors, SIZE, model_id='test')


def pair(noise=0.0, outliers=0, n=100):
    """Two sets of keypoints under ``HOMOGRAPHY``; the first ``outliers`` are elsewhere in the second."""
    rng = np.random.default_rng(0)
    first = rng.uniform((60, 60), (580, 420), (n, 2))
    second = warp_points(first, HOMOGRAPHY) + rng.normal(0, 1, (n, 2)) * noise
    second[:outliers] = rng.uniform((100, 100), (500, 400), (outliers, 2))
    descriptors = np.eye(n, dtype=np.float32)
    return keypoints(first, descriptors), keypoints(second, descriptors)


def test_a_perfect_pair():
    """Everything right: all numbers at their best in every draw."""
    row, matches = evaluate_pair(*pair(), HOMOGRAPHY, NearestMatcher(-1.0), runs=4)
    assert len(matches) == row['matches'] == row['inliers'] == 100
    assert row['repeatability'] == 1 and row['matching_score'] == 1 and row['mma'] == [1.0] * 10
    assert len(row['corner_error_px']) == 4 and max(row['corner_error_px']) < 0.01
    assert row['rotation_deg'] == pytest.approx(np.degrees(np.arctan2(0.1, 0.9)))


def test_outliers_cost_accuracy_of_matching_only():
    """30 of 100 matches wrong: MMA and matching score 0.7, the homography still right."""
    row, _ = evaluate_pair(*pair(outliers=30), HOMOGRAPHY, NearestMatcher(-1.0), runs=2)
    assert row['mma'][2] == pytest.approx(0.7) and row['matching_score'] == pytest.approx(0.7, abs=0.02)
    assert max(row['corner_error_px']) < 0.01 and row['inliers'] == pytest.approx(70, abs=2)


def test_draws_differ_only_where_there_is_noise():
    """Each draw is another order of the matches, and the same every time."""
    arguments = (*pair(noise=1.5, outliers=40), HOMOGRAPHY, NearestMatcher(-1.0))
    errors = evaluate_pair(*arguments, runs=6)[0]['corner_error_px']
    assert len(set(errors)) > 1
    assert evaluate_pair(*arguments, runs=6)[0]['corner_error_px'] == errors
    assert evaluate_pair(*arguments, runs=1)[0]['corner_error_px'] == errors[:1]


class HalfMatcher(Matcher):
    """Matches every second point with itself, as a matcher that is not sure of the others."""

    name = 'half'

    def match(self, first, second):
        """Match by the place of the one in the descriptor."""
        same = np.flatnonzero((first.descriptors @ second.descriptors.T).max(1) == 1)[::2]
        other = (first.descriptors[same] @ second.descriptors.T).argmax(1)
        return Matches(np.stack([same, other], 1), np.ones(len(same), np.float32))


def test_a_matcher_is_charged_for_what_it_leaves_out():
    """Half of the points matched, all rightly: MMA 1, matching score one half."""
    row, _ = evaluate_pair(*pair(), HOMOGRAPHY, HalfMatcher(), runs=1)
    assert row['mma'][0] == 1 and row['matching_score'] == pytest.approx(0.5)


def test_no_keypoints_is_the_worst_result():
    """An empty set fails the pair without stopping the evaluation."""
    first, second = pair()
    row, _ = evaluate_pair(first, second.select(slice(0, 0)), HOMOGRAPHY, NearestMatcher(-1.0), runs=2)
    assert row['matches'] == 0 and row['repeatability'] == 0 and row['matching_score'] == 0
    assert row['corner_error_px'] == [np.inf, np.inf] and np.isnan(row['localization_error_px'])
    summary = summarise([{**row, 'scene': 'v_a'}])
    assert summary['homography_accuracy'] == {'1': 0, '3': 0, '5': 0}
    assert np.isnan(summary['localization_error_px'])


def test_summary_is_the_mean_over_pairs_and_draws():
    """Accuracy at t counts errors of at most t; the deviation is between draws, the first is also given."""
    row = evaluate_pair(*pair(), HOMOGRAPHY, NearestMatcher(-1.0), runs=2)[0]
    rows = [{**row, 'corner_error_px': errors} for errors in ([0.5, 0.5], [2.0, 4.0], [np.inf, 1.0])]
    accuracy = homography_accuracy(rows)
    np.testing.assert_allclose(accuracy[1], [1 / 3, 2 / 3])
    np.testing.assert_allclose(accuracy[3], [2 / 3, 2 / 3])
    summary = summarise(rows)
    assert summary['homography_accuracy'] == pytest.approx({'1': 0.5, '3': 2 / 3, '5': 5 / 6})
    assert summary['homography_accuracy_std'] == pytest.approx({'1': 1 / 6, '3': 0, '5': 1 / 6})
    assert summary['homography_accuracy_first_draw'] == pytest.approx({'1': 1 / 3, '3': 2 / 3, '5': 2 / 3})
    assert summary['pairs'] == 3


def test_groups():
    """More than 30° or 1.5× is wide; HPatches' scenes tell light from viewpoint by their first letter."""
    rows = [
        {'scene': scene, 'rotation_deg': rotation, 'scale': scale}
        for scene, rotation, scale in (('v_a', 31, 1.0), ('v_b', 5, 1.6), ('i_c', 30, 1.5), ('graf', 0, 1))
    ]
    sizes = {name: len(members) for name, members in groups(rows).items()}
    assert sizes == {'wide': 2, 'narrow': 2, 'viewpoint': 2, 'illumination': 1}


def test_metrics_file_is_json_and_never_half(tmp_path):
    """NaN becomes null, numpy becomes numbers, and a value that cannot be written leaves the old file."""
    output = OutputFolder(tmp_path / 'a/b')
    output.write_metrics({'x': np.float32(0.5), 'y': np.array([1, 2]), 'z': float('nan'), 'path': tmp_path})
    written = json.loads((tmp_path / 'a/b/metrics.json').read_text())
    assert written == {'x': 0.5, 'y': [1, 2], 'z': None, 'path': str(tmp_path)}
    with pytest.raises(TypeError):
        output.write_metrics({'x': object()})
    assert json.loads((tmp_path / 'a/b/metrics.json').read_text()) == written
    assert [p.name for p in (tmp_path / 'a/b').iterdir()] == ['metrics.json']


def test_a_csv_that_cannot_be_replaced_is_one_sentence(tmp_path):
    """A folder in the place of a file is named, and nothing is left beside it."""
    (tmp_path / 'images.csv').mkdir()
    with pytest.raises(EvaluationError, match='images.csv'):
        OutputFolder(tmp_path).write_csv('images.csv', [{'a': 1, 'b': 0.25}])
    assert [p.name for p in tmp_path.iterdir()] == ['images.csv']
    OutputFolder(tmp_path).write_csv('other.csv', [{'a': 1, 'b': 0.25}])
    assert (tmp_path / 'other.csv').read_text() == 'a,b\n1,0.25\n'


def test_table():
    """Numbers stand to the right, what is unknown is a dash."""
    lines = format_table(['class', 'IoU %'], [['sky', 93.4567], ['car', float('nan')]]).splitlines()
    assert lines[0] == 'class   IoU %' and lines[2] == 'sky    93.457' and lines[3] == 'car         -'


def test_option_values():
    """Sizes and ranges as users write them; anything else is refused."""
    assert parse_size('640x480') == (640, 480)
    assert parse_range('320:400') == slice(320, 400) and parse_range('800::4') == slice(800, None, 4)
    for parse, text in ((parse_size, '640'), (parse_size, 'ax4'), (parse_range, '3'), (parse_range, '1:2:0')):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)
