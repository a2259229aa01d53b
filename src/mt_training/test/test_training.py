"""Training on miniature data: it runs, it resumes to the same result, what it makes can be exported."""

import runpy
import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from miniature import write_data  # noqa: E402
from mt_training.export import load_net  # noqa: E402
from mt_training.export import main as export_main  # noqa: E402
from mt_training.train import load_config, main  # noqa: E402
from mt_training.weights import load_weights  # noqa: E402

EPOCHS, STEPS = 2, 3


@pytest.fixture(scope='module', autouse=True)
def small():
    """Let networks start from fewer views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mt_training.train.START_VIEWS', 8)
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write miniature copies of every set the test experiment uses."""
    root = tmp_path_factory.mktemp('data')
    write_data(root)
    return root


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    """Write a miniature of the default experiment that uses every kind of set but the rendered one."""
    import yaml

    config = load_config('mtnet_small')
    config['model'].update(width=16, keypoint_width=16, global_dim=128)
    config.update(size=[64, 64], steps_per_epoch=STEPS, epochs=EPOCHS, validate_every=1, log_every=1)
    config['optimizer']['warmup'] = 2
    config['schedule'] = [
        ['camvid', 'kitchen', 'kitti'],
        ['camvid', 'kitchen', 'places_nordland', 'places_kitti'],
        ['places_kitti'],
    ]
    sets = config['sets']
    for name, changes in {
        'camvid': {'batch': 2, 'teacher_every': 0},
        'kitchen': {'root': 'kitchen', 'frames': [0, 6, 1], 'batch': 2, 'teacher_every': 0, 'gap': 2},
        'kitti': {'root': 'drive', 'every': 1, 'batch': 2, 'teacher_every': 0},
        'places_nordland': {'folders': ['summer', 'winter'], 'places': [0, 6], 'batch': 3, 'size': [64, 32]},
        'places_kitti': {'root': 'drive', 'every': 1, 'batch': 3, 'size': [64, 32], 'neighbours': 1},
    }.items():
        sets[name].update(changes)
    config['sets'] = {name: sets[name] for step in config['schedule'] for name in step}
    config['validation'] = {
        'camvid': {'root': 'camvid/val', 'every': 1, 'size': [96, 64]},
        'kitchen': {'root': 'kitchen', 'frames': [0, 4, 2], 'size': [512, 384]},
    }
    path = tmp_path_factory.mktemp('config') / 'tiny.yaml'
    path.write_text(yaml.safe_dump(config))
    return path


def arguments(experiment, data, output):
    """Return the command line of the miniature run."""
    return [
        '--config', str(experiment), '--data', str(data), '--pretrained', str(data / 'pretrained'),
        '--output', str(output), '--threads', '1',
    ]  # fmt: skip


@pytest.fixture(scope='module')
def run(experiment, data, tmp_path_factory):
    """Train without interruption."""
    output = tmp_path_factory.mktemp('run')
    assert main(arguments(experiment, data, output)) == 0
    return output


def weights(output):
    """Return the weights of a run's last checkpoint."""
    return load_net(output / 'last.ckpt')[0].state_dict()


def test_training_writes_figures_of_every_task(run):
    header = (run / 'logs' / 'version_0' / 'metrics.csv').read_text().splitlines()[0]
    for figure in (
        'segmentation',
        'descriptors',
        'kitchen/depth',
        'places_nordland/place',
        'val/miou',
        'val/abs_rel',
    ):
        assert figure in header


def test_a_resumed_run_ends_like_an_uninterrupted_one(run, experiment, data, tmp_path):
    first = [*arguments(experiment, data, tmp_path), '--stop-after', '1']
    assert main(first) == 0
    state = torch.load(tmp_path / 'last.ckpt', map_location='cpu', weights_only=False)
    assert state['global_step'] == STEPS
    assert main(arguments(experiment, data, tmp_path)) == 0
    once, twice = weights(run), weights(tmp_path)
    for name in once:
        torch.testing.assert_close(twice[name], once[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_trained_network_exports(run, tmp_path):
    import onnx

    path = tmp_path / 'tiny.onnx'
    words = ['--checkpoint', str(run / 'last.ckpt'), '--output', str(path), '--size', '128x96', '--half']
    assert export_main(words) == 0
    assert path.stat().st_size > 1e6
    half = onnx.load(str(tmp_path / 'tiny.fp16.onnx'))
    kinds = {i.data_type for i in half.graph.initializer if len(i.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}, 'the weights of all convolutions are float16'
    types = {v.name: v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)}
    assert types['image'] == onnx.TensorProto.UINT8
    assert types['depth'] == onnx.TensorProto.FLOAT, 'outputs keep their types'


def test_weights_for_training_are_those_of_the_checkpoint(run, experiment, data, tmp_path):
    """What export --weights writes, train --init takes; another network's are refused."""
    path = tmp_path / 'tiny.npz'
    words = ['--checkpoint', str(run / 'last.ckpt'), '--output', str(tmp_path / 'tiny.onnx')]
    assert export_main([*words, '--size', '64x64', '--weights', str(path)]) == 0
    kept, expected = load_weights(path), weights(run)
    assert kept.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert main([*arguments(experiment, data, tmp_path / 'more'), '--init', str(path), 'epochs=1']) == 0


def test_weights_of_another_network_are_refused(experiment, data, tmp_path, capsys):
    path = tmp_path / 'other.npz'
    np.savez(path, a=np.zeros(3, np.float16))
    assert main([*arguments(experiment, data, tmp_path), '--init', str(path)]) == 1
    assert 'is of another network' in capsys.readouterr().err
    path.write_bytes(b'nothing')
    assert main([*arguments(experiment, data, tmp_path), '--init', str(path)]) == 1
    assert 'holds no weights' in capsys.readouterr().err


def test_the_matcher_trains_and_exports(run, data, tmp_path):
    import yaml

    config = load_config('lightglue')
    config.update(size=[96, 64], pairs=8, validation_pairs=2, keypoints=48, points=32, batch=2, epochs=1)
    config.update(steps_per_epoch=4, mixture={'camvid': 1, 'kitchen': 1})
    config['model'].update(layers=2, width=32)
    config['sets']['camvid']['teacher_every'] = 0
    config['sets']['kitchen'].update(root='kitchen', frames=[0, 6, 1], teacher_every=0, gap=2)
    experiment = tmp_path / 'matcher.yaml'
    experiment.write_text(yaml.safe_dump(config))
    output = tmp_path / 'matcher'
    command = [*arguments(experiment, data, output), '--keypoints', str(run / 'last.ckpt')]
    assert main(command) == 0
    path = tmp_path / 'matcher.onnx'
    assert export_main(['--checkpoint', str(output / 'last.ckpt'), '--output', str(path)]) == 0


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (['--data', '/nowhere'], 'is not a folder'),
        (['--config', 'nothing'], "there is no experiment 'nothing'"),
        (['--pretrained', '/nowhere'], 'encoder weights not found'),
    ],
)
def test_a_wrong_command_gets_one_sentence(change, sentence, experiment, data, tmp_path, capsys):
    assert main([*arguments(experiment, data, tmp_path), *change]) == 1
    message = capsys.readouterr().err
    assert (
        sentence in message.splitlines()[-1] and message.count('train: ') == 1 and 'Traceback' not in message
    )


def test_the_command_line_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['train', '--help'])
    monkeypatch.delitem(sys.modules, 'mt_training.train')  # as in a process of its own
    with pytest.raises(SystemExit) as end:
        runpy.run_module('mt_training.train', run_name='__main__')
    said = capsys.readouterr().out
    assert end.value.code == 0 and '--resume' not in said and '--config' in said


@pytest.mark.parametrize('pose', ['known', 'network'])
def test_depth_is_learned_from_motion_alone(pose, data, tmp_path):
    """Frames of a hand-held camera, no depth: known poses, or a network that learns them beside."""
    import yaml

    config = load_config('mtnet_small')
    config['model'].update(width=16, tasks=['depth'])
    config.update(size=[64, 64], steps_per_epoch=2, epochs=1, validate_every=1, log_every=1, workers=0)
    config['optimizer']['warmup'] = 1
    config['ema_decay'] = None  # the last weights, so that two steps can be seen
    config['losses'] = {'photometric': {'photometric': {'weight': 1.0, 'pose': pose}}}
    config['loss_weights'] = {'photometric': 1.0}
    config['schedule'] = [['kitchen']]
    kitchen = {'root': 'kitchen', 'frames': [0, 6, 1], 'batch': 2, 'teacher_every': 0, 'gap': 2}
    config['sets'] = {'kitchen': {**config['sets']['kitchen'], **kitchen}}
    config['validation'] = {'kitchen': {'root': 'kitchen', 'frames': [0, 4, 2], 'size': [512, 384]}}
    path = tmp_path / 'x.yaml'
    path.write_text(yaml.safe_dump(config))
    assert main(arguments(path, data, tmp_path / 'out')) == 0
    rows = (tmp_path / 'out' / 'logs' / 'version_0' / 'metrics.csv').read_text().splitlines()
    assert 'photometric' in rows[0] and 'val/abs_rel' in rows[0]
    state = torch.load(tmp_path / 'out' / 'last.ckpt', map_location='cpu', weights_only=False)['state_dict']
    own = {name.split('.')[0] for name in state}
    assert ('pose' in own) == (pose == 'network')
    assert all(torch.isfinite(value).all() for value in state.values())
    loss = [float(row.split(',')[rows[0].split(',').index('photometric')] or 0) for row in rows[1:]]
    assert loss[0] > 0, 'there are pixels that both views show'
