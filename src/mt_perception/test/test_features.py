"""SIFT and ORB behind the network's call."""

import cv2
import numpy as np
import pytest

from mt_perception.errors import MtError
from mt_perception.features import create_features


def textured_image(width=320, height=240, seed=0):
    """Smoothed noise with corners at several scales, RGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for scale in (4, 8, 16):
        small = rng.uniform(0, 255, (height // scale + 1, width // scale + 1)).astype(np.float32)
        image += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) / 3
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize('name, dim', [('sift', 128), ('orb', 256)])
def test_keypoints_follow_the_contract(name, dim):
    """Unit descriptors, strongest first, at most the number asked for, and the same every time."""
    image = textured_image()
    perception = create_features(name, 200).process(image)
    points = perception.keypoints
    assert 100 < len(points) <= 200 and points.descriptors.shape == (len(points), dim)
    np.testing.assert_allclose(np.linalg.norm(points.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(points.scores) <= 0).all()
    assert points.image_size == (320, 240) and points.model_id == name
    assert np.isnan(points.depth).all() and (points.class_id == 255).all()
    assert set(perception.timings_ms) == {'preprocess', 'inference', 'postprocess'}
    again = create_features(name, 200).process(image).keypoints
    np.testing.assert_array_equal(points.xy, again.xy)
    np.testing.assert_array_equal(points.descriptors, again.descriptors)


@pytest.mark.parametrize('name', ['sift', 'orb'])
def test_a_shifted_image_gives_shifted_keypoints(name):
    """Nearest descriptors of an image moved by (7, 3) pixels lie 7 and 3 pixels away."""
    image = textured_image(400, 300)
    first = create_features(name, 300).process(np.ascontiguousarray(image[20:260, 20:340])).keypoints
    second = create_features(name, 300).process(np.ascontiguousarray(image[17:257, 13:333])).keypoints
    nearest = (first.descriptors @ second.descriptors.T).argmax(1)
    shift = second.xy[nearest] - first.xy
    np.testing.assert_allclose(np.median(shift, axis=0), [7, 3], atol=0.05)


def test_orb_dot_products_rank_as_hamming_distances():
    """The float form of ORB's bits keeps the order that Hamming distances give."""
    raw = np.random.default_rng(0).integers(0, 256, (50, 32), dtype=np.uint8)
    floats = create_features('orb').to_float(raw)
    hamming = np.unpackbits(raw[:1] ^ raw, axis=1).sum(1)
    np.testing.assert_allclose(floats @ floats[0], 1 - hamming / 128, atol=1e-6)


@pytest.mark.parametrize('name, dim', [('sift', 128), ('orb', 256)])
def test_a_blank_image_has_no_keypoints(name, dim):
    """A covered lens is an empty set of the right shape, not an error."""
    points = create_features(name).process(np.full((240, 320, 3), 90, np.uint8)).keypoints
    assert len(points) == 0 and points.xy.shape == (0, 2) and points.descriptors.shape == (0, dim)


def test_unknown_name_is_one_sentence():
    """The error lists what there is."""
    with pytest.raises(MtError, match='sift, orb'):
        create_features('surf')
