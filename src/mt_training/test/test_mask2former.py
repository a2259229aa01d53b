"""Mask2Former: its loss, panoptic and semantic data, resumed runs, the exported file, public weights."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')
pytest.importorskip('transformers', reason='needs the training environment: ./mt build --training')

from miniature import write_data  # noqa: E402
from mt_perception.errors import MtError  # noqa: E402
from mt_perception.inference.contract import read_model  # noqa: E402
from mt_training.data.readers.sample import Segment  # noqa: E402
from mt_training.data.segments import merge_segments  # noqa: E402
from mt_training.data.sets import SetBuilder  # noqa: E402
from mt_training.deploy import DeployedNet  # noqa: E402
from mt_training.export import export, load_net  # noqa: E402
from mt_training.losses.masks import hungarian, targets  # noqa: E402
from mt_training.losses.teachers import load_teacher  # noqa: E402
from mt_training.models import build_network  # noqa: E402
from mt_training.models.mask2former import panoptic, semantic_logits  # noqa: E402
from mt_training.models.pretrained_swin import SWIN_NAMES  # noqa: E402
from mt_training.train import load_config, train  # noqa: E402
from tiny_panoptic import CLASSES, SIZE, TINY, tiny_mask2former, write_coco  # noqa: E402


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Write the miniature panoptic set."""
    return write_coco(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='module')
def run(coco, tmp_path_factory):
    """Train on it without interruption."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp('run')
    train(tiny_mask2former(coco), None, output, output)
    return output


def test_segments_of_a_panoptic_label():
    """Objects keep numbers of their own, stuff has none; groups and classes that are left out are ignored."""
    table = np.full(256, 255, np.uint8)
    table[:3] = 0, 1, 255
    ids = np.array([[10, 11, 12], [20, 21, 0]], np.int32)
    segments = [Segment(10, 0), Segment(11, 1, True), Segment(12, 1, True), Segment(20, 2, True)]
    merged = merge_segments(ids, [*segments, Segment(21, 1, True, is_crowd=True)], table)
    assert merged.tolist() == [[0, 1 + 256 * 2, 1 + 256 * 3], [255, 255, 255]]
    labels, masks = targets(torch.from_numpy(merged).int())
    assert labels.tolist() == [0, 1, 1] and masks.sum((1, 2)).tolist() == [1, 1, 1]


def test_both_views_of_a_pair_know_their_objects(coco, tmp_path):
    builder = SetBuilder(None, tmp_path, None, SIZE, 50.0, CLASSES)
    section = tiny_mask2former(coco)['sets']['coco']
    sample = builder.build({**section, 'scale': [1.0, 1.0]}).sample(np.random.default_rng(0))
    segments, labels = sample['segments'], sample['labels']
    assert segments.shape == (2, *SIZE[::-1]) and segments.dtype == np.int32
    assert (segments % 256 == labels).all(), 'the classes are those of the labels'
    assert all(len(np.unique(view[view % 256 == 2])) == 2 for view in segments), 'two cars'
    with pytest.raises(MtError, match='needs a set with segments'):
        builder.build({'kind': 'dataset', 'dataset': 'images', 'root': str(coco), 'panoptic': True})


def test_the_loss_sees_a_set():
    """The order of the queries does not matter; right answers cost little, wrong classes and masks a lot."""
    segments = torch.zeros(1, 16, 16)
    segments[0, :, 8:] = 1 + 256
    right = torch.full((1, 3, 16, 16), -20.0)
    right[0, 0, :, :8], right[0, 1, :, 8:] = 20, 20
    classes = torch.full((1, 3, 3), -10.0)
    classes[0, [0, 1, 2], [0, 1, 2]] = 10

    def loss(order, names=(0, 1, 2), masks=right):
        torch.manual_seed(0)
        found = [classes[:, order][:, list(names)]], [masks[:, order]]
        value, parts = hungarian(*found, segments, points=1024, importance=0.0)
        assert set(parts) == {'class', 'mask', 'dice'}
        return float(value)

    best = loss([0, 1, 2])
    assert best < 2, "what is left is at the masks' edges, where points lie between pixels"
    assert loss([2, 0, 1]) == pytest.approx(best, abs=1e-3)
    assert loss([0, 1, 2], (1, 0, 2)) > best + 10
    assert loss([0, 1, 2], masks=right.roll(4, -1)) > best + 10
    nothing = torch.full((1, 16, 16), 255)
    assert torch.isfinite(hungarian([classes], [right], nothing, points=16)[0]), 'an image without labels'


def test_training_logs_every_part_and_validates(run):
    header = (run / 'logs/version_0/metrics.csv').read_text().splitlines()[0].split(',')
    assert {'masks', 'masks/class', 'masks/mask', 'masks/dice', 'val/miou'} <= set(header)
    assert (run / 'best.ckpt').is_file()


def test_a_resumed_run_ends_like_an_uninterrupted_one(run, coco, tmp_path):
    config = tiny_mask2former(coco)
    train(config, None, tmp_path, tmp_path, stop_after=1)
    net, _ = load_net(train(config, None, tmp_path, tmp_path))
    expected = load_net(run / 'last.ckpt')[0].state_dict()
    start = build_network('mask2former', **TINY).state_dict()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert any(not torch.allclose(start[name], expected[name]) for name in start)


def test_semantic_labels_train_too(tmp_path):
    write_data(tmp_path)
    config = load_config('mask2former_camvid')
    config['model'] = {**TINY, 'classes': 11, 'encoder': 'mobilenet_v2', 'embed_dim': None, 'depths': None}
    config.update(size=list(SIZE), steps_per_epoch=1, epochs=1, log_every=1, progress='none', workers=0)
    config['losses'] = {'masks': {'hungarian': {'points': 64}}}
    config['loss_weights'] = {'masks': 1.0, 'segmentation': 0.5}
    config['sets']['camvid']['batch'] = 1
    config['validation']['camvid']['size'] = list(SIZE)
    last = train(config, tmp_path, tmp_path / 'pretrained', tmp_path / 'run')
    rows = (tmp_path / 'run/logs/version_0/metrics.csv').read_text().splitlines()
    values = dict(zip(rows[0].split(','), rows[1].split(','), strict=True))
    assert float(values['masks']) > 0 and float(values['segmentation']) > 0
    net, _ = load_net(last)
    assert net.tasks == ('segmentation',) and net.queries == TINY['queries']


def test_the_exported_file_gives_what_pytorch_gives(run, coco, tmp_path):
    import onnxruntime

    net, config = load_net(run / 'last.ckpt')
    path = tmp_path / 'model.onnx'
    image = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    report = export(net, config, path, size=(96, 64), image=image)
    assert report['segmentation'] <= 1e-3 and report['segmentation_confidence'] <= 0.5
    model = read_model(path)
    assert model.metadata.class_names == CLASSES and model.fixed_size == (96, 64)
    other = np.ascontiguousarray(image[None, ::-1])
    ids, confidence = onnxruntime.InferenceSession(str(path)).run(None, {'image': other})
    with torch.inference_mode():
        expected, sure = (x.numpy() for x in DeployedNet(net)(torch.from_numpy(other)))
    assert ids.dtype == np.uint8 and ids.shape == (1, 64, 96) and (ids == expected).mean() > 0.999
    assert np.abs(confidence.astype(int) - sure).mean() < 0.5
    # both files teach; views of another size than the file's are resized for it
    views = torch.randint(0, 255, (2, 3, 64, 64)).float()
    said = load_teacher(path)(views, ['segmentation'])
    assert said['segmentation_ids'].shape == (2, 64, 96) and said['segmentation_confidence'].max() <= 1
    student = tiny_mask2former(coco, epochs=1, steps_per_epoch=1, loss_weights={'masks': 1.0})
    student['distillation'] = [
        {'model': str(file), 'tasks': {'segmentation': 1.0}} for file in (path, run / 'last.ckpt')
    ]
    train(student, None, tmp_path, tmp_path / 'student')
    assert 'distill/segmentation' in (tmp_path / 'student/logs/version_0/metrics.csv').read_text()


def test_a_trained_network_works_with_fewer_layers(run):
    net, config = load_net(run / 'last.ckpt')
    fewer = build_network('mask2former', **{**config['model'], 'decoder_layers': 1}).eval()
    fewer.load_state_dict({k: v for k, v in net.state_dict().items() if k in fewer.state_dict()})
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        net.train()
        net.encoder.eval()
        expected = net(image)['query_masks'][1]
        torch.testing.assert_close(fewer(image)['query_masks'][-1], expected, rtol=1e-4, atol=1e-5)


def test_semantic_scores_by_hand():
    classes = torch.tensor([[[3.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).log()  # 0.6 0.2 (0.2); 0.25 0.25 (0.5)
    masks = torch.tensor([[[[20.0, -20.0]], [[0.0, 20.0]]]])
    found = semantic_logits(classes, masks).exp()[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([[0.725, 0.25], [0.325, 0.25]]), atol=1e-5, rtol=0)


def test_segments_do_not_overlap():
    """Two queries of stuff become one segment, two of a thing stay two; the unsure and the hidden ones go."""
    classes = torch.full((6, 3), -10.0)  # stuff 0, thing 1, nothing
    classes[[0, 1], 0], classes[[2, 3, 4], 1], classes[5, 0] = 10, 10, -9.5
    masks = torch.full((6, 4, 8), -20.0)
    masks[0, :2, :4], masks[1, :2, 4:], masks[2, 2:, :4], masks[3, 2:, 4:] = 20, 20, 20, 20
    masks[4, 2:, :4] = 1  # mostly hidden behind 2
    ids, segments = panoptic(classes, masks, things=[1])
    assert ids.tolist() == [[1] * 8] * 2 + [[2] * 4 + [3] * 4] * 2
    assert [(s['id'], s['class_id'], s['is_thing']) for s in segments] == [
        (1, 0, False), (2, 1, True), (3, 1, True),
    ]  # fmt: skip
    assert panoptic(classes[5:], masks[5:], [1])[1] == []


def test_weights_of_transformers_and_of_the_authors(tmp_path, capsys):
    """A whole model gives the library's own result; an encoder alone comes by either form of file."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    net = build_network('mask2former', **TINY).eval()
    swin = SwinConfig(
        embed_dim=16, depths=[1, 1, 1, 1], num_heads=[2, 4, 8, 16],
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )  # fmt: skip
    theirs = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            num_labels=3, feature_size=32, mask_feature_size=32, hidden_dim=32, num_queries=6,
            encoder_layers=1, decoder_layers=3, num_attention_heads=4, dim_feedforward=32,
            encoder_feedforward_dim=32, backbone_config=swin,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path / 'all/mask2former')
    net.load_pretrained(tmp_path / 'all')
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        expected = theirs(net.encoder.scale((image - 128) / 128))
        found = net(image)
    torch.testing.assert_close(found['query_masks'][-1], expected.masks_queries_logits)
    torch.testing.assert_close(found['query_classes'][-1], expected.class_queries_logits)

    own = net.encoder.backbone.swin.state_dict()
    state = {}
    for name, value in own.items():
        if '.k_proj.' in name or '.v_proj.' in name:
            continue
        if '.q_proj.' in name:
            value = torch.cat([own[name.replace('q_proj', f'{p}_proj')] for p in 'qkv'])
            name = name.replace('.attention.q_proj.', '.attn.qkv.')
        for public, ours in SWIN_NAMES:
            name = name.replace(ours, public)
        state[name] = value
    assert 'layers.0.blocks.0.attn.qkv.weight' in state and 'patch_embed.proj.weight' in state
    (tmp_path / 'swin').mkdir()
    torch.save({'model': state}, tmp_path / 'swin/swin_tiny_patch4_window7_224.pth')
    other = build_network('mask2former', **TINY)
    other.load_pretrained(tmp_path / 'swin')
    for name, value in other.encoder.backbone.swin.state_dict().items():
        torch.testing.assert_close(value, own[name], msg=name)
    bigger = build_network('mask2former', **{**TINY, 'embed_dim': 32})
    with pytest.raises(MtError, match='does not hold weights of this Swin'):
        bigger.load_pretrained(tmp_path / 'swin')
    capsys.readouterr()
    bigger.load_pretrained(tmp_path)
    assert 'starts from random weights' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [({'encoder': 'vgg'}, "encoder 'vgg' is not one of"), ({'width': 40}, 'not a multiple of 32')],
)
def test_a_wrong_value_gets_one_sentence(change, sentence):
    with pytest.raises(MtError, match=sentence):
        build_network('mask2former', **{**TINY, **change})


def test_without_the_library_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mt_training.models.transformers_parts', None)
    with pytest.raises(MtError, match='needs the transformers library'):
        build_network('mask2former', **TINY)
