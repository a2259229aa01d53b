"""Matchers: what they pair, what they refuse, what they cost."""

import time

import numpy as np
import pytest

import contract_models
from mt_perception.errors import ModelError
from mt_perception.matching import LightGlueMatcher, NearestMatcher, create_matcher
from mt_perception.matching.lightglue import _one_to_one
from mt_perception.types import Keypoints

DIM = contract_models.DIM
MODEL = 'test-net-01234567'


def keypoints(descriptors, model_id=MODEL, scores=None):
    descriptors = np.asarray(descriptors, np.float32)
    n = len(descriptors)
    xy = np.random.default_rng(n).uniform(0, 100, (n, 2))
    scores = np.linspace(1, 0.5, n) if scores is None else scores
    return Keypoints.create(xy, scores, descriptors, (100, 100), model_id=model_id)


@pytest.fixture
def lightglue(tmp_path):
    return LightGlueMatcher(contract_models.write_matcher(tmp_path / 'matcher.onnx'), 'onnxruntime')


def shuffled(n=40, noise=0.05):
    """Return two sets of the same descriptors, the second shuffled and noisy, and the true pairs."""
    rng = np.random.default_rng(0)
    first = contract_models.unit_rows(n, DIM)
    order = rng.permutation(n)
    second = first[order] + noise * rng.standard_normal((n, DIM))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return keypoints(first), keypoints(second), np.argsort(order)


@pytest.mark.parametrize('name', ['nearest', 'lightglue'])
def test_finds_the_true_pairs(tmp_path, name):
    model = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    matcher = create_matcher(name, model, engine='onnxruntime')
    first, second, truth = shuffled(noise=0.01)
    found = matcher.match(first, second)
    assert matcher.name == name and len(found) == 40
    np.testing.assert_array_equal(found.index, np.stack([np.arange(40), truth], 1))
    assert found.index.dtype == np.int64 and found.scores.dtype == np.float32
    assert (found.scores > 0.9).all()


@pytest.mark.parametrize('counts', [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize('name', ['nearest', 'lightglue'])
def test_empty_sets(tmp_path, name, counts):
    model = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    matcher = create_matcher(name, model, engine='onnxruntime')
    found = matcher.match(*(keypoints(contract_models.unit_rows(n, DIM)) for n in counts))
    assert len(found) == 0 and found.index.shape == (0, 2) and found.scores.shape == (0,)


def test_nearest_is_mutual():
    """Both of the first set are nearest to the one of the second; only its own choice is a pair."""
    first = keypoints([[1, 0], [0.96, 0.28]])
    second = keypoints([[0.99, 0.141]])
    assert (first.descriptors @ second.descriptors[0]).argmax() == 0
    assert NearestMatcher().match(first, second).index.tolist() == [[0, 0]]


def test_equal_descriptors_are_paired_once():
    same = keypoints([[1, 0], [1, 0], [0, 1]])
    assert NearestMatcher().match(same, same).index.tolist() == [[0, 0], [2, 2]]


def test_nearest_against_brute_force():
    first, second = contract_models.unit_rows(60, DIM, 1), contract_models.unit_rows(50, DIM, 2)
    expected = []
    for i, row in enumerate(first):
        distances = np.linalg.norm(second - row, axis=1)
        j = int(distances.argmin())
        back = int(np.linalg.norm(first - second[j], axis=1).argmin())
        two = np.sort(distances)[:2]
        if back == i and two[0] < 0.9 * two[1] and 1 - two[0] ** 2 / 2 >= 0.5:
            expected.append([i, j])
    assert 3 < len(expected) < 45
    found = NearestMatcher(min_similarity=0.5, ratio=0.9).match(keypoints(first), keypoints(second))
    assert found.index.tolist() == expected


def test_nearest_thresholds():
    first, second, _ = shuffled(noise=0.3)
    everything = NearestMatcher().match(first, second)
    strict = NearestMatcher(min_similarity=0.8).match(first, second)
    assert 0 < len(strict) < len(everything)
    assert strict.scores.min() >= 0.8 > everything.scores.min()
    assert 0 < len(NearestMatcher(ratio=0.7).match(first, second)) < len(everything)


def test_ratio_needs_a_second_candidate():
    one = keypoints([[1, 0]])
    assert len(NearestMatcher(ratio=0.5).match(one, one)) == 1


def test_scores_stay_in_range():
    opposite = keypoints([[1, 0]]), keypoints([[-1, 0]])
    assert NearestMatcher(min_similarity=-1.0).match(*opposite).scores.tolist() == [0.0]


@pytest.mark.parametrize('name', ['nearest', 'lightglue'])
def test_descriptors_of_two_models_are_refused(tmp_path, name):
    model = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    matcher = create_matcher(name, model, engine='onnxruntime')
    rows = contract_models.unit_rows(3, DIM)
    with pytest.raises(ModelError, match=f"'{MODEL}' cannot be matched with keypoints of model 'sift'"):
        matcher.match(keypoints(rows), keypoints(rows, 'sift'))


def test_lightglue_refuses_another_model(lightglue):
    rows = keypoints(contract_models.unit_rows(3, DIM), 'mtnet-other')
    with pytest.raises(ModelError) as error:
        lightglue.match(rows, rows)
    text = str(error.value)
    assert f"matches keypoints of model '{MODEL}', not of 'mtnet-other'" in text and '\n' not in text
    empty = rows.select(slice(0, 0))
    with pytest.raises(ModelError):  # said at once, not when the first keypoint comes
        lightglue.match(empty, empty)


def test_descriptor_length():
    with pytest.raises(ModelError, match='descriptors of 2 and of 3 numbers'):
        NearestMatcher().match(keypoints([[1, 0]]), keypoints([[1, 0, 0]]))


def test_lightglue_min_score(tmp_path):
    model = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    first, second, _ = shuffled(noise=0.3)
    everything = create_matcher('lightglue', model, engine='onnxruntime').match(first, second)
    strict = create_matcher('lightglue', model, engine='onnxruntime', min_score=0.8).match(first, second)
    assert 0 < len(strict) < len(everything) and strict.scores.min() >= 0.8


def test_lightglue_with_a_fixed_graph(tmp_path):
    """A graph with 8 places: fewer keypoints are padded, of more the strongest 8 are matched."""
    fixed = LightGlueMatcher(contract_models.write_matcher(tmp_path / 'fixed.onnx', fixed=8), 'onnxruntime')
    free = LightGlueMatcher(contract_models.write_matcher(tmp_path / 'free.onnx'), 'onnxruntime')
    assert fixed.engine.padded_keypoints == 8 and free.engine.padded_keypoints is None
    for n, m in ((3, 5), (8, 8), (20, 6)):
        first = keypoints(contract_models.unit_rows(n, DIM, 1))
        second = keypoints(contract_models.unit_rows(m, DIM, 2))
        found = fixed.match(first, second)
        expected = free.match(first.select(slice(8)), second.select(slice(8)))
        assert len(found) and (found.index < 8).all()
        np.testing.assert_array_equal(found.index, expected.index)


def test_perception_model_is_no_matcher(tmp_path):
    path = contract_models.write_perception(tmp_path / 'model.onnx')
    with pytest.raises(ModelError, match='it is a perception model .* where a matcher model is needed'):
        LightGlueMatcher(path, 'onnxruntime')


def test_unknown_matcher():
    with pytest.raises(ModelError, match="matcher 'glue' is not one of lightglue, nearest"):
        create_matcher('glue')


def test_pairs_with_padding_and_double_pairs_are_dropped():
    matches = np.array([0, -1, 3, 0, 2, 9], np.int32)
    scores = np.array([0.5, 0.0, 0.9, 0.8, 0.7, 0.9], np.float32)
    found = _one_to_one(matches, scores, n_first=5, n_second=3, min_score=0.0)
    assert found.index.tolist() == [[3, 0], [4, 2]]
    np.testing.assert_allclose(found.scores, [0.8, 0.7])
    assert len(_one_to_one(matches, scores, 5, 3, 0.75)) == 1
    assert len(_one_to_one(matches[:0], scores[:0], 0, 3, 0.0)) == 0


def test_nearest_is_quick():
    """512 against 512 descriptors of 64 numbers take a few times what their product takes."""
    first, second = (keypoints(contract_models.unit_rows(512, 64, seed)) for seed in (1, 2))
    matcher = NearestMatcher(0.3, 0.95)

    def cost(work):
        times = []
        for _ in range(30):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    product = cost(lambda: first.descriptors @ second.descriptors.T)
    assert cost(lambda: matcher.match(first, second)) < 4 * product + 1e-3
