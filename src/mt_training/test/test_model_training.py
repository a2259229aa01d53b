"""Every model with every task it has: trains, resumes to the same result, exports, and the file matches."""

import shutil

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from miniature import write_data  # noqa: E402
from mt_perception.errors import MtError  # noqa: E402
from mt_perception.inference.contract import read_model  # noqa: E402
from mt_training.export import export_raw, load_net  # noqa: E402
from mt_training.export import main as export_main  # noqa: E402
from mt_training.models.network import TASKS  # noqa: E402
from mt_training.train import load_config, train  # noqa: E402
from tiny_experiment import shrink  # noqa: E402

TINY = {'channels': [8, 8, 16, 16], 'width': 16, 'descriptor_dim': 16, 'global_dim': 16}
# experiment, what makes it small or another variant, its tasks
MODELS = {
    'mtnet_nano': ({'width': 16, 'keypoint_width': 16, 'global_dim': 16}, TASKS),
    'mtnet_base': ({'width': 16, 'keypoint_width': 16, 'global_dim': 16}, TASKS),
    'mtan': ({'width': 16}, TASKS[:2]),
    'mtan_edge': ({'width': 16}, TASKS[:2]),
    'fastsegnet': ({'width': 16}, TASKS[:1]),
    'kp2dtiny_n': ({**TINY, 'decoders': 'fused', 'places': 'netvlad'}, TASKS),
    'kp2dtiny_n_a': ({**TINY, 'decoders': 'fused'}, TASKS),
    'kp2dtiny_s': ({**TINY, 'places': 'convap'}, TASKS),
    'kp2dtiny_s_a': (TINY, TASKS),
    'keypointformer': (TINY, TASKS),
    'kp2dtiny_mcu': (TINY, ('segmentation', 'keypoints', 'global_descriptor')),
}
# what a microcontroller's tool chain knows; Constant, Flatten and Identity vanish there
MICROCONTROLLER = {'AveragePool', 'Concat', 'Conv', 'ConvTranspose', 'Relu', 'Resize'}
MICROCONTROLLER |= {'Constant', 'Flatten', 'Identity'}
LOSSES = {'segmentation': 'segmentation', 'depth': 'depth', 'keypoints': 'descriptors'}
LOSSES['global_descriptor'] = 'place'
STEPS = 2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write miniature copies of the sets, and a cache that all runs share."""
    root = tmp_path_factory.mktemp('data')
    write_data(root)
    return root


@pytest.fixture(scope='module', autouse=True)
def small():
    """Make what no experiment can make smaller smaller."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        patch.setattr('mt_training.models.resnet.WIDTHS', (8, 16, 32, 64))
        patch.setattr('mt_training.train.START_VIEWS', 6)
        yield


def tiny(name):
    """Shrink an experiment: two steps an epoch, two epochs."""
    config = load_config(name)
    config['model'].update(MODELS[name][0])
    config.update(size=[64, 64], steps_per_epoch=STEPS, epochs=2, validate_every=1, log_every=1)
    config['optimizer'] = {**config['optimizer'], 'warmup': 2}
    places = {'folders': ['summer', 'winter'], 'places': [0, 6], 'batch': 3, 'size': [64, 32]}
    changes = {
        'camvid': {'batch': 2, 'teacher_every': 0},
        'kitchen': {'root': 'kitchen', 'frames': [0, 6, 1], 'batch': 1, 'teacher_every': 0, 'gap': 2},
        'places_nordland': places,
    }
    used = [n for step in config['schedule'] for n in step if n in changes]
    config['sets'] = {n: {**config['sets'][n], **changes[n]} for n in dict.fromkeys(used)}
    config['schedule'] = [list(config['sets'])]
    config['validation'] = {'camvid': {'root': 'camvid/val', 'every': 3, 'size': [96, 64]}}
    config['export'] = {**config['export'], 'max_keypoints': 32}
    return config


@pytest.mark.parametrize('name', MODELS)
def test_a_model_trains_resumes_and_exports(name, data, tmp_path):
    torch.set_num_threads(1)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'

    def run(output, stop_after=None):
        pretrained, cache = data / 'pretrained', data / 'cache'
        return train(tiny(name), data, pretrained, output, cache=cache, stop_after=stop_after)

    checkpoint = run(whole)
    run(parts, stop_after=1)
    state = torch.load(parts / 'last.ckpt', map_location='cpu', weights_only=False)
    assert state['global_step'] == STEPS
    net, _ = load_net(run(parts))
    once, config = load_net(checkpoint)
    assert once.tasks == MODELS[name][1]
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, once.state_dict()[key], rtol=1e-4, atol=1e-5, msg=key)
    figures = (whole / 'logs' / 'version_0' / 'metrics.csv').read_text().splitlines()[0].split(',')
    assert {LOSSES[task] for task in once.tasks} < set(figures)
    assert ('val/miou' in figures) == ('segmentation' in once.tasks)

    path = tmp_path / 'tiny.onnx'
    words = ['--checkpoint', str(checkpoint), '--output', str(path), '--size', '96x64']
    assert export_main(words) == 0, 'the exported file matches PyTorch, or there is none'
    model = read_model(path)
    assert tuple(model.metadata.tasks) == once.tasks
    assert model.metadata.architecture == config['architecture']
    assert (model.fixed_size == (96, 64)) == (name == 'kp2dtiny_mcu')
    shutil.rmtree(tmp_path)


def test_a_microcontroller_gets_operators_it_knows(tmp_path):
    import onnx

    from mt_training.models import build_network

    net = build_network('kp2dtiny-mcu').eval()
    report = export_raw(net, tmp_path / 'raw.onnx', (160, 128))
    assert max(report.values()) < 1e-5 and set(report) >= {'segmentation', 'keypoint_offsets'}
    model = onnx.load(str(tmp_path / 'raw.onnx'))
    assert {node.op_type for node in model.graph.node} <= MICROCONTROLLER
    modes = {a.s for n in model.graph.node if n.op_type == 'Resize' for a in n.attribute if a.name == 'mode'}
    assert modes == {b'nearest'}
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 128, 160]
    assert [p.name for p in tmp_path.iterdir()] == ['raw.onnx']


def test_a_run_starts_from_the_weights_of_another_that_fit(data, tmp_path, capsys):
    config = tiny('kp2dtiny_n')
    config.update(epochs=1, freeze_blocks=3)
    first = train(config, data, data / 'pretrained', tmp_path / 'first', cache=data / 'cache')
    other = tiny('kp2dtiny_n')
    other.update(epochs=1, freeze_blocks=3)
    other['model'].update(places='convap')
    second = train(other, data, data / 'pretrained', tmp_path / 'second', first, data / 'cache')
    said = ''.join(capsys.readouterr())
    assert 'place.conv' in said, 'what the other run does not have is named'
    before, after = load_net(first)[0], load_net(second)[0]
    for key, value in before.encoder.state_dict().items():
        # to the rounding of the averaged weights
        torch.testing.assert_close(after.encoder.state_dict()[key], value, rtol=0, atol=1e-6, msg=key)
    name = 'decoders.segmentation+descriptors+depth.heads.segmentation.weight'
    assert not torch.allclose(after.state_dict()[name], before.state_dict()[name], atol=1e-6)
    with pytest.raises(MtError, match='neither a file nor'):
        train(other, data, data / 'pretrained', tmp_path / 'third', tmp_path / 'no.ckpt', data / 'cache')


def test_a_schedule_without_anything_to_learn_is_an_error(data, tmp_path):
    config = tiny('fastsegnet')
    config['sets'] = {'places': {**load_config('mtnet_small')['sets']['places_nordland']}}
    config['sets']['places'].update(folders=['summer', 'winter'], places=[0, 6], batch=3, size=[64, 32])
    config['schedule'] = [['places']]
    with pytest.raises(MtError, match='can learn'):
        train(config, data, data / 'pretrained', tmp_path, cache=data / 'cache')
