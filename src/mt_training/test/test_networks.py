"""The network, its deployed form and the exported file."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('onnx', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError  # noqa: E402
from mt_perception.inference.contract import read_model  # noqa: E402
from mt_training.deploy import DeployedNet  # noqa: E402
from mt_training.export import export  # noqa: E402
from mt_training.losses.depth import log_l1  # noqa: E402
from mt_training.losses.keypoints import cell_cross_entropy, dual_softmax, sample_descriptors  # noqa: E402
from mt_training.losses.places import info_nce  # noqa: E402
from mt_training.losses.segmentation import cross_entropy  # noqa: E402
from mt_training.models.mtnet import MtNet  # noqa: E402
from mt_training.train import load_config, override  # noqa: E402


@pytest.fixture(scope='module')
def net():
    """Make a small random network."""
    torch.manual_seed(0)
    return MtNet(classes=11, width=32, keypoint_width=32).eval()


@pytest.fixture
def config():
    """Return the default experiment, shrunk like :func:`net`."""
    config = load_config('mtnet_small')
    config['model'].update(width=32, keypoint_width=32)
    config['export']['max_keypoints'] = 64
    return config


def test_shapes_of_all_heads(net):
    out = net(torch.zeros(2, 3, 64, 96))
    assert out['segmentation'].shape == (2, 11, 16, 24)
    assert out['log_depth'].shape == (2, 1, 16, 24)
    assert out['keypoints'].shape == (2, 17, 16, 24)
    assert out['descriptors'].shape == (2, 64, 16, 24)
    torch.testing.assert_close(out['global_descriptor'].norm(dim=1), torch.ones(2))


def test_place_descriptor_alone_is_that_of_the_whole_pass(net):
    image = torch.rand(1, 3, 64, 96) * 255
    torch.testing.assert_close(net.place_descriptor(image), net(image)['global_descriptor'])


def test_frozen_blocks_get_no_gradient():
    net = MtNet(width=32, keypoint_width=32)
    net.freeze_encoder(3)
    net(torch.rand(1, 3, 64, 64) * 255)['segmentation'].mean().backward()
    assert net.encoder.stem.weight.grad is None and net.encoder.blocks[2].project.weight.grad is None
    assert net.encoder.blocks[3].project.weight.grad is not None


def test_keypoints_sit_on_the_peaks_of_the_score_map(net):
    logits = torch.full((1, 17, 16, 24), -8.0)
    logits[:, 16] = 8.0
    truth = [(41, 22), (60, 40), (12, 33)]  # x, y
    for rank, (x, y) in enumerate(truth):
        cell = (y % 4) * 4 + x % 4
        logits[0, cell, y // 4, x // 4] = 12.0 - rank
    descriptors = torch.randn(1, 64, 16, 24)
    deployed = DeployedNet(net, max_keypoints=8)
    points, scores, sampled = deployed.keypoints(logits, descriptors)
    np.testing.assert_allclose(points[0, :3].numpy(), truth, atol=0.05)
    assert (scores[0, :-1] >= scores[0, 1:]).all() and scores[0, 0] > 0.9
    expected = sample_descriptors(descriptors, points)
    torch.testing.assert_close(sampled, expected)


def test_no_keypoints_along_the_border(net):
    logits = torch.randn(1, 17, 16, 24)
    points, scores, _ = DeployedNet(net, max_keypoints=300).keypoints(logits, torch.randn(1, 64, 16, 24))
    points = points[0][scores[0] > 0]
    assert len(points) > 10
    assert (points >= 3).all() and (points[:, 0] <= 96 - 4).all() and (points[:, 1] <= 64 - 4).all()


def test_export_keeps_the_contract_and_the_numbers(net, config, tmp_path):
    path = tmp_path / 'net.onnx'
    report = export(net, config, path, size=(96, 64))
    assert report['depth'] < 1e-4 and report['segmentation'] == 0
    metadata = read_model(path).metadata if hasattr(read_model(path), 'metadata') else read_model(path)[0]
    assert metadata.tasks == ['segmentation', 'depth', 'keypoints', 'global_descriptor']
    assert metadata.max_keypoints == 64 and metadata.model_id.startswith('mtnet-small-')
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    out = session.run(None, {'image': np.zeros((1, 128, 160, 3), np.uint8)})
    assert out[0].shape == (1, 128, 160) and out[0].dtype == np.uint8
    assert [p.name for p in tmp_path.iterdir()] == ['net.onnx']


def test_export_refuses_a_graph_that_differs(net, config, tmp_path, monkeypatch):
    monkeypatch.setattr('mt_training.export.parity', lambda *args: {'depth': 0.5})
    with pytest.raises(MtError, match='depth'):
        export(net, config, tmp_path / 'net.onnx', size=(96, 64))
    assert list(tmp_path.iterdir()) == []


def test_losses_prefer_the_truth():
    labels = torch.randint(0, 11, (1, 4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    right = torch.nn.functional.one_hot(labels[:, 2::4, 2::4], 11).permute(0, 3, 1, 2).float() * 10
    assert cross_entropy(right, labels) < cross_entropy(-right, labels)
    assert cross_entropy(right, torch.full_like(labels, 255)) == 0
    depth = torch.rand(1, 32, 32) * 5 + 1
    exact = depth[:, None, 2::4, 2::4].log()
    assert log_l1(exact, depth) < 1e-6 < log_l1(exact + 0.1, depth)
    assert log_l1(exact, torch.full_like(depth, float('nan'))) == 0
    cells = torch.randint(0, 17, (1, 8, 8))
    logits = torch.nn.functional.one_hot(cells, 17).permute(0, 3, 1, 2).float() * 20
    assert cell_cross_entropy(logits, cells) < 1e-3 < cell_cross_entropy(torch.zeros(1, 17, 8, 8), cells)
    first = torch.nn.functional.normalize(torch.randn(2, 30, 64), dim=-1)
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[:, 25:] = False
    same, accuracy = dual_softmax(first, first, valid)
    other, _ = dual_softmax(first, first.flip(1), valid)
    assert same < other and accuracy == 1
    places = torch.arange(6)
    loss, recall = info_nce(first[0, :6], first[0, :6], places)
    assert recall == 1 and loss < info_nce(first[0, :6], first[0, 6:12], places)[0]


def test_neighbouring_places_are_no_negatives():
    first = torch.nn.functional.normalize(torch.ones(3, 8), dim=1)
    apart = info_nce(first, first, torch.tensor([0, 10, 20]), neighbours=3)[0]
    close = info_nce(first, first, torch.tensor([0, 1, 2]), neighbours=3)[0]
    assert close < 1e-3 < apart


def test_unknown_keys_and_experiments_are_named():
    with pytest.raises(MtError, match='mtnet_small'):
        load_config('nothing')
    with pytest.raises(MtError, match='optimizer.speed'):
        override(load_config('mtnet_small'), ['optimizer.speed=3'])
