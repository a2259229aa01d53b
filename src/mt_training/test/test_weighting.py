"""How task losses become one, by hand; gradient surgery against the paper's algorithm in plain NumPy."""

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError  # noqa: E402
from mt_training.losses import LossTable  # noqa: E402
from mt_training.losses.segmentation import cross_entropy, dice  # noqa: E402
from mt_training.losses.weighting import build_weighting, project_conflicts, surgery  # noqa: E402


def test_fixed_weights_add_up():
    total = build_weighting(None, {'a': 2.0, 'b': 0.5})({'a': torch.tensor(1.0), 'b': torch.tensor(4.0)})
    assert total.item() == 4.0


def test_uncertainty_by_hand_and_its_optimum():
    weighting = build_weighting({'kind': 'uncertainty'}, {'segmentation': 1.0, 'depth': 1.0, 'place': 1.0})
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.2, -0.4, 3.0]))
    losses = {'segmentation': torch.tensor(1.5), 'depth': torch.tensor(0.3), 'place': torch.tensor(0.0)}
    expected = math.exp(-0.2) * 1.5 + 0.1 + 0.5 * math.exp(0.4) * 0.3 - 0.2
    assert weighting(losses).item() == pytest.approx(expected, rel=1e-6)
    weighting(losses).backward()
    assert weighting.log_variance.grad[2] == 0, 'a task without labels teaches its weight nothing'
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        weighting(losses).backward()
        optimizer.step()
    # d/ds (c e^-s L + s/2) = 0 at s = ln 2cL
    expected = [math.log(2 * 1.5), math.log(0.3)]
    np.testing.assert_allclose(weighting.log_variance[:2].detach().numpy(), expected, atol=1e-2)


def epoch(weighting, *steps):
    for a, b in steps:
        weighting({'a': torch.tensor(a), 'b': torch.tensor(b)})
    weighting.end_epoch()


def test_dwa_by_hand():
    weighting = build_weighting({'kind': 'dwa', 'temperature': 2.0}, {'a': 1.0, 'b': 1.0})
    epoch(weighting, (2.0, 1.0), (4.0, 0.0))  # means 3 and, over the one step that has it, 1
    assert weighting.factors().tolist() == [1, 1]
    epoch(weighting, (1.5, 0.9))
    a, b = math.exp(0.5 / 2), math.exp(0.9 / 2)
    expected = [2 * a / (a + b), 2 * b / (a + b)]
    np.testing.assert_allclose(weighting.factors().numpy(), expected, rtol=1e-6)
    total = weighting({'a': torch.tensor(10.0), 'b': torch.tensor(0.0)})
    assert total.item() == pytest.approx(10 * expected[0], rel=1e-6)
    other = build_weighting({'kind': 'dwa'}, {'a': 1.0, 'b': 1.0})
    other.load_state_dict(weighting.state_dict())
    assert other.factors().tolist() == weighting.factors().tolist()


def test_projection_by_hand():
    # g1 · g2 = −1: g1 loses its part along g2, (1,0) + ½(−1,1) = (½,½); g2 loses its part along g1: (0,1)
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    out = project_conflicts(gradients, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, torch.tensor([0.5, 1.5]))
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(project_conflicts(agreeing, torch.Generator()), torch.tensor([2.0, 1.0]))


def reference(gradients, seed):
    """Algorithm 1 of Yu et al., 2020, in NumPy, with the same random orders."""
    generator = torch.Generator().manual_seed(seed)
    total = 0
    for i, own in enumerate(gradients):
        own = own.copy()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            if j != i and own @ gradients[j] < 0:
                own -= own @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        total = total + own
    return total


def test_surgery_is_the_papers_on_shared_parameters():
    torch.manual_seed(1)
    shared, *heads = (torch.randn(20, requires_grad=True) for _ in range(4))
    losses = [(shared * h).sum() ** 2 * 0.01 for h in heads]
    unused = torch.randn(3, requires_grad=True)
    own = [torch.autograd.grad(loss, shared, retain_graph=True)[0].numpy() for loss in losses]
    assert (np.array(own) @ np.array(own).T < 0).any(), 'nothing conflicts, so nothing would be tested'
    expected_heads = [torch.autograd.grad(loss, h, retain_graph=True)[0] for loss, h in zip(losses, heads)]
    surgery(losses, [shared, *heads, unused], 0.5, torch.Generator().manual_seed(7))
    np.testing.assert_allclose(shared.grad.numpy(), 0.5 * reference(own, 7), rtol=1e-4, atol=1e-6)
    for head, expected in zip(heads, expected_heads):
        torch.testing.assert_close(head.grad, 0.5 * expected)
    assert unused.grad is None
    before = shared.grad.clone()
    losses = [(shared * h).sum() ** 2 * 0.01 for h in heads]
    surgery(losses, [shared, *heads, unused], 0.5, torch.Generator().manual_seed(7))
    torch.testing.assert_close(shared.grad, 2 * before)  # gradients accumulate


def test_losses_by_name_add_up():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    table = LossTable({'segmentation': {'cross_entropy': 1.0, 'dice': {'weight': 0.5, 'smooth': 10.0}}})
    figures = {}
    total, _ = table('segmentation', logits, labels, weights=None, figures=figures)
    parts = [cross_entropy(logits, labels), dice(logits, labels, smooth=10.0)]
    torch.testing.assert_close(total, parts[0] + 0.5 * parts[1])
    torch.testing.assert_close(figures['segmentation/dice'], parts[1])
    assert LossTable().parts['depth'][0][0] == 'log_l1' and not LossTable().has('photometric')


@pytest.mark.parametrize(
    ('losses', 'sentence'),
    [
        ({'segmentaton': {'dice': 1}}, "unknown task 'segmentaton'"),
        ({'segmentation': {'dise': 1}}, "segmentation: unknown loss 'dise'; known: cross_entropy, focal"),
        ({'segmentation': {'dice': {'smoth': 1}}}, "losses.segmentation.dice has no option 'smoth'"),
        ({'depth': {'l1': 'much'}}, "losses.depth.l1: 'much' is not a weight"),
    ],
)
def test_wrong_losses_get_one_sentence(losses, sentence):
    with pytest.raises(MtError, match=sentence):
        LossTable(losses)


def test_wrong_weightings_get_one_sentence():
    with pytest.raises(MtError, match='known: fixed, uncertainty, dwa, pcgrad'):
        build_weighting({'kind': 'magic'}, {})
    with pytest.raises(MtError, match="'dwa' does not take speed"):
        build_weighting({'kind': 'dwa', 'speed': 1}, {})
