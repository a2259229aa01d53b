"""Pruning: which channels go together, that what is left computes the same, and the command around it."""

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from torch import nn  # noqa: E402

from mt_training.export import load_net  # noqa: E402
from mt_training.models import build_network  # noqa: E402
from mt_training.models.network import Network  # noqa: E402
from mt_training.prune import main, select  # noqa: E402
from mt_training.pruning import channels  # noqa: E402
from mt_training.pruning.dependencies import find_groups  # noqa: E402
from mt_training.pruning.reconstruction import collect_moments, reconstruct  # noqa: E402
from mt_training.tracing import example  # noqa: E402
from tiny_checkpoint import write_checkpoint  # noqa: E402
from tiny_experiment import write_data  # noqa: E402

TINY = {'channels': [8, 8, 16, 16], 'width': 16, 'descriptor_dim': 16, 'global_dim': 16}
MTNET = {'width': 16, 'keypoint_width': 16, 'descriptor_dim': 16, 'global_dim': 16}
# every kind of block: inverted residuals, attention, transformers, auxiliary heads
NETWORKS = {
    'mtnet-nano': {**MTNET, 'attention': True, 'coarse': 24, 'coarse_depth': 24},
    'mtan-edge': {'width': 16, 'classes': 11},
    'fastsegnet': {'width': 16},
    'kp2dtiny-s-a': TINY,
    'keypointformer': TINY,
}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Write a miniature network."""
    torch.set_num_threads(1)
    return write_checkpoint(tmp_path_factory.mktemp('run'))


class Plain(Network):
    """A stem, a residual sum of two layers, a depthwise convolution, a concatenation, an output."""

    tasks = ('segmentation',)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left, self.right = nn.Conv2d(16, 32, 1), nn.Conv2d(16, 32, 1)
        self.norm, self.depthwise = nn.BatchNorm2d(32), nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.side = nn.Conv2d(16, 24, 1)
        self.head = nn.Conv2d(16 * 4 + 24 + 32, 16, 1)

    def forward(self, image, tasks=tasks):
        x = torch.relu(self.stem(image))
        y = self.depthwise(self.norm(self.left(x) + self.right(x)))
        fine = nn.functional.interpolate(nn.functional.pixel_unshuffle(x, 2), scale_factor=2.0)
        return {'segmentation': self.head(torch.cat([fine, self.side(x), y], dim=1))}


def test_channels_that_belong_together():
    groups = {tuple(sorted(g.producers)): g for g in find_groups(Plain().eval())}
    assert set(groups) == {('stem',), ('left', 'right'), ('side',)}, 'the head is the output: it stays'
    sum_of_two = groups['left', 'right']
    assert sum_of_two.followers == {'norm', 'depthwise'} and sum_of_two.readers == {('head', 88): 1}
    assert groups['side',].readers == {('head', 64): 1}
    assert groups['stem',].readers == {
        ('left', 0): 1, ('right', 0): 1, ('side', 0): 1, ('head', 0): 4
    }  # fmt: skip


def masked(net, chosen):
    """Copy a network; what reads a channel that goes reads nothing there."""
    copied = copy.deepcopy(net)
    for name, (inputs, _) in chosen.items():
        layer = copied.get_submodule(name)
        if layer.weight.dim() > 1 and getattr(layer, 'groups', 1) == 1:
            gone = np.setdiff1d(np.arange(layer.weight.shape[1]), inputs)
            with torch.no_grad():
                layer.weight[:, gone] = 0
    return copied


@pytest.mark.parametrize('name', NETWORKS)
def test_what_is_left_computes_the_same(name):
    torch.manual_seed(0)
    net = build_network(name, **NETWORKS[name]).eval()
    groups = find_groups(net)
    worths = [channels.importance(net, group) for group in groups]
    chosen = channels.masks(net, groups, channels.choose(worths, 0.4, 'uniform'))
    shapes = channels.planned_shapes(net, chosen)
    reference, smaller = masked(net, chosen), copy.deepcopy(net)
    channels.remove(smaller, chosen)
    image = example(net, 2)
    with torch.no_grad():
        expected, found = reference(image, net.tasks), smaller(image, net.tasks)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=f'{name} {key}')
    before, after = (sum(p.numel() for p in n.parameters()) for n in (net, smaller))
    assert after < (0.85 if name == 'mtnet-nano' else 0.97) * before
    again = build_network(name, shapes=shapes, **NETWORKS[name]).eval()
    again.load_state_dict(smaller.state_dict())
    net.train()  # the auxiliary heads are still fed
    smaller.train()(image, smaller.tasks)


def test_inner_channels_of_all_parts_of_mtnet_may_go():
    names = {name for g in find_groups(build_network('mtnet-nano', **MTNET).eval()) for name in g.producers}
    expected = {f'encoder.blocks.{n}.expand' for n in range(1, 17)}
    expected |= {'pyramid.smooth.2.1', 'pyramid.laterals.2.0', 'segmentation.0.1', 'depth.0.1', 'fine.0'}
    assert expected <= names
    assert not names & {'segmentation.3', 'depth.2', 'keypoints.1', 'descriptors.1', 'place'}
    assert 'encoder.blocks.16.project' not in names, 'places are normalised over its channels'


def test_importance_by_hand():
    net = Plain().eval()
    groups = {tuple(sorted(g.producers)): g for g in find_groups(net)}
    group = groups['left', 'right']
    with torch.no_grad():
        net.norm.weight.copy_(torch.linspace(0.1, 3.2, 32))
        net.norm.running_var.fill_(4.0)
        for layer in (net.left, net.right):
            layer.weight.fill_(0.5)
    expected = np.linspace(0.1, 3.2, 32)
    np.testing.assert_allclose(channels.importance(net, group, 'bn'), expected / expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(channels.importance(net, group, 'l1'), expected / expected.mean(), rtol=1e-5)
    with torch.no_grad():
        net.side.weight[5] = 0
    assert channels.importance(net, groups['side',], 'bn').argmin() == 5, 'without batch norm: the filters'
    net.requires_grad_(True)
    x = torch.rand(1, 3, 8, 8)
    only = [net.side(torch.relu(net.stem(x)))[:, 7].sum() for _ in range(2)]
    channels.accumulate_taylor(net, [groups['side',]], only)
    worth = channels.importance(net, groups['side',], 'taylor')
    assert worth[7] == pytest.approx(24) and np.delete(worth, 7).max() == 0


def test_what_stays_makes_up_for_what_goes():
    torch.manual_seed(0)
    net = Plain().eval()
    with torch.no_grad():  # every second channel repeats the one before, twice as strong and shifted
        for layer in (net.stem, net.side):
            layer.weight[1::2], layer.bias[1::2] = 2 * layer.weight[::2], 2 * layer.bias[::2]
        net.side.bias[1::2] += 3
    groups = select(find_groups(net), ['stem', 'side'], [])
    images = [torch.rand(1, 3, 32, 32) * 255 for _ in range(2)]
    moments = collect_moments(net, groups, images)
    chosen = channels.masks(net, groups, [np.arange(0, group.size, 2) for group in groups])
    smaller, cut = copy.deepcopy(net), copy.deepcopy(net)
    reconstruct(smaller, chosen, moments)
    for copied in (smaller, cut):
        channels.remove(copied, chosen)
    with torch.no_grad():
        expected, found, lost = (n(images[0])['segmentation'] for n in (net, smaller, cut))
    assert smaller.stem.out_channels == 8 and smaller.head.in_channels == 8 * 4 + 12 + 32
    assert (found - expected).abs().mean() < 0.01 * (lost - expected).abs().mean()
    worth = channels.importance(net, groups[1], 'energy', moments)
    read = net.head.weight.detach()[:, 64:88, 0, 0].square().sum(0)
    expected = (read[1::2] / read[::2] * 4).numpy()
    np.testing.assert_allclose(worth[1::2] / worth[::2], expected, rtol=1e-3, err_msg='shifts do not count')


def test_choice():
    worths = [np.arange(32.0), np.arange(32.0) + 20]
    uniform = channels.choose(worths, 0.5, 'uniform', 8)
    assert [k.tolist() for k in uniform] == [list(range(16, 32))] * 2
    overall = channels.choose(worths, 0.5, 'global', 8)
    assert len(overall[0]) == 8 and len(overall[1]) == 24 and overall[0].tolist() == list(range(24, 32))
    assert len(channels.choose([np.arange(40.0), np.full(40, 99.0)], 0.5)[0]) == 8, 'a fifth at least stays'
    assert select(find_groups(Plain().eval()), ['side'], []) and not select([], ['*'], [])


def test_command_prunes_trains_and_exports(checkpoint, tmp_path, capsys):
    data, output = write_data(tmp_path / 'data'), tmp_path / 'out'
    words = ['--checkpoint', checkpoint, '--output', output, '--macs', '0.7', '--importance', 'taylor']
    words += ['--data', data, '--pretrained', data / 'pretrained', '--batches', '1', '--size', '96x64']
    words += ['--finetune', '1', '--rounds', '2', '--held-out', '2', '--threads', '1', '--count', '1']
    words += ['--images', data / 'camvid/val/images', 'steps_per_epoch=2', 'schedule=[[camvid]]']
    assert main([str(word) for word in words]) == 0
    numbers = json.loads((output / 'metrics.json').read_text())
    before, after = numbers['multiply_adds']
    assert 0.55 * before < after <= 0.7 * before and numbers['channels'][1] < numbers['channels'][0]
    assert numbers['ms']['after']['ratio'] > 0 and 'global_cosine' in numbers['differences']
    net, config = load_net(output / 'pruned.ckpt')
    assert sum(p.numel() for p in net.parameters()) == numbers['parameters'][1]
    assert (
        net.encoder.blocks[5].depthwise.groups == config['model']['shapes']['encoder.blocks.5.depthwise'][2]
    )
    trained, _ = load_net(output / 'finetune/last.ckpt')
    first, second = net.state_dict(), trained.state_dict()
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert (output / 'pruned.onnx').stat().st_size < (output / 'before.onnx').stat().st_size
    assert 'multiply_adds' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ((), 'which network'),
        (('--checkpoint', 'nowhere.ckpt'), 'nowhere.ckpt'),
        (('--checkpoint', '{checkpoint}', '--ratio', '1.5'), '--ratio 1.5'),
        (('--checkpoint', '{checkpoint}', '--macs', '0.01'), 'at most'),
        (('--checkpoint', '{checkpoint}', '--layers', 'heads.*'), 'no channels'),
        (('--checkpoint', '{checkpoint}', '--importance', 'taylor'), '--data ROOT'),
        (('--checkpoint', '{checkpoint}', '--importance', 'energy'), '--images DIR'),
        (('--config', 'mtnet_small', '--init', '{checkpoint}'), 'does not hold the weights'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, checkpoint, tmp_path, capsys):
    words = [word.format(checkpoint=checkpoint) for word in words]
    assert main([*words, '--output', str(tmp_path / 'out'), '--size', '64x64']) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith('prune: ') and sentence in message
    assert not (tmp_path / 'out/pruned.ckpt').exists()


def test_wrong_shapes_are_refused():
    from mt_perception.errors import MtError

    with pytest.raises(MtError, match='model.shapes'):
        build_network('fastsegnet', shapes={'nothing': [3, 4, 1]})
