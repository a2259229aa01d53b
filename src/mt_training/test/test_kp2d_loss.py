"""The losses that KP2D's keypoints learn from, against numbers worked out by hand."""

import math

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_training.losses.kp2d import (  # noqa: E402
    associate,
    descriptor_triplet,
    inside,
    keypoint_positions,
    kp2d_losses,
    score_and_location,
    warp,
)

SHIFT = torch.tensor([[[1.0, 0, 10], [0, 1, 0], [0, 0, 1]]])  # 10 pixels to the right


def test_offsets_are_from_the_centres_of_the_cells():
    offsets = torch.zeros(1, 2, 2, 3)
    offsets[0, :, 1, 2] = torch.tensor([1.5, -2.0])
    found = keypoint_positions(offsets, (24, 16))
    assert found[0, 0].tolist() == [3.5, 3.5] and found[0, 1].tolist() == [11.5, 3.5]
    assert found[0, 5].tolist() == [21.0, 9.5]


def test_points_move_with_the_homography():
    points = torch.tensor([[[2.0, 3.0], [8.0, 4.0]]])
    perspective = torch.tensor([[[2.0, 0, 1], [0, 2, 0], [0.5, 0, 1]]])
    assert warp(points, SHIFT)[0].tolist() == [[12, 3], [18, 4]]
    assert warp(points, perspective)[0, 0].tolist() == [2.5, 3.0]
    assert torch.isinf(warp(-points, perspective)[0, 1]).all(), 'behind the camera'
    assert inside(torch.tensor([[[0.0, 0], [31, 15], [31.1, 3], [2, -0.1]]]), (32, 16))[0].tolist() == [
        True, True, False, False,
    ]  # fmt: skip


def test_score_and_location_of_two_associated_points():
    # first view's points go to (15, 5), (25, 5), (41, 5); the last is outside, the second is 3 px off
    first = torch.tensor([[[5.0, 5.0], [15.0, 5.0], [31.0, 5.0]]], requires_grad=True)
    second = torch.tensor([[[25.0, 8.0], [16.0, 5.0], [3.0, 14.0]]], requires_grad=True)
    scores = [torch.tensor([[0.8, 0.4, 0.9]]), torch.tensor([[0.2, 0.6, 0.5]])]
    assert associate(warp(first, SHIFT), second)[0, :2].tolist() == [1, 0]
    score, location, rate = score_and_location(scores, [first, second], SHIFT, (32, 16))
    assert location.item() == pytest.approx((1 + 3) / 2)
    # mean scores 0.7 and 0.3, distances 1 and 3 around their mean 2; differences 0.2 and 0.2
    assert score.item() == pytest.approx((0.7 * -1 + 0.3 * 1) / 2 + (0.04 + 0.04) / 2)
    assert rate.item() == 1
    location.backward()
    assert first.grad[0, 0].tolist() == [-0.5, 0] and second.grad[0, 0].tolist() == [0, 0.5]
    assert first.grad[0, 2].tolist() == [0, 0], 'what leaves the image does not count'


def test_nothing_is_associated_beyond_the_limit():
    points = [torch.tensor([[[5.0, 5.0]]]), torch.tensor([[[20.0, 5.0]]])]
    score, location, rate = score_and_location([torch.ones(1, 1)] * 2, points, SHIFT, (32, 16), association=4)
    assert (score.item(), location.item(), rate.item()) == (0, 0, 0)


def test_hardest_negative_of_a_triplet():
    first = torch.eye(3)[None]
    second = torch.tensor([[[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]]])
    positions = torch.tensor([[[0.0, 0], [20, 0], [40, 0]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    loss, part = descriptor_triplet(first, second, positions, valid)
    # cosines: 1 is right for the first, 0.6 its hardest negative; 0.8 and 0 for the second; 1 and 0
    terms = [1e-4 - math.sqrt(0.8) + 0.2, math.sqrt(0.4) - math.sqrt(2) + 0.2, 1e-4 - math.sqrt(2) + 0.2]
    assert loss.item() == pytest.approx(sum(max(0, t) for t in terms) / 3, abs=1e-3)
    loss, part = descriptor_triplet(first, second, positions, valid, margin=0.9)
    terms = [t + 0.7 for t in terms]
    assert loss.item() == pytest.approx(sum(max(0, t) for t in terms) / 3, abs=1e-3) and part == 1
    swapped, part = descriptor_triplet(first, second[:, [1, 0, 2]], positions, valid)
    assert swapped > loss and part.item() == pytest.approx(1 / 3)
    # a near point is no negative, nor is one that is not valid
    close = descriptor_triplet(first, second[:, [1, 0, 2]], positions / 10, valid)[1]
    assert close == 1
    valid[0, 1] = False
    alone, part = descriptor_triplet(first, second, positions, valid, margin=0.2)
    assert alone.item() == 0 and part == 1


def perfect_output(shift, size=(64, 32)):
    """Make the output of a network that finds the same points and descriptors in both views."""
    torch.manual_seed(0)
    descriptors = torch.randn(1, 16, size[1] // 4, size[0] // 4)
    moved = torch.roll(descriptors, shift // 4, dims=3)
    return {
        'keypoint_scores': torch.full((2, 1, size[1] // 8, size[0] // 8), 0.5),
        'keypoint_offsets': torch.zeros(2, 2, size[1] // 8, size[0] // 8),
        'descriptors': torch.cat([descriptors, moved]),
    }


def batch(shift):
    homography = torch.eye(3)[None].clone()
    homography[0, 0, 2] = shift
    points = torch.rand(1, 1, 20, 2) * torch.tensor([40.0, 24.0]) + 4
    both = torch.cat([points, points + torch.tensor([float(shift), 0])], dim=1)
    return {'homography': homography, 'points': both, 'points_valid': torch.ones(1, 20, dtype=torch.bool)}


def test_a_perfect_network_has_next_to_no_loss():
    losses, figures = kp2d_losses(perfect_output(8), batch(8), (64, 32))
    assert losses['keypoint_location'] < 1e-4 and abs(losses['keypoint_score']) < 1e-6
    assert losses['keypoint_triplet'] < 0.02 and figures['associated'] == 1 and figures['hardest'] > 0.9
    worse, _ = kp2d_losses(perfect_output(8), batch(6), (64, 32))
    assert worse['keypoint_location'].item() == pytest.approx(2, abs=1e-4)
    assert worse['keypoint_triplet'] > losses['keypoint_triplet']


def test_pairs_without_a_homography_teach_descriptors_alone():
    given = batch(8)
    given['homography'][:] = float('nan')
    losses, figures = kp2d_losses(perfect_output(8), given, (64, 32))
    assert losses['keypoint_location'] == 0 and losses['keypoint_score'] == 0
    assert losses['keypoint_triplet'] < 0.05 and figures['hardest'] > 0.9


def test_collapsed_descriptors_stay_at_the_margin():
    out = perfect_output(8)
    out['descriptors'] = torch.ones_like(out['descriptors'])
    losses, figures = kp2d_losses(out, batch(8), (64, 32))
    assert losses['keypoint_triplet'].item() == pytest.approx(0.2, abs=0.01) and figures['hardest'] < 0.1
