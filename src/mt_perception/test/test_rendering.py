"""The renderer on scenes of a few surfaces, whose pictures can be computed otherwise."""

import cv2
import numpy as np
import pytest

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.rendering import make_scene, projection, render
from mt_perception.rendering.pose import look
from mt_perception.rendering.scene import NO_LABEL, Light, Mover, SceneBuilder
from mt_perception.types import UNKNOWN_CLASS

CAMERA = Camera.from_focal(64, 48, 60.0)
# Unlit: colours are those of the textures.
LIGHT = Light(np.array((0.0, 0, 1)), (0, 0, 0), (1.0 / 0.85,) * 3, fog_distance=np.inf)
AHEAD = look((0, 0, 0), 0.0)  # along world x


def plain(builder, color, alpha=None):
    value = (*color, alpha) if alpha is not None else color
    return builder.texture(lambda rng: np.full((8, 8, len(value)), value, np.uint8))


def facing(builder, distance, size, texture, label, left=0.0, **options):
    """Add an upright square straight ahead of AHEAD."""
    builder.quad(
        (distance, left + size / 2, size / 2), (0, -1, 0), (0, 0, -1), (size, size), texture, label, **options
    )


def plane_depth(camera, pose, point, normal):
    """Depth along Z of a plane, by casting one ray per pixel."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
    world = rays @ pose[:3, :3].T
    with np.errstate(divide='ignore'):
        return (np.asarray(point) - pose[:3, 3]) @ normal / (world @ normal)


def test_texture_lands_on_its_pixels():
    """At one texel per pixel the picture is the texture: no half-pixel shift, no flip, RGB order."""
    pattern = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    builder = SceneBuilder(0)
    texture = builder.texture(lambda rng: pattern)
    distance = 60.0
    builder.quad((distance, 32.0, 24.0), (0, -1, 0), (0, 0, -1), (64.0, 48.0), texture, 1)
    image, depth, labels = render(builder.build(LIGHT), CAMERA, AHEAD)
    assert np.abs(image.astype(int) - pattern).max() <= 1
    assert np.allclose(depth, distance, rtol=1e-5)
    assert (labels == 1).all()


@pytest.mark.parametrize('pose', [look((0, 0, 1.5), 0.3, -0.2, 0.1), look((4, -2, 1.2), -0.4, -0.5, -0.3)])
def test_depth_of_a_slanted_plane(pose):
    """Depth agrees with a ray cast, on the ground below, behind and far ahead of the camera."""
    builder = SceneBuilder(0)
    builder.ground(
        [(200, -200), (200, 200), (-200, 200), (-200, -200)], plain(builder, (90, 90, 90)), 3, (5, 5)
    )
    _, depth, labels = render(builder.build(LIGHT), CAMERA, pose)
    expected = plane_depth(CAMERA, pose, (0, 0, 0), np.array((0.0, 0, 1)))
    seen = (expected > 0) & (expected < 150)
    assert seen.mean() > 0.5
    assert np.allclose(depth[seen], expected[seen], rtol=1e-4)
    assert (labels[seen] == 3).all()


def test_nothing_is_unknown():
    """Without a sky an empty pixel has no depth and no class."""
    builder = SceneBuilder(0)
    facing(builder, 5, 0.5, plain(builder, (200, 0, 0)), 8)
    _, depth, labels = render(builder.build(LIGHT), CAMERA, AHEAD)
    assert np.isnan(depth[0, 0])
    assert labels[0, 0] == UNKNOWN_CLASS
    assert labels[24, 32] == 8


@pytest.mark.parametrize('near_first', [True, False])
@pytest.mark.parametrize('layers', [(2, 2), (2, 0), (0, 2)])
def test_near_hides_far(near_first, layers):
    """Whatever the order of adding and drawing."""
    builder = SceneBuilder(0)
    red, blue = plain(builder, (200, 0, 0)), plain(builder, (0, 0, 200))
    near = lambda: facing(builder, 5, 2.0, red, 8, layer=layers[0])  # noqa: E731
    far = lambda: facing(builder, 10, 8.0, blue, 1, layer=layers[1])  # noqa: E731
    for add in (near, far) if near_first else (far, near):
        add()
    image, depth, labels = render(builder.build(LIGHT), CAMERA, AHEAD)
    assert labels[24, 32] == 8
    assert depth[24, 32] == pytest.approx(5, rel=1e-5)
    assert image[24, 32].tolist() == [200, 0, 0]
    assert labels[24, 50] == 1
    assert image[24, 50].tolist() == [0, 0, 200]


def test_back_faces():
    """A wall is seen from its front only, a two-sided one from both sides."""
    for two_sided in (False, True):
        builder = SceneBuilder(0)
        builder.quad(
            (5, -1, 1), (0, 1, 0), (0, 0, -1), (2, 2), plain(builder, (9, 9, 9)), 7, two_sided=two_sided
        )
        assert (render(builder.build(LIGHT), CAMERA, AHEAD)[2] == 7).any() == two_sided


def test_cut_out_shows_what_is_behind():
    """Transparent texels hide nothing; half-transparent ones mix colours and keep the depth behind."""
    builder = SceneBuilder(0)
    facing(builder, 10, 20.0, plain(builder, (0, 0, 200)), 1)
    facing(builder, 5, 20.0, plain(builder, (200, 0, 0), 102), 5, two_sided=True)
    image, depth, labels = render(builder.build(LIGHT), CAMERA, AHEAD)
    assert labels[24, 32] == 1
    assert depth[24, 32] == pytest.approx(10, rel=1e-5)
    assert np.abs(image[24, 32].astype(int) - (0.4 * 200 * 0.9 / 0.85, 0, 0.6 * 200)).max() <= 2


def test_decal_changes_the_colour_alone():
    builder = SceneBuilder(0)
    ground = [(20, -20), (20, 20), (-20, 20), (-20, -20)]
    builder.ground(ground, plain(builder, (100, 100, 100)), 3, (5, 5), layer=0)
    before = render(builder.build(LIGHT), CAMERA, look((0, 0, 1.5), 0, -0.6))
    builder.ground(ground, plain(builder, (0, 0, 0), 128), NO_LABEL, (5, 5), height=0.005, layer=1)
    after = render(builder.build(LIGHT), CAMERA, look((0, 0, 1.5), 0, -0.6))
    assert np.array_equal(before[1], after[1], equal_nan=True)
    assert np.array_equal(before[2], after[2])
    assert after[0][40, 32, 0] == pytest.approx(before[0][40, 32, 0] / 2, abs=2)


def test_far_texture_is_its_mean():
    """A fine checker board seen from far away is an even gray: pre-filtered, without aliasing."""
    builder = SceneBuilder(0)
    board = np.kron(np.indices((64, 64)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8) * 200
    texture = builder.texture(lambda rng: np.dstack([board] * 3))
    facing(builder, 60, 30.0, texture, 1)
    image = render(builder.build(LIGHT), CAMERA, AHEAD)[0][14:34, 22:42]
    assert image.std() < 3
    assert image.mean() == pytest.approx(100, abs=3)


def test_grazing_texture_keeps_its_other_axis():
    """Stripes along a road seen at a grazing angle stay sharp although the road is foreshortened."""
    builder = SceneBuilder(0)
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, 256:] = 200
    texture = builder.texture(lambda rng: stripes, wrap=True)
    # Columns run across the road: two metres dark, two metres bright.
    builder.ground([(60, -30), (60, 30), (0, 30), (0, -30)], texture, 3, (4, 4))
    row = render(builder.build(LIGHT), Camera.from_focal(640, 480, 600.0), look((0, 0, 1.2), 0, 0))[0][300]
    assert row.min() < 10
    assert row.max() > 190


def test_movers_slide():
    builder = SceneBuilder(0)
    facing(builder, 5, 1.0, plain(builder, (9, 9, 9)), 8)
    builder.movers.append(Mover(0, 1, np.array((1.0, 0, 0))))
    scene = builder.build(LIGHT)
    assert render(scene, CAMERA, AHEAD, time=0)[1][24, 32] == pytest.approx(5, rel=1e-5)
    assert render(scene, CAMERA, AHEAD, time=3)[1][24, 32] == pytest.approx(8, rel=1e-5)


def test_fog_veils_what_is_far():
    builder = SceneBuilder(0)
    light = Light(
        np.array((0.0, 0, 1)), (0, 0, 0), (1 / 0.85,) * 3, fog_color=(255, 255, 255), fog_distance=10.0
    )
    facing(builder, 10, 40.0, plain(builder, (0, 0, 0)), 1)
    image = render(builder.build(light), CAMERA, AHEAD)[0]
    assert image[24, 32, 0] == pytest.approx(255 * (1 - np.exp(-1)), abs=2)


@pytest.fixture
def street_view(street):
    return street.scene, street.camera, street.poses[20]


def test_hidden_surfaces_change_nothing(street_view, monkeypatch):
    """Leaving out what is covered gives the same picture as drawing everything."""
    scene, camera, pose = street_view
    quick = render(scene, camera, pose)
    with monkeypatch.context() as patch:
        patch.setattr(projection, 'OCCLUDER_AREA', np.inf)
        whole = render(scene, camera, pose)
    assert (quick[2] == whole[2]).mean() > 0.9995
    assert np.isclose(quick[1], whole[1], rtol=1e-5, equal_nan=True).mean() > 0.9995
    assert (np.abs(quick[0].astype(int) - whole[0]) > 2).mean() < 0.002


def test_pixels_agree_between_image_sizes(street_view):
    """The same view at twice the size shows the same things: the camera model is kept."""
    scene, camera, pose = street_view
    small = render(scene, camera, pose)
    large = render(scene, camera.scaled(640, 480), pose)
    shrunk = cv2.resize(large[0], (320, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(small[0].astype(int) - shrunk).mean() < 6
    assert (small[2] == large[2][::2, ::2]).mean() > 0.93


def test_any_pose_can_be_rendered(street_view):
    """Also with the camera on its head, below the ground and looking into the sky."""
    scene, camera, _ = street_view
    for pose in (look((150, 0, 1.5), 1, -1.5), look((150, 0, -3), 0, 0.2), look((150, 0, 2), 2, 1.5, 3.0)):
        image, depth, labels = render(scene, camera, pose)
        assert image.shape == (240, 320, 3)
        assert (np.isnan(depth) == (labels == 0)).all()


def test_unknown_scene():
    with pytest.raises(SequenceError, match="no rendered scene 'moon'; use one of street, loop, room"):
        make_scene('moon')
