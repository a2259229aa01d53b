"""Depth errors are Eigen's."""

import numpy as np
import pytest

from mt_training.metrics.depth import depth_errors, median_ratio, valid_pixels


def test_small_case_by_hand():
    """All seven numbers of two pixels."""
    truth, prediction = np.array([[2.0, 4.0]]), np.array([[1.0, 4.4]])
    errors = depth_errors(prediction, truth, np.ones((1, 2), bool))
    assert errors['abs_rel'] == pytest.approx((0.5 + 0.1) / 2)
    assert errors['sq_rel'] == pytest.approx((0.5 + 0.04) / 2)
    assert errors['rmse_m'] == pytest.approx(np.sqrt((1 + 0.16) / 2))
    assert errors['rmse_log'] == pytest.approx(np.sqrt((np.log(2) ** 2 + np.log(1.1) ** 2) / 2))
    assert [errors[f'delta_{i}'] for i in (1, 2, 3)] == [0.5, 0.5, 0.5]


def test_delta_thresholds():
    """Ratios 1.2, 1.5, 1.9, 2.5 on either side fall below 1.25, 1.25², 1.25³ and none."""
    truth = np.full((1, 4), 10.0)
    prediction = np.array([[12.0, 10 / 1.5, 19.0, 4.0]])
    errors = depth_errors(prediction, truth, np.ones((1, 4), bool))
    assert [errors[f'delta_{i}'] for i in (1, 2, 3)] == [0.25, 0.5, 0.75]


def test_median_scaling_hides_a_wrong_scale_only():
    """Half the true depth is an error of 0.5 as predicted and of 0 after scaling by its median ratio."""
    truth = np.random.default_rng(0).uniform(1, 5, (20, 30))
    mask = valid_pixels(truth)
    ratio = median_ratio(truth / 2, truth, mask)
    assert ratio == pytest.approx(2)
    assert depth_errors(truth / 2, truth, mask)['abs_rel'] == pytest.approx(0.5)
    assert depth_errors(truth / 2 * ratio, truth, mask)['abs_rel'] == pytest.approx(0)


def test_unknown_and_far_pixels_do_not_count():
    """0, NaN and what lies beyond the limits are not in the mask, and not in the errors."""
    truth = np.array([[0.0, np.nan, 90.0, 3.0, np.inf]])
    mask = valid_pixels(truth)
    assert mask.tolist() == [[False, False, False, True, False]]
    assert depth_errors(np.full((1, 5), 3.0), truth, mask)['abs_rel'] == 0


def test_a_prediction_that_is_no_number_is_an_error():
    """NaN counts as the smallest depth and infinity as the largest."""
    truth = np.full((1, 2), 4.0)
    errors = depth_errors(np.array([[np.nan, np.inf]]), truth, np.ones((1, 2), bool), 1.0, 8.0)
    assert errors['abs_rel'] == pytest.approx((3 / 4 + 4 / 4) / 2)


def test_nothing_to_scale():
    """Without pixels, or with a median of 0, there is no ratio."""
    truth = np.ones((2, 2))
    assert np.isnan(median_ratio(truth, truth, np.zeros((2, 2), bool)))
    assert np.isnan(median_ratio(np.zeros((2, 2)), truth, np.ones((2, 2), bool)))
