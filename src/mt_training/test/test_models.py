"""The networks: what they promise, their sizes, their encoders and pre-trained weights."""

import hashlib

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from torch import nn  # noqa: E402

from mt_perception.errors import MtError  # noqa: E402
from mt_training.benchmark import experiments  # noqa: E402
from mt_training.models import NETWORKS, available, build_network  # noqa: E402
from mt_training.models.mobilenet_v2 import EXPANSION, MobileNetV2  # noqa: E402
from mt_training.models.mobilenet_v3 import MobileNetV3  # noqa: E402
from mt_training.models.mtnet import MtNet  # noqa: E402
from mt_training.models.network import TASKS  # noqa: E402
from mt_training.models.places import ConvApPlaces, NetVladPlaces  # noqa: E402
from mt_training.models.raw import RawNet  # noqa: E402
from mt_training.models.resnet import ResNet50  # noqa: E402
from mt_training.module import KP2D, NEEDS, MultiTaskModule  # noqa: E402
from mt_training.train import load_config, override  # noqa: E402

MAPS = {'segmentation': 'segmentation', 'depth': 'log_depth', 'global_descriptor': 'global_descriptor'}
VARIANTS = [(name, {}) for name in NETWORKS if available(name)] + [
    ('mtnet-small', {'tasks': ['segmentation'], 'auxiliary': True}),
    ('mtnet-nano', {'attention': True, 'coarse': 24, 'coarse_depth': 24}),
    ('mtnet-nano', {'tasks': ['depth', 'keypoints']}),
    ('mtan', {'encoder': 'mobilenet_v2', 'tasks': ['segmentation']}),
    ('mtan-edge', {'encoder': 'mobilenet_v3_large', 'tasks': ['depth']}),
    ('kp2dtiny-s-a', {'decoders': 'fused', 'places': 'netvlad'}),
    ('kp2dtiny-n', {'decoders': 'fused', 'tasks': ['keypoints']}),
    ('kp2dtiny-mcu', {'decoders': 'fused', 'tasks': ['segmentation', 'keypoints', 'depth']}),
]
WEIGHTS = dict.fromkeys(NEEDS, 1.0)


def count(module):
    return sum(p.numel() for p in module.parameters())


def make(name, changes):
    """Make a network without computing random weights: its structure is what counts."""
    with torch.device('meta'):
        return build_network(name, classes=11, **changes)


@pytest.mark.parametrize(('name', 'changes'), VARIANTS)
def test_every_network_gives_what_its_tasks_promise(name, changes):
    net = make(name, changes).eval()
    assert net.tasks == tuple(t for t in TASKS if t in net.tasks) and net.tasks, 'tasks in their order'
    image = torch.zeros(2, 3, 64, 96, device='meta')
    out = net(image, net.tasks)
    for task, key in MAPS.items():
        assert (key in out) == (task in net.tasks)
    for key, channels in (('segmentation', 11), ('log_depth', 1), ('descriptors', net.descriptor_dim)):
        if key in out:
            batch, found, height, width = out[key].shape
            assert (batch, found) == (2, channels) and 64 // height == 96 // width, key
    if 'global_descriptor' in net.tasks:
        assert out['global_descriptor'].shape == (2, net.global_dim)
        assert net.place_descriptor(image).shape == (2, net.global_dim)
    if 'keypoints' in net.tasks:
        cells = out.get('keypoints', out.get('keypoint_scores'))
        assert cells.shape[1] == (17 if 'keypoints' in out else 1)
        assert 'keypoints' in out or out['keypoint_offsets'].shape == (2, 2, *cells.shape[2:])
    assert 'auxiliary_segmentation' not in out, 'auxiliary heads are for training'
    for task in net.tasks:
        alone = net(image, [task])
        assert set(alone) < set(out) or len(net.tasks) == 1


def batch_of_pairs(size=(64, 64), pairs=2):
    """Make two pairs, one related by a homography, with labels of every task."""
    generator = torch.Generator().manual_seed(0)
    width, height = size

    def uniform(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=generator)

    first = uniform(pairs, 1, 40, 2, low=4, high=50)
    homography = torch.full((pairs, 3, 3), float('nan'))
    homography[0] = torch.tensor([[1.0, 0, 3], [0, 1, 2], [0, 0, 1]])
    return {
        'images': (uniform(pairs, 2, 3, height, width) * 255).to(torch.uint8),
        'labels': torch.randint(0, 11, (pairs, 2, height, width), generator=generator).to(torch.uint8),
        'depth': uniform(pairs, 2, height, width, low=1, high=9),
        'cells': torch.randint(0, 17, (pairs, 2, height // 4, width // 4), generator=generator),
        'points': torch.cat([first, first + torch.tensor([3.0, 2.0])], dim=1),
        'points_valid': torch.ones(pairs, 40, dtype=torch.bool),
        'homography': homography,
        'place': torch.arange(pairs),
        'sets': ['camvid', 'kitchen'],
    }


@pytest.mark.parametrize(('name', 'changes'), VARIANTS)
def test_every_parameter_learns_from_a_batch_with_all_labels(name, changes, monkeypatch):
    monkeypatch.setattr('mt_training.models.resnet.WIDTHS', (8, 16, 32, 64))
    torch.manual_seed(0)
    module = MultiTaskModule(name, {'classes': 11, **changes}, {}, WEIGHTS, 1)
    losses, figures = module.losses({'dense': batch_of_pairs(), 'places': {}})
    expected = set(module.net.tasks) - {'global_descriptor', 'keypoints'}
    expected |= {'place'} if 'global_descriptor' in module.net.tasks else set()
    if 'keypoints' in module.net.tasks:
        expected |= ({'keypoints'} if name.startswith('mtnet') else set(KP2D)) | {'descriptors'}
    expected |= {'masks'} if name.startswith('mask2former') else set()
    assert set(losses) == expected
    sum(losses.values()).backward()
    idle = [n for n, p in module.net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert idle == []


def test_auxiliary_heads_weigh_as_much_as_the_experiment_says():
    torch.manual_seed(0)
    found = []
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        weights = {'segmentation': 1.0, 'auxiliary': weight}
        module = MultiTaskModule('fastsegnet', {'classes': 11, 'dropout': 0.0}, {}, weights, 1)
        assert module.tasks == ('segmentation',)
        losses, _ = module.losses({'dense': batch_of_pairs(), 'places': {}})
        found.append(losses['segmentation'].item())
    assert found[0] < found[1]
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-3)


def test_what_has_no_weight_does_not_train():
    module = MultiTaskModule('kp2dtiny-n', {'classes': 11}, {}, {'depth': 1.0}, 1)
    losses, _ = module.losses({'dense': batch_of_pairs(), 'places': {}})
    assert set(losses) == {'depth'} and module.tasks == ('depth',)


def test_attention_starts_without_effect_and_learns():
    torch.manual_seed(0)
    net, plain = (build_network('mtnet-nano', attention=on).eval() for on in (True, False))
    added = set(net.state_dict()) - set(plain.state_dict())
    assert added and all(name.startswith('pyramid.gates.') for name in added)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k not in added})
    image = torch.rand(1, 3, 64, 96) * 255
    before, without = net(image), plain(image)
    for name in without:
        torch.testing.assert_close(before[name], without[name])
    optimizer = torch.optim.SGD(net.pyramid.gates.parameters(), 1.0)
    for _ in range(2):  # the first step moves the last layer, the second what is before it
        optimizer.zero_grad()
        net(image)['segmentation'].square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in net.pyramid.gates.parameters())
    assert not torch.equal(net(image)['segmentation'], without['segmentation'])


def test_mtnet_small_is_the_network_its_checkpoints_are_of():
    names = [f'{name} {tuple(value.shape)}' for name, value in make('mtnet-small', {}).state_dict().items()]
    digest = hashlib.sha256('\n'.join(names).encode()).hexdigest()
    assert digest == 'ad59ea4c68641299c0c6daac9d6c8a72425c7f699213808827b524c62edcd84e'


def test_sizes_are_what_the_names_say():
    assert count(make('fastsegnet', {})) < 5e6
    for name, millions in (('kp2dtiny-n', 0.4), ('kp2dtiny-s', 0.9), ('kp2dtiny-mcu', 0.4)):
        assert count(make(name, {})) / 1e6 == pytest.approx(millions, rel=0.05), name
    assert count(make('mtnet-nano', {})) < count(make('mtnet-small', {})) < count(make('mtnet-base', {}))
    assert make('mtan-edge', {}).branches['segmentation'].top[0].out_channels == 128


def test_encoders_have_the_published_numbers_of_parameters():
    # public PyTorch models: 5 483 032, 2 542 856 and 25 557 032, less the classifiers and, in
    # MobileNetV3, the last 1×1 convolution with its batch norm
    with torch.device('meta'):
        encoders = {kind: MobileNetV3(kind) for kind in ('small', 'large')}
        resnet = ResNet50()
    large = 5_483_032 - (960 * 1280 + 1280 + 1280 * 1000 + 1000) - (160 * 960 + 2 * 960)
    small = 2_542_856 - (576 * 1024 + 1024 + 1024 * 1000 + 1000) - (96 * 576 + 2 * 576)
    assert count(encoders['large']) == large and count(encoders['small']) == small
    assert count(resnet) == 25_557_032 - (2048 * 1000 + 1000)


@pytest.mark.parametrize(
    'make_encoder', [MobileNetV2, lambda: MobileNetV3('small'), lambda: MobileNetV3('large'), ResNet50]
)
def test_encoders_halve_the_image_five_times(make_encoder):
    with torch.device('meta'):
        encoder = make_encoder().eval()
        maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [m.shape[1:] for m in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(encoder.channels, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(
    ('encoder', 'names'),
    [
        (
            'large',
            ['features.0.0.weight', 'features.1.block.0.0.weight', 'features.4.block.2.fc1.weight']
            + ['features.15.block.3.1.running_var'],
        ),
        ('small', ['features.1.block.1.fc2.bias', 'features.11.block.3.0.weight']),
    ],
)
def test_public_weights_of_mobilenet_v3_fit(encoder, names, tmp_path):
    net = MobileNetV3(encoder)
    state = {key: torch.rand_like(value.float()) for key, value in net.state_dict().items()}
    assert set(names) <= set(state), 'the names of the public checkpoints'
    state['classifier.0.weight'] = torch.zeros(3)
    torch.save(state, tmp_path / f'mobilenet_v3_{encoder}-0123abcd.pth')
    net.load_pretrained(tmp_path)
    assert torch.equal(net.state_dict()[names[0]], state[names[0]])
    del state[names[1]]
    torch.save(state, tmp_path / f'mobilenet_v3_{encoder}-0123abcd.pth')
    with pytest.raises(MtError, match=names[1]):
        net.load_pretrained(tmp_path)


def test_an_encoder_without_weights_says_so(tmp_path, capsys):
    for name in ('mtan', 'kp2dtiny-n', 'mtnet-base'):
        make(name, {}).load_pretrained(tmp_path)
        assert 'random weights' in capsys.readouterr().out
    with pytest.raises(MtError, match='encoder weights not found'):
        make('fastsegnet', {}).load_pretrained(tmp_path)


def test_a_smaller_encoder_imitates_the_full_one(tmp_path):
    torch.manual_seed(0)
    full = MobileNetV2().eval()
    for block in full.blocks[1:]:  # two thirds of the hidden channels do nothing: they can go without loss
        idle = torch.randperm(block.project.in_channels)[: block.project.in_channels * 2 // 3]
        block.project.weight.data[:, idle] = 0
    np.savez(tmp_path / 'mobilenet_v2_imagenet.npz', **{k: v.numpy() for k, v in full.state_dict().items()})
    nano = MobileNetV2(expansion=2).eval()
    images = [torch.rand(1, 3, 64, 64) * 255 for _ in range(3)]
    nano.load_pretrained(tmp_path, images)
    with torch.no_grad():
        for found, expected in zip(nano(images[0] / 128 - 1), full(images[0] / 128 - 1), strict=True):
            assert (found - expected).norm() < 0.05 * expected.norm()
    assert EXPANSION == 6 and nano.blocks[3].depthwise.out_channels == 48
    with pytest.raises(MtError, match='needs images'):
        nano.load_pretrained(tmp_path)


def test_a_frozen_encoder_keeps_its_statistics():
    net = build_network('kp2dtiny-n', tasks=['segmentation'])
    net.freeze_encoder(3)
    net.train()
    before = {k: v.clone() for k, v in net.encoder.state_dict().items()}
    net(torch.rand(2, 3, 64, 64) * 255)['segmentation'].mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in net.encoder.state_dict().items())
    assert all(p.grad is None for p in net.encoder.parameters())
    assert all(p.grad is not None for p in net.dense_parameters())


def test_netvlad_starts_at_the_clusters_of_its_features():
    torch.manual_seed(0)
    head = NetVladPlaces(4, 8, clusters=2, reduced=4)
    head.reduce.weight.data.copy_(torch.eye(4)[:, :, None, None])
    head.reduce.bias.data.zero_()
    one, two = torch.tensor([1.0, 0.05, 0, 0]), torch.tensor([0, 0, 1.0, 0.1])
    rows = torch.stack([one if i % 3 else two for i in range(64)]) + 0.01 * torch.rand(64, 4)
    maps = [rows[i : i + 16].T.reshape(1, 4, 4, 4) for i in range(0, 64, 16)]
    head.initialise(maps)
    local = head.local(maps[0])
    assignment = head.assign(local).softmax(1)[0].flatten(1)
    kinds = torch.tensor([bool(i % 3) for i in range(16)])
    group = assignment.argmax(0)
    assert assignment.amax(0).min() > 0.99 and len(set(group[kinds].tolist())) == 1
    assert set(group[kinds].tolist()) != set(group[~kinds].tolist())
    assert head.residuals(local).norm(dim=1).item() == pytest.approx(1, abs=1e-5)


def test_convap_averages_the_quarters_of_the_image():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    for fixed in (False, True):
        head = ConvApPlaces(1, 4, fixed)
        nn.init.ones_(head.conv.weight)
        nn.init.zeros_(head.conv.bias)
        assert head(x)[0].tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    ('name', 'changes', 'sentence'),
    [
        ('mtnet', {}, 'mtnet-small'),
        ('mtnet-small', {'wdith': 3}, 'wdith'),
        ('mtnet-small', {'encoder': 'vgg'}, 'mobilenet_v2, resnet50'),
        ('mtnet-small', {'tasks': ['flow']}, 'segmentation, depth, keypoints, global_descriptor'),
        ('mtan', {'encoder': 'vgg'}, 'mobilenet_v3_large'),
        ('mtan', {'tasks': []}, 'segmentation, depth'),
        ('kp2dtiny-s', {'places': 'mean'}, 'netvlad'),
        ('kp2dtiny-mcu', {'places': 'gem'}, 'microcontroller'),
        ('kp2dtiny-mcu', {'attention': True}, 'microcontroller'),
    ],
)
def test_what_a_network_cannot_be_is_one_sentence(name, changes, sentence):
    with pytest.raises(MtError, match=sentence):
        build_network(name, **changes)


def test_every_experiment_builds_its_network_and_weighs_its_losses():
    names = set()
    for path in experiments():
        config = load_config(path)
        names.add(config['architecture'])
        with torch.device('meta'):
            net = build_network(config['architecture'], **config['model'])
        assert net.classes in (0, len(config['classes'])), path
        used = {name for step in config['schedule'] for name in step}
        assert used <= set(config['sets']), path
        own = {'keypoints'} if isinstance(net, MtNet) else set(KP2D)
        learned = {
            'segmentation': {'masks' if net.queries else 'segmentation'},
            'depth': {'depth'},
            'keypoints': own | {'descriptors'},
            'global_descriptor': {'place'},
        }
        needed = set().union(*(learned[task] for task in net.tasks))
        assert needed <= set(config['loss_weights']), path
    assert names == set(filter(available, NETWORKS)), 'every architecture has an experiment'


def test_the_command_line_reaches_every_parameter_of_the_network():
    config = load_config('kp2dtiny_n')
    override(config, ['model.width=32', 'model.places=convap'])
    assert build_network(config['architecture'], **config['model']).decoders['segmentation'].fuse4
    assert config['model']['width'] == 32


def test_layers_alone_are_those_of_the_whole_network():
    torch.manual_seed(0)
    net = build_network('kp2dtiny-mcu').eval()
    image = torch.randint(0, 256, (1, 3, 64, 96)).float()
    raw = RawNet(net)
    with torch.no_grad():
        whole = net(image, net.tasks)
        layers = dict(zip(raw.names, raw((image - 128) / 128), strict=True))
    torch.testing.assert_close(layers['keypoint_scores'].sigmoid(), whole['keypoint_scores'])
    torch.testing.assert_close(7 * layers['keypoint_offsets'].tanh(), whole['keypoint_offsets'])
    depth = (np.log(0.3) + np.log(400) * layers['depth'].sigmoid()).float()
    torch.testing.assert_close(depth, whole['log_depth'])
    with pytest.raises(MtError, match='no raw form'):
        RawNet(build_network('fastsegnet'))
