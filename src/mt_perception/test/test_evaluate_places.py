"""``evaluate odometry --loops`` and ``evaluate localization``: what they write and what they refuse."""

import json

import numpy as np
import pytest

from mt_perception.evaluation import cli, localization, odometry, places
from mt_perception.evaluation.output import write_json
from mt_perception.matching import NearestMatcher
from mt_perception.odometry.geometry import se3_exp
from mt_perception.place_recognition import PlaceRecognition
from mt_perception.sequences.base import Sequence, SequenceFrame
from mt_perception.types import Perception
from places_world import Places

LAP, N = 100, 118  # frames


class RingSequence(Sequence):
    """A drive around a ring and a fifth of it again; images are black, the features know the poses."""

    name = 'ring'

    def __init__(self, offset=None, frames=range(N)):
        self.world = Places(radius=10.0, n_points=3000, seed=3)
        self.camera = self.world.world.camera
        self.numbers = list(frames)
        self.stamps = np.array(self.numbers) * 0.1 + (0 if offset is None else 1000)
        offset = np.eye(4) if offset is None else offset
        self.poses = [self.world.pose(2 * np.pi * k / LAP) @ offset for k in self.numbers]
        self.tasks = ('keypoints', 'global_descriptor')
        self._next = 0

    def __len__(self):
        return len(self.poses)

    def __getitem__(self, index):
        image = np.zeros((480, 640, 3), np.uint8)
        return SequenceFrame(index, float(self.stamps[index]), image, self.camera, self.poses[index])

    def process(self, image, camera=None, tasks=None):
        """The features of the next frame."""
        assert 'global_descriptor' in tasks
        pose, number = self.poses[self._next], self.numbers[self._next] + round(self.stamps[0])
        self._next += 1
        keypoints = self.world.world.image(pose, number, depth_noise=0.1)
        descriptor = self.world.descriptor(pose)
        return Perception(
            (640, 480), keypoints=keypoints, global_descriptor=descriptor, timings_ms={'inference': 1.0}
        )


@pytest.fixture(scope='module')
def ring(tmp_path_factory):
    """The ring followed, its loops closed and scored, its files written and its map saved."""
    sequence, folder = RingSequence(), tmp_path_factory.mktemp('ring')
    collector = places.KeyframeCollector(sequence.camera)
    outcome = odometry.follow(sequence, sequence, NearestMatcher(), progress=False, collector=collector)
    metrics, scored = odometry.score(sequence, outcome)
    closed = places.close_loops(
        collector.keyframes, outcome.stamps, outcome.poses, NearestMatcher(), progress=False
    )
    places.score_loops(sequence, outcome, closed, metrics, odometry.compare)
    metrics = {'sequence': 'ring', 'features': 'world', 'matcher': 'nearest', **metrics}
    odometry.write(folder, metrics, outcome, scored)
    places.write_loops(folder, metrics, outcome, closed, scored)
    closed.places.save(folder / 'ring.map')
    return sequence, outcome, closed, metrics, folder


def test_keyframes_get_the_unit_that_odometry_found_in_the_end():
    """Odometry took two metres for one up to the tenth keyframe; where the camera rests, nothing changes."""
    world = Places()
    made = world.keyframes([se3_exp(np.array([0, 0, float(k), 0, 0, 0])) for k in range(20)])
    stamps = np.array([keyframe.stamp for keyframe in made])
    final = np.array([keyframe.pose for keyframe in made])
    final[:, 2, 3] = np.concatenate([np.arange(10) * 2.0, 18 + np.arange(1, 11)])
    before = [keyframe.view.depth.copy() for keyframe in made]
    known = places.as_known_in_the_end(made, stamps, final)
    ratio = [np.nanmedian(new.view.depth / old) for new, old in zip(known, before)]
    np.testing.assert_allclose(ratio[:7], 2, rtol=1e-5)
    np.testing.assert_allclose(ratio[13:], 1, rtol=1e-5)
    assert all(np.diff(ratio) <= 1e-6)
    np.testing.assert_array_equal([keyframe.pose for keyframe in known], final)
    np.testing.assert_array_equal(made[5].pose[2, 3], 5.0)
    still = [made[0]] * 3
    alike = places.as_known_in_the_end(still, stamps, final)
    np.testing.assert_array_equal(alike[0].view.depth, before[0])
    assert places.as_known_in_the_end([], stamps, final) == []


def test_loops_are_closed_and_scored(ring, capsys):
    """More than before: a smaller error, no false loop, a corrected trajectory and a picture."""
    _, outcome, closed, metrics, folder = ring
    assert set(places.LOOP_KEYS) <= set(metrics)
    assert 3 <= metrics['loops_accepted'] <= metrics['loops']
    assert metrics['loops_false'] == 0
    assert metrics['ate_rmse_sim3_m_closed'] < metrics['ate_rmse_sim3_m']
    assert closed.poses.shape == outcome.poses.shape
    rows = np.loadtxt(folder / 'trajectory_closed.txt')
    assert len(rows) == metrics['frames_tracked']
    np.testing.assert_allclose(rows[:, 1:4], closed.poses[outcome.tracked][:, :3, 3], atol=1e-6)
    assert (folder / 'loops.png').read_bytes().startswith(b'\x89PNG')
    odometry.print_results(metrics, folder)
    said = capsys.readouterr().out
    assert f'{metrics["loops_accepted"]} of {metrics["loops"]} accepted, 0 of them false' in said
    write_json(folder / 'metrics.json', metrics)
    assert json.loads((folder / 'metrics.json').read_text())['ate_rmse_m_closed'] > 0


def test_a_false_loop_is_counted(ring):
    """A loop that contradicts the ground truth by heading or by place."""
    sequence, _, closed, metrics, _ = ring
    loop = closed.accepted[0]
    right = loop.relation.transform
    try:
        for wrong in (np.array([0, 0, 0, 0, 0.2, 0]), np.array([8.0, 0, 0, 0, 0, 0])):
            loop.relation.transform = right @ se3_exp(wrong)
            assert places.count_false(sequence, closed, metrics['scale_ratio']) == 1
    finally:
        loop.relation.transform = right
    assert places.count_false(sequence, closed, metrics['scale_ratio']) == 0


def test_images_are_localised_in_the_saved_map(ring, tmp_path):
    """Other images, later and a little to the side: nearly all are found, as exactly as the map is."""
    sequence, _, _, _, folder = ring
    later = RingSequence(se3_exp(np.array([0.4, 0.1, 0.2, 0, 0.05, 0])), range(2, 98, 8))
    found = PlaceRecognition(NearestMatcher())
    found.load(folder / 'ring.map')
    results = localization.localize_all(later, later, found, progress=False)
    fit, report = localization.align_map(found, sequence)
    metrics = {**localization.score(later, results, fit), **report}
    assert metrics['frames'] == 12 and metrics['frames_localized'] >= 11
    assert report['map_scale_ratio'] == pytest.approx(1, abs=0.1)
    assert report['map_position_rmse_m'] < 0.5 and report['note'] is None
    shares = [metrics[f'share_{bound}'] for bound in ('5cm_2deg', '10cm_5deg', '50cm_5deg')]
    assert shares == sorted(shares) and shares[2] >= 0.9
    assert 0 < metrics['position_error_m']['p50'] < 0.3
    assert metrics['localize_ms']['p50'] > 0
    localization.print_results({'sequence': 'later', 'map': 'ring.map', **metrics}, tmp_path)


def test_alignment_is_exact_for_an_exact_map(ring):
    """Moved, turned and scaled truth is undone; a straight path is enough, for the axes are looked at too."""
    sequence, _, _, _, folder = ring
    found = PlaceRecognition(NearestMatcher())
    found.load(folder / 'ring.map')
    move = se3_exp(np.array([3.0, -1, 2, 0.4, -0.3, 0.2]))
    keyframes = found.graph.keyframes[:6]
    found.graph.keyframes = keyframes
    straight = RingSequence()
    for k, keyframe in enumerate(keyframes):
        frame = int(np.abs(straight.stamps - keyframe.stamp).argmin())
        pose = np.eye(4)
        pose[2, 3] = 1.3 * k
        straight.poses[frame] = pose
        keyframe.pose = move @ pose
        keyframe.pose[:3, 3] *= 2.0
    (rotation, translation, scale), report = localization.align_map(found, straight)
    assert scale == pytest.approx(0.5) and report['map_scale_ratio'] == pytest.approx(2)
    np.testing.assert_allclose(rotation, move[:3, :3].T, atol=1e-9)
    assert report['map_position_rmse_m'] < 1e-9 and report['map_rotation_rmse_deg'] < 1e-6


def test_a_map_without_ground_truth_says_so(ring):
    """Null and a note; what was found is still counted."""
    _, _, _, _, folder = ring
    found = PlaceRecognition(NearestMatcher())
    found.load(folder / 'ring.map')
    other = RingSequence()
    other.stamps = other.stamps + 500
    fit, report = localization.align_map(found, other)
    assert fit is None and '--map-sequence' in report['note'] and report['map_keyframes'] > 10
    metrics = localization.score(other, [], fit)
    assert metrics['share_5cm_2deg'] is None and metrics['frames_localized'] == 0


@pytest.mark.parametrize(
    ('arguments', 'part'),
    [
        (
            ['odometry', '--sequence', 'rendered:room', '--features', 'orb', '--loops'],
            'needs a global descriptor',
        ),
        (['odometry', '--sequence', 'a', 'b', '--save-map', 'm'], '--save-map takes the map of one run'),
        (['odometry', '--sequence', 'a', '--repeat', '2', '--save-map', 'm'], '--save-map takes the map'),
        (['localization', '--map', 'nothing.map', '--sequence', 'rendered:room'], "map 'nothing.map'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, part, capsys, tmp_path, monkeypatch):
    """Before any frame is worked on, with status 1; no folder is left behind."""
    monkeypatch.chdir(tmp_path)
    assert cli.main([*arguments, '--output', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err
    assert part in said and 'Traceback' not in said
    assert not (tmp_path / 'out').exists()
