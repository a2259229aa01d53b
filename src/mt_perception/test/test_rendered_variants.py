"""Loops and the variants of rendered scenes: each does what its name says, exactly, and nothing else."""

import hashlib
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.rendering import disturbances, render, render_view
from mt_perception.rendering.centreline import block
from mt_perception.rendering.pose import look
from mt_perception.rendering.scene import Follower, Light, SceneBuilder
from mt_perception.sequences import open_sequence, rendered
from mt_perception.sequences.rendered import LAPS, SPEED
from mt_perception.sequences.rendered_name import folder_name, parse_name

SIZE = {'width': 320, 'height': 240}
SMALL = {'width': 160, 'height': 120}
CAR, PEDESTRIAN = 8, 9
LOOPS = ['street_loop', 'room_loop']
DIGEST = """
import hashlib
from mt_perception.sequences import open_sequence
frame = open_sequence('rendered:room_loop:4:moving:motion_blur:noise', width=160, height=120)[33]
print(hashlib.sha256(frame.image.tobytes() + frame.depth.tobytes() + frame.moving.tobytes()).hexdigest())
"""


@pytest.fixture(autouse=True, scope='module')
def kept_worlds():
    """Keep all worlds of these tests: making their textures takes the most time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered, '_world', lru_cache(maxsize=8)(rendered._world.__wrapped__))
        yield


def variant(words, **size):
    return open_sequence(f'rendered:{words}', **(size or SIZE))


def gray(frame):
    return cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY).astype(float)


# Names


def test_names_are_taken_apart():
    assert parse_name('rendered:street') == ('street', 0, {})
    scene, seed, options = parse_name('rendered:street_loop:3:moving:blackout=2.5:frames=40')
    assert (scene, seed) == ('street_loop', 3)
    assert options == {'moving': True, 'blackout': 2.5, 'frames': 40}
    assert folder_name(scene, seed, options) == 'rendered_street_loop_3_moving_blackout2.5_frames40'
    assert folder_name('room', 0, parse_name('room:noise')[2]) == 'rendered_room_0_noise'


@pytest.mark.parametrize(
    'name, sentence',
    [
        ('room:raining', "'raining' is neither a whole number as seed nor a variant"),
        ('room:fps', "'fps' is neither"),
        ('room:moving=2', "'moving=2' is neither"),
        ('room:noise=loud', "noise must be a number, not 'loud'"),
        ('room:frames=2.5', "frames must be a whole number, not '2.5'"),
        ('room:noise:noise=2', "has the word 'noise' twice"),
        ('room:dropped=1', 'dropped of a rendered sequence must be from 0 to below 1, not 1'),
        ('room:blackout=-1', 'blackout of a rendered sequence must be zero or more'),
        ('room:fps=0', 'fps of a rendered sequence must be positive'),
        ('room:noise=nan', 'noise of a rendered sequence must be zero or more, not nan'),
        ('moon:noise', "no rendered scene 'moon'"),
    ],
)
def test_a_wrong_word_is_one_sentence(name, sentence):
    with pytest.raises(SequenceError, match=sentence):
        open_sequence(f'rendered:{name}')


def test_the_name_says_what_was_asked_for():
    sequence = variant('room:4:blackout=0.5:frames=20')
    assert sequence.name == 'rendered_room_4_blackout0.5_frames20' and len(sequence) == 20


# Loops


def test_street_loops_have_300_to_600_frames():
    lengths = np.array([block(np.random.default_rng([seed, 2])).length for seed in range(60)])
    frames = LAPS['street_loop'] * lengths / (SPEED['street_loop'] / 10)
    assert 300 < frames.min() and frames.max() < 600


@pytest.mark.parametrize('scene', LOOPS)
def test_a_loop_comes_back_on_the_same_way_in_the_same_direction(scene):
    sequence = variant(f'{scene}:4')
    assert 300 <= len(sequence) <= 600
    poses, period = np.array(sequence.poses), sequence.scene.path.length
    travelled = np.arange(len(poses)) * sequence.speed / 10
    second = np.flatnonzero(travelled > period)
    assert len(second) > 0.1 * len(poses), 'a good overlap'
    for i in second[::10]:
        j = int(np.argmin(np.abs(travelled - (travelled[i] - period))))
        assert np.linalg.norm(poses[i, :3, 3] - poses[j, :3, 3]) < 0.8
        assert poses[i, :3, 2] @ poses[j, :3, 2] > np.cos(np.radians(20))
    middle = len(poses) // 2
    away = np.linalg.norm(poses[middle, :3, 3] - poses[0, :3, 3])
    assert away > 2.5 and poses[middle, :3, 2] @ poses[0, :3, 2] < 0, 'meanwhile it was elsewhere'


def test_the_room_loop_keeps_clear_of_walls_and_furniture():
    sequence = variant('room_loop:4', **SMALL)
    for i in range(0, len(sequence), 40):
        depth = sequence[i].depth
        assert np.isfinite(depth).all() and depth.min() > 0.4 and depth.max() < 11


# Things that move


@pytest.mark.parametrize('scene, label', [('street_loop', CAR), ('room_loop', PEDESTRIAN)])
def test_moving_things_cover_about_30_percent(scene, label):
    sequence = variant(f'{scene}:4:moving', **SMALL)
    frames = [sequence[i] for i in np.linspace(0, len(sequence) - 1, 8).astype(int)]
    shares = [frame.moving.mean() for frame in frames]
    assert 0.25 < np.mean(shares) < 0.4 and min(shares) > 0.12
    for frame in frames:
        assert set(np.unique(frame.labels[frame.moving])) <= {CAR, PEDESTRIAN}
        assert (frame.labels[frame.moving] == label).mean() > 0.9


@pytest.mark.parametrize('scene', LOOPS)
def test_the_mask_of_what_moves_is_exact(scene):
    """Beside it depth and classes are those of the scene without; inside it everything is nearer."""
    with_movers, without = variant(f'{scene}:4:moving')[60], variant(f'{scene}:4')[60]
    mask = with_movers.moving
    assert without.moving is None
    assert np.array_equal(with_movers.depth[~mask], without.depth[~mask], equal_nan=True)
    assert np.array_equal(with_movers.labels[~mask], without.labels[~mask])
    assert (with_movers.depth[mask] < np.nan_to_num(without.depth[mask], nan=1e9)).all()


@pytest.mark.parametrize('scene', LOOPS)
def test_things_move_on_their_own(scene):
    """Before a standing camera, after a second, they are elsewhere, and what stands is where it was."""
    sequence = variant(f'{scene}:4:moving')
    pose = sequence.poses[100]
    now, later = (render_view(sequence.scene, sequence.camera, pose, time) for time in (10.0, 11.0))
    assert (now.moving ^ later.moving).mean() > 0.03
    both = ~now.moving & ~later.moving
    assert np.array_equal(now.depth[both], later.depth[both], equal_nan=True)


def test_a_follower_is_drawn_as_if_it_had_been_built_there():
    """Turned and moved surfaces have the depth, the outline and the light of their new place."""
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    light = Light(np.array((0.6, 0.0, 0.8)), fog_distance=np.inf)
    camera = Camera.from_focal(160, 120, 130.0)

    def scene(yaw, place, motion=None):
        builder = SceneBuilder(0)
        texture = builder.texture(lambda rng: pattern)
        builder.box(place, yaw, (1.5, 0.8, 1.0), 0.0, texture, 8)
        if motion is not None:
            builder.movers.append(Follower(0, len(builder), motion))
        return builder.build(light)

    yaw, place = 0.7, np.array((6.0, 0.5))

    def motion(time, eye):
        c, s = np.cos(time * yaw), np.sin(time * yaw)
        pose = np.eye(4)
        pose[:2, :2], pose[:2, 3] = ((c, -s), (s, c)), time * place
        return pose

    view = look((0, 0, 1.2), 0.05, -0.1)
    moved = render_view(scene(0.0, (0.0, 0.0), motion), camera, view, time=1.0)
    built = render(scene(yaw, place), camera, view)
    assert np.abs(moved.image.astype(int) - built[0]).max() <= 1
    np.testing.assert_allclose(moved.depth, built[1], rtol=1e-5)
    assert np.array_equal(moved.labels, built[2])
    assert np.array_equal(moved.moving, built[2] == 8)


# What happens to the pictures


def test_variants_share_the_world():
    plain, moving = variant('room_loop:4'), variant('room_loop:4:moving')
    assert moving.scene.textures[3] is plain.scene.textures[3]
    assert len(moving.scene.origin) > len(plain.scene.origin)


def test_a_blackout_lasts_a_second_and_changes_nothing_else():
    plain, dark = variant('room:4'), variant('room:4:blackout')
    black = [i for i in range(40, 90) if dark[i].image.mean() < 10]
    assert black == list(range(60, 70)), 'ten pictures, after 40 % of them'
    assert np.array_equal(dark[59].image, plain[59].image) and np.array_equal(dark[70].image, plain[70].image)
    assert dark[60].image.std() > 0.5 and not np.array_equal(dark[60].image, dark[61].image), (
        'a sensor in the dark'
    )
    assert np.array_equal(dark[65].depth, plain[65].depth), 'the scene is still there'


def test_a_cover_slides_over_the_lens_and_hides_all_of_it():
    plain, covered = variant('room:4'), variant('room:4:covered')
    hidden = [gray(covered[i]) for i in (60, 70, 79)]
    assert all(picture.std() < 8 and picture.mean() < 45 for picture in hidden)
    detector = cv2.FastFeatureDetector_create(threshold=15)
    assert len(detector.detect(covered[70].image)) == 0, 'nothing to hold on to'
    changed = [np.any(covered[i].image != plain[i].image) for i in (50, 58, 81, 90)]
    assert changed == [False, True, True, False]
    half = covered[58].image == plain[58].image
    assert 0.02 < half.all(-1).mean() < 0.98, 'part of the picture is free while it slides'


def test_motion_blur_is_the_mean_over_the_exposure():
    """Close to the mean, in light, of many pictures rendered while the shutter is open; depth stays."""
    sequence = variant('street_loop:4:motion_blur=0.05')
    clean = variant('street_loop:4')
    index = 200
    times = sequence.stamps[index] + np.linspace(-0.025, 0.025, 15)
    light = np.zeros((240, 320, 3))
    for time in times:
        light += (render(sequence.scene, sequence.camera, sequence._pose_at(time))[0] / 255.0) ** 2.2
    exact = 255 * (light / len(times)) ** (1 / 2.2)
    blurred, sharp = sequence[index], clean[index]
    assert np.array_equal(blurred.depth, sharp.depth, equal_nan=True)
    error, before = (np.abs(frame.image - exact).mean() for frame in (blurred, sharp))
    assert error < 2.0 and error < before / 3


def test_motion_blur_needs_motion():
    sequence = variant('room:4', **SMALL)
    frame = sequence[10]
    same = disturbances.motion_blur(
        frame.image, frame.depth, frame.camera, frame.pose, frame.pose, frame.pose
    )
    assert np.abs(same.astype(int) - frame.image).max() <= 1


def test_the_exposure_jumps():
    """Pictures are the clean ones at one of a few factors on the light, each for one to three seconds."""
    plain, jumping = variant('room:4', **SMALL), variant('room:4:exposure_jumps', **SMALL)
    ratio = []
    for i in range(0, 150, 3):
        clean, taken = plain[i].image, jumping[i].image
        usable = (clean > 30) & (taken < 250)
        ratio.append(np.median(taken[usable] / clean[usable].astype(float)) ** 2.2)
    ratio = np.array(ratio)
    nearest = np.array([min(disturbances.EXPOSURES, key=lambda f, r=r: abs(f - r)) for r in ratio])
    np.testing.assert_allclose(ratio, nearest, rtol=0.12)
    assert (nearest[:6] == 1).all() and len(set(nearest.tolist())) >= 3
    starts, factors = disturbances.exposure_schedule(np.random.default_rng(0), 60.0)
    assert (np.diff(starts)[1:] >= 1).all() and (np.diff(starts) <= 3).all() and (np.diff(factors) != 0).all()


def test_less_texture_and_the_same_geometry():
    plain, flat = variant('room_loop:4')[50], variant('room_loop:4:low_texture')[50]
    assert np.array_equal(plain.depth, flat.depth) and np.array_equal(plain.labels, flat.labels)
    inside = (
        cv2.erode((cv2.Laplacian(plain.depth, cv2.CV_32F) ** 2 < 1e-8).astype(np.uint8), np.ones((5, 5))) > 0
    )
    contrast = [np.abs(cv2.Laplacian(gray(frame), cv2.CV_64F))[inside].mean() for frame in (plain, flat)]
    assert contrast[1] < 0.25 * contrast[0]


def test_standing_still_only_the_noise_changes():
    sequence = variant('room:4:still=10', **SMALL)
    poses = np.array(sequence.poses)
    standing = np.flatnonzero((np.diff(poses, axis=0) == 0).all((1, 2)))
    assert len(standing) == 100 and len(sequence) == 150 + 100 + 15
    first, later = sequence[int(standing[0])], sequence[int(standing[-1])]
    assert np.array_equal(first.depth, later.depth)
    difference = first.image.astype(int) - later.image
    assert 0.5 < difference.std() < 8 and abs(difference.mean()) < 0.2
    assert sequence.stamps[standing[-1] + 1] - sequence.stamps[standing[0]] == pytest.approx(10)


@pytest.mark.parametrize('scene', LOOPS)
def test_a_rotation_is_on_the_spot_about_the_vertical(scene):
    sequence = variant(f'{scene}:4:rotation', **SMALL)
    poses = np.array(sequence.poses)
    there = np.flatnonzero((np.diff(poses[:, :3, 3], axis=0) == 0).all(1))
    turned = poses[there[0] : there[-1] + 2]
    assert np.ptp(turned[:, :3, 3], axis=0).max() == 0
    relative = turned[0, :3, :3] @ turned[:, :3, :3].transpose(0, 2, 1)
    angle = np.degrees(np.arctan2(relative[:, 0, 1], relative[:, 0, 0]))
    assert angle.max() == pytest.approx(90, abs=1) and abs(angle[-1]) < 0.5, 'to the left and back'
    np.testing.assert_allclose(relative[:, 2, 2], 1, atol=1e-12)


def test_dropped_and_repeated_frames_are_those_of_the_plain_sequence():
    plain = variant('room:4', **SMALL)
    dropped, repeated = variant('room:4:dropped', **SMALL), variant('room:4:repeated', **SMALL)
    assert len(dropped) < 0.9 * len(plain) and len(repeated) == len(plain)
    for i in (30, 60, 100):
        j = int(np.flatnonzero(plain.stamps == dropped.stamps[i])[0])
        assert np.array_equal(dropped[i].image, plain[j].image)
        assert np.array_equal(dropped[i].pose, plain.poses[j]) and dropped[i].index == i
    again = np.flatnonzero((np.diff(np.array(repeated.poses), axis=0) == 0).all((1, 2)))
    assert 0.1 < len(again) / len(plain) < 0.35
    for i in again[:3]:
        assert np.array_equal(repeated[int(i)].image, repeated[int(i) + 1].image)
        assert repeated.stamps[i + 1] > repeated.stamps[i]


def test_variants_go_together():
    frame = variant('street:4:moving:motion_blur:noise=2:exposure_jumps:frames=30', **SMALL)[25]
    assert frame.moving.any() and frame.image.shape == (120, 160, 3)


def test_every_process_makes_the_same_variant():
    """Whatever was looked at before."""
    source = str(Path(sys.modules['mt_perception'].__file__).parents[1])
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([source, os.environ.get('PYTHONPATH', '')]))
    done = subprocess.run(
        [sys.executable, '-c', DIGEST], capture_output=True, text=True, check=True, env=environment
    )
    sequence = variant('room_loop:4:moving:motion_blur:noise', **SMALL)
    sequence[100]
    frame = sequence[33]
    seen = frame.image.tobytes() + frame.depth.tobytes() + frame.moving.tobytes()
    assert done.stdout.strip() == hashlib.sha256(seen).hexdigest()
