"""Place losses by hand: which pairs count, and how much."""

import math

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError  # noqa: E402
from mt_training.losses.places import info_nce, multi_similarity, relations, triplet  # noqa: E402


def at(*degrees):
    """Return unit vectors in the plane at these angles: [N,2]."""
    angles = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], 1)


def squared(a, b):
    """Return the squared distance of two unit vectors at these angles in degrees."""
    return 2 - 2 * math.cos(math.radians(a - b))


# place 0 is seen at 0° and 60°, place 9 at 20° and 90°
FIRST, SECOND, PLACES = at(0, 20), at(60, 90), torch.tensor([0, 9])
VIEWS = [(0, 0), (20, 9), (60, 0), (90, 9)]


def distances(own, angle, place):
    """Return the sorted squared distances of a view to the others of its place (or of other places)."""
    return sorted(squared(angle, a) for a, p in VIEWS if (p == place) == own and a != angle)


def test_relations():
    positive, negative = relations(torch.tensor([3, 4, 4, 20]), neighbours=1)
    assert positive[0].nonzero()[:, 0].tolist() == [4]
    assert positive[1].nonzero()[:, 0].tolist() == [2, 5, 6]
    assert negative[0].nonzero()[:, 0].tolist() == [3, 7]
    assert negative[3].nonzero()[:, 0].tolist() == [0, 1, 2, 4, 5, 6]


def test_triplet_with_the_hardest():
    margin, expected = 0.3, 0.0
    for angle, place in VIEWS:
        expected += max(0, distances(True, angle, place)[-1] - distances(False, angle, place)[0] + margin) / 4
    loss, recall = triplet(FIRST, SECOND, PLACES, margin=margin, mining='hard')
    assert loss.item() == pytest.approx(expected)
    assert recall.item() == 0.5  # 0° is nearer to 60° than to 90°, and so is 20°


def test_triplet_with_semi_hard_ones():
    margin, expected = 0.3, 0.0
    for angle, place in VIEWS:
        positive, negatives = distances(True, angle, place)[0], distances(False, angle, place)
        chosen = min((n for n in negatives if n > positive), default=max(negatives))
        expected += max(0, positive - chosen + margin) / 4
    loss, _ = triplet(FIRST, SECOND, PLACES, margin=margin, mining='semi_hard')
    assert loss.item() == pytest.approx(expected)


def test_triplet_with_all():
    margin, losses = 0.3, []
    for angle, place in VIEWS:
        positive = distances(True, angle, place)[0]
        losses += [positive - n + margin for n in distances(False, angle, place) if positive - n + margin > 0]
    loss, _ = triplet(FIRST, SECOND, PLACES, margin=margin, mining='all')
    assert loss.item() == pytest.approx(sum(losses) / len(losses))


def test_multi_similarity_by_hand():
    alpha, beta, base, epsilon, expected = 2.0, 10.0, 0.5, 0.1, 0.0
    for angle, place in VIEWS:
        positives = [1 - d / 2 for d in distances(True, angle, place)]
        negatives = [1 - d / 2 for d in distances(False, angle, place)]
        kept = [s for s in positives if s < max(negatives) + epsilon]
        hard = [s for s in negatives if s > min(positives) - epsilon]
        expected += math.log(1 + sum(math.exp(-alpha * (s - base)) for s in kept)) / alpha / 4
        expected += math.log(1 + sum(math.exp(beta * (s - base)) for s in hard)) / beta / 4
    loss, _ = multi_similarity(FIRST, SECOND, PLACES, beta=beta)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize('options', [{'mining': m} for m in ('all', 'hard', 'semi_hard')])
def test_triplet_pulls_places_together(options):
    descend(lambda a, b, places: triplet(a, b, places, margin=0.5, **options))


@pytest.mark.parametrize('loss', [multi_similarity, info_nce])
def test_other_losses_pull_places_together(loss):
    descend(loss)


def descend(loss):
    torch.manual_seed(4)
    vectors = torch.randn(12, 8, requires_grad=True)
    places = torch.arange(6) * 10
    optimizer = torch.optim.Adam([vectors], lr=0.05)

    def run():
        unit = torch.nn.functional.normalize(vectors, dim=1)
        return loss(unit[:6], unit[6:], places)

    assert run()[1] < 0.7
    for _ in range(80):
        optimizer.zero_grad()
        run()[0].backward()
        optimizer.step()
    assert run()[1] == 1


@pytest.mark.parametrize('loss', [triplet, multi_similarity])
def test_neighbours_are_no_negatives(loss):
    places = torch.tensor([4, 5])
    near = loss(FIRST, SECOND, places, neighbours=1)[0]
    apart = loss(FIRST, SECOND, places, neighbours=0)[0]
    assert near.item() == 0 or near < apart
    assert torch.isfinite(near)


def test_unknown_mining_is_named():
    with pytest.raises(MtError, match='semi_hard'):
        triplet(FIRST, SECOND, PLACES, mining='easy')
