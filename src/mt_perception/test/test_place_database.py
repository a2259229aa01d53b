"""The descriptors of a map: exact search, and little memory."""

import numpy as np
import pytest

from mt_perception.camera import Camera
from mt_perception.errors import ModelError
from mt_perception.place_recognition import View
from mt_perception.place_recognition.database import DescriptorIndex
from mt_perception.place_recognition.keyframe import pack_descriptors, unpack_descriptors
from mt_perception.types import Keypoints


def unit(rng, *shape):
    out = rng.normal(size=shape)
    return (out / np.linalg.norm(out, axis=-1, keepdims=True)).astype(np.float32)


def filled(vectors, model_id='m'):
    index = DescriptorIndex()
    for vector in vectors:
        index.add(model_id, vector)
    return index


def test_search_is_exact():
    """The same numbers in the same order as sorting all cosines, beyond the first capacity too."""
    rng = np.random.default_rng(0)
    vectors, query = unit(rng, 600, 32), unit(rng, 32)
    index = filled(vectors)
    cosine = vectors @ query
    numbers, scores = index.search('m', query, 7)
    np.testing.assert_array_equal(numbers, np.argsort(-cosine)[:7])
    np.testing.assert_allclose(scores, np.sort(cosine)[::-1][:7])
    allowed = np.arange(600) % 2 == 0
    numbers, _ = index.search('m', query, 7, allowed)
    even = np.arange(0, 600, 2)
    np.testing.assert_array_equal(numbers, even[np.argsort(-cosine[even])[:7]])
    numbers, scores = index.search('m', query, 600, min_similarity=0.2)
    assert len(numbers) == (cosine >= 0.2).sum() and (scores >= 0.2).all()


def test_equal_ones_come_in_order_of_age():
    vector = unit(np.random.default_rng(1), 8)
    numbers, _ = filled([vector, -vector, vector, vector]).search('m', vector, 3)
    assert numbers.tolist() == [0, 2, 3]


def test_an_empty_index_finds_nothing():
    numbers, scores = DescriptorIndex().search('m', np.ones(4, np.float32) / 2, 3)
    assert len(numbers) == len(scores) == 0


@pytest.mark.parametrize(('model_id', 'size'), [('other', 16), ('m', 8)])
def test_another_models_descriptor_is_refused(model_id, size):
    """One sentence that names both models, for looking up and for adding; nothing has changed."""
    rng = np.random.default_rng(2)
    index = filled(unit(rng, 3, 16))
    vector = unit(rng, size)
    for call in (lambda: index.search(model_id, vector, 1), lambda: index.add(model_id, vector)):
        with pytest.raises(ModelError, match=f"'m' with 16 .* model '{model_id}' with {size}"):
            call()
    assert len(index) == 3


@pytest.mark.parametrize('dim', [32, 64, 128])
def test_packed_descriptors_keep_their_cosines(dim):
    """One byte an element changes the cosine of two descriptors by less than 0.004, their order hardly."""
    rng = np.random.default_rng(3)
    first, second = unit(rng, 200, dim), unit(rng, 200, dim)
    a, b = (unpack_descriptors(pack_descriptors(d)) for d in (first, second))
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-6)
    assert np.abs((a * b).sum(1) - (first * second).sum(1)).max() < 0.004
    assert (a * first).sum(1).min() > 0.9998
    binary = np.sign(first) / np.sqrt(np.float32(dim))
    np.testing.assert_allclose(unpack_descriptors(pack_descriptors(binary)), binary, atol=1e-6)
    assert unpack_descriptors(pack_descriptors(np.zeros((2, dim)))).tolist() == [[0.0] * dim] * 2
    assert pack_descriptors(np.zeros((0, dim))).shape == (0, dim)


def test_a_view_keeps_what_can_be_used():
    """Depths that are no distances become unknown, keypoints outside the lens' model go."""
    camera = Camera.from_focal(100, 80, 90)
    keypoints = Keypoints.create(
        [[10, 20], [30, 40], [np.nan, 5], [49.5, 39.5]],
        [0.9, 0.8, 0.7, 0.6],
        unit(np.random.default_rng(4), 4, 16),
        (100, 80),
        depth=[2.0, 0.0, 3.0, 4.0],
        model_id='m',
    )
    view = View.create(1.5, keypoints, camera, np.ones(4) / 2, 'camera')
    assert len(view) == 3
    np.testing.assert_allclose(
        view.points(np.array([0, 2])), [[2 * -39.5 / 90, 2 * -19.5 / 90, 2], [0, 0, 4]]
    )
    assert np.isnan(view.depth[1])
    assert view.scaled(2.0).depth[2] == 8
    back = view.keypoints
    assert back.image_size == (100, 80) and back.model_id == 'm'
    np.testing.assert_allclose(back.scores, [0.9, 0.8, 0.6], atol=1e-3)
