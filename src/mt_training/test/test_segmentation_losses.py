"""Segmentation losses and class weights against numbers worked out by hand and against kornia's."""

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
kornia_losses = pytest.importorskip('kornia.losses')

from mt_perception.errors import MtError  # noqa: E402
from mt_training.losses.class_balance import class_weights, median_frequency  # noqa: E402
from mt_training.losses.segmentation import cross_entropy, dice, focal, lovasz, ohem  # noqa: E402


def logits_of(probabilities):
    """Turn [pixels, C] probabilities into logits [1,C,1,pixels]."""
    return torch.tensor(probabilities).log().T[None, :, None]


@pytest.fixture
def random_batch():
    torch.manual_seed(3)
    labels = torch.randint(0, 4, (2, 8, 12))
    labels[0, :3] = 255
    return torch.randn(2, 4, 8, 12), labels


def test_focal_by_hand():
    # true-class probabilities 0.9 and 0.6: (0.1² · −ln 0.9 + 0.4² · −ln 0.6) / 2
    logits, labels = logits_of([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([[[0, 1]]])
    expected = (0.01 * -math.log(0.9) + 0.16 * -math.log(0.6)) / 2
    assert focal(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    weights = torch.tensor([1.0, 3.0])
    expected = (0.01 * -math.log(0.9) + 3 * 0.16 * -math.log(0.6)) / 4
    assert focal(logits, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_focal_without_gamma_is_cross_entropy(random_batch):
    logits, labels = random_batch
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    expected = cross_entropy(logits, labels, weights)
    torch.testing.assert_close(focal(logits, labels, weights, gamma=0.0), expected)


def test_focal_is_kornias(random_batch):
    logits, labels = random_batch
    labels = labels.clamp(max=3)
    theirs = kornia_losses.focal_loss(logits, labels, alpha=None, gamma=2.0, reduction='none')
    torch.testing.assert_close(focal(logits, labels), theirs.sum(1).mean())


def test_dice_by_hand():
    # class 0: p 0.9, 0.4 of which the first is true; class 1: p 0.1, 0.6 of which the second is
    logits, labels = logits_of([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([[[0, 1]]])
    expected = 1 - ((2 * 0.9 / (1.3 + 1)) + (2 * 0.6 / (0.7 + 1))) / 2
    assert dice(logits, labels, smooth=0.0).item() == pytest.approx(expected, rel=1e-5)


def test_dice_is_kornias():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 10, 10), torch.randint(0, 3, (1, 10, 10))
    theirs = kornia_losses.dice_loss(logits, labels, average='macro', eps=0.0)
    torch.testing.assert_close(dice(logits, labels, smooth=0.0), theirs)


def test_lovasz_by_hand():
    # one pixel of each class. Class 0: errors 0.1 (true), 0.4 (not), sorted 0.4, 0.1: the Jaccard loss rises
    # to 1/2 with the false pixel and to 1 with the true one, so 0.4 · ½ + 0.1 · ½; class 1: errors 0.4
    # (true), 0.1.
    logits, labels = logits_of([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([[[0, 1]]])
    class0 = 0.4 * 0.5 + 0.1 * 0.5
    class1 = 0.4 * 1.0 + 0.1 * 0.0
    assert lovasz(logits, labels).item() == pytest.approx((class0 + class1) / 2, rel=1e-5)


def test_lovasz_is_kornias_where_all_classes_are_present():
    torch.manual_seed(1)
    logits, labels = torch.randn(2, 3, 9, 7), torch.randint(0, 3, (2, 9, 7))
    theirs = kornia_losses.lovasz_softmax_loss(logits, labels)
    torch.testing.assert_close(lovasz(logits, labels, per_image=True), theirs, rtol=1e-4, atol=1e-5)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou():
    from torchmetrics.functional import jaccard_index

    torch.manual_seed(2)
    labels, wrong = torch.randint(0, 3, (1, 20, 20)), torch.rand(1, 20, 20) < 0.3
    predicted = torch.where(wrong, (labels + 1) % 3, labels)
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1) * 60.0
    iou = jaccard_index(predicted, labels, task='multiclass', num_classes=3, average='macro')
    assert lovasz(logits, labels).item() == pytest.approx(1 - iou.item(), abs=1e-4)


def test_lovasz_of_every_second_pixel_is_that_of_the_coarser_labels():
    torch.manual_seed(3)
    labels = torch.randint(0, 3, (2, 8, 12))
    coarse = torch.randn(2, 3, 4, 6)
    assert lovasz(coarse, labels, every=2) == lovasz(coarse, labels[:, 1::2, 1::2])
    assert lovasz(coarse, labels, every=2) != lovasz(coarse, labels)


def test_ohem_counts_the_hard_pixels_only():
    probabilities = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.2, 0.8]]
    logits, labels = logits_of(probabilities), torch.zeros(1, 1, 4, dtype=torch.long)
    hard = (-math.log(0.6) - math.log(0.2)) / 2
    assert ohem(logits, labels, threshold=0.7, min_kept=0.0).item() == pytest.approx(hard, rel=1e-5)
    # at least three quarters: the third hardest has probability 0.8
    more = (-math.log(0.6) - math.log(0.2) - math.log(0.8)) / 3
    assert ohem(logits, labels, threshold=0.1, min_kept=0.75).item() == pytest.approx(more, rel=1e-5)


@pytest.mark.parametrize('loss', [cross_entropy, focal, dice, lovasz, ohem])
def test_ignored_pixels_change_nothing(loss, random_batch):
    logits, labels = random_batch
    logits.requires_grad_(True)
    first = loss(logits, labels)
    (gradient,) = torch.autograd.grad(first, logits)
    assert (gradient[0, :, :3] == 0).all() and (gradient[0, :, 3:] != 0).any()
    other = logits.detach().clone()
    other[0, :, :3] += torch.randn(4, 3, 12)
    torch.testing.assert_close(loss(other, labels), first.detach())
    nothing = loss(logits, torch.full_like(labels, 255))
    assert nothing.item() == 0 and torch.autograd.grad(nothing, logits)[0].abs().sum() == 0


@pytest.mark.parametrize('loss', [focal, dice, lovasz, ohem])
def test_descending_a_loss_finds_the_labels(loss):
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (1, 6, 6))
    logits = torch.zeros(1, 3, 6, 6, requires_grad=True)
    with torch.no_grad():
        logits += 0.01 * torch.randn(1, 3, 6, 6)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(1) == labels).all()


IMAGES = [np.array([[0, 0, 0, 1]]), np.array([[0, 0, 255, 255]])]


def test_class_weights_by_hand():
    # class 0: 5 pixels, seen in images of 4 + 2 labelled pixels; class 1: 1 pixel, in one of 4; class 2:
    # never
    f0, f1 = 5 / 6, 1 / 4
    median = (f0 + f1) / 2
    from mt_training.losses.class_balance import class_counts

    np.testing.assert_allclose(median_frequency(*class_counts(IMAGES, 3)), [median / f0, median / f1, 0])
    raw = np.array([1 / math.log(1.1 + 5 / 6), 1 / math.log(1.1 + 1 / 6), 1 / math.log(1.1)])
    found = class_weights('inverse_log', IMAGES, 3, c=1.1)
    np.testing.assert_allclose(found, raw / raw[:2].mean(), rtol=1e-6)
    raw = np.array([0.1 / (1 - 0.9**5), 0.1 / (1 - 0.9)])
    found = class_weights('effective_number', IMAGES, 3, beta=0.9)
    np.testing.assert_allclose(found, [*(raw / raw.mean()), 0], rtol=1e-6)


def test_wrong_balancing_rules_are_named():
    with pytest.raises(MtError, match='inverse_log'):
        class_weights('inverse', IMAGES, 3)
    with pytest.raises(MtError, match='does not take beta'):
        class_weights('inverse_log', IMAGES, 3, beta=0.9)
    with pytest.raises(MtError, match='labelled images'):
        class_weights('inverse_log', [np.full((2, 2), 255)], 3)
