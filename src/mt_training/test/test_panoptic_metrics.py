"""Panoptic quality against numbers worked out by hand."""

import numpy as np
import pytest

from mt_training.metrics.panoptic import PanopticQuality


def strip(*runs):
    """Return ids [1,W] of (id, pixels) in a row."""
    return np.array([[i for i, pixels in runs for _ in range(pixels)]], np.int32)


def test_panoptic_quality_by_hand():
    """IoU 6/8 matches; 4/8 does not, and so costs one false positive and one false negative."""
    quality = PanopticQuality(3)
    true = strip((1, 6), (2, 6), (3, 4))
    predicted = strip((7, 8), (8, 4), (0, 4))
    quality.add(predicted, {7: 0, 8: 1}, true, {1: 0, 2: 1, 3: 1})
    # class 0: IoU 6 / 8; class 1: 4 / 6 matches, segment 3 is missed
    result = quality.result()
    assert quality.tp.tolist() == [1, 1, 0] and quality.fn.tolist() == [0, 1, 0] and not quality.fp.any()
    assert result['per_class'][:2].tolist() == pytest.approx([0.75, (4 / 6) / 1.5])
    assert result['pq'] == pytest.approx((0.75 + 4 / 9) / 2), 'class 2 does not occur'
    assert result['sq'] == pytest.approx((0.75 + 4 / 6) / 2) and result['rq'] == pytest.approx(
        (1 + 2 / 3) / 2
    )
    quality.add(strip((7, 8)), {7: 0}, strip((1, 4), (2, 4)), {1: 0, 2: 1})
    assert quality.fp[0] == 1 and quality.fn.tolist() == [1, 2, 0], 'half is no match'


def test_what_is_not_labelled_does_not_count():
    """Unlabelled pixels leave the union; a prediction mostly on them or on a group is no mistake."""
    quality = PanopticQuality(1)
    quality.add(strip((5, 10)), {5: 0}, strip((1, 4), (0, 6)), {1: 0})
    assert quality.iou[0] == 1 and quality.tp[0] == 1
    quality.add(strip((5, 10)), {5: 0}, strip((9, 6), (0, 4)), {}, ignored={9})
    assert quality.fp[0] == 0
    assert np.isnan(PanopticQuality(2).result()['pq'])
