"""The loop: schedules, loggers, precision, accumulation, early stopping, stages; on a small experiment."""

import time

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError  # noqa: E402
from mt_training import stages, trainer  # noqa: E402
from mt_training.data.sets import Batches  # noqa: E402
from mt_training.freezing import freeze, head_parameters, hold_statistics  # noqa: E402
from mt_training.models.mtnet import MtNet  # noqa: E402
from mt_training.schedules import build_optimizer, learning_rate  # noqa: E402
from mt_training.train import build_module, load_config, main  # noqa: E402
from tiny_experiment import (  # noqa: E402
    arguments,
    assert_same_weights,
    figures,
    load,
    shrink,
    tiny_config,
    write_config,
    write_data,
)


@pytest.fixture(scope='module', autouse=True)
def small():
    """Train small networks in this file."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    torch.set_num_threads(1)
    return write_data(tmp_path_factory.mktemp('data'))


def test_schedules_by_hand():
    assert [learning_rate(s, 100, warmup=4) for s in range(3)] == [0.25, 0.5, 0.75]
    assert learning_rate(54, 104, warmup=4, final=0.02) == pytest.approx(
        0.02 + 0.98 * 0.5
    )  # half of the cosine
    assert learning_rate(500, 104, warmup=4) == pytest.approx(0.02)
    assert learning_rate(50, 100, schedule='poly', final=0.0, power=0.9) == pytest.approx(0.5**0.9)
    assert learning_rate(99, 100, schedule='constant') == 1


def test_the_encoder_and_the_heads_have_their_own_rates():
    a, b, c = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    config = {'lr': 0.1, 'encoder_lr': 0.01, 'weight_decay': 0.3, 'warmup': 2, 'name': 'sgd', 'momentum': 0.8}
    groups = build_optimizer(config, 10, [a], [b], [c])['optimizer'].param_groups
    assert [g['lr'] for g in groups] == [0.005, 0.05, 0.05]  # the first of two steps of warm-up
    assert [g['weight_decay'] for g in groups] == [0.3, 0.3, 0] and groups[0]['momentum'] == 0.8
    with pytest.raises(MtError, match='cosine, poly, constant'):
        build_optimizer({**config, 'schedule': 'cosin'}, 10, [a], [b])


def test_missing_packages_and_unknown_names_get_one_sentence(tmp_path, monkeypatch):
    def missing(name, output, options):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(trainer, '_logger', missing)
    for name in ('tensorboard', 'wandb'):
        with pytest.raises(MtError, match=f'loggers: {name} is not installed'):
            trainer.build_loggers([name], tmp_path)
    with pytest.raises(MtError, match='known: csv, tensorboard, wandb'):
        trainer.build_loggers(['tensorbord'], tmp_path)
    with pytest.raises(MtError, match='unknown .fast.; known: auto, rich, tqdm, none'):
        trainer.build_progress('fast')
    with pytest.raises(MtError, match='precision: unknown .8.'):
        trainer.build_precision(8)
    if not torch.cuda.is_available():
        assert trainer.build_precision('auto') == '32-true'
        with pytest.raises(MtError, match='16 needs a GPU'):
            trainer.build_precision(16)
    with pytest.raises(MtError, match='torchrun --nproc-per-node 4 --nnodes 2'):
        trainer.build_devices({'devices': 4, 'num_nodes': 2})
    with pytest.raises(MtError, match='early_stopping needs a metric'):
        trainer.build_trainer(tiny_config(best=None, early_stopping={'patience': 1}), tmp_path, 1)


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip('tensorboard')
    (logger,) = trainer.build_loggers(['tensorboard'], tmp_path)
    logger.log_metrics({'loss': 1.5}, step=3)
    logger.finalize('success')
    assert list((tmp_path / 'logs' / 'tensorboard').rglob('events.out.tfevents.*'))


def test_wandb_writes_a_run_without_a_network(tmp_path):
    pytest.importorskip('wandb')
    (logger,) = trainer.build_loggers([{'wandb': {'offline': True}}], tmp_path)
    logger.log_metrics({'loss': 1.5}, step=3)
    logger.experiment.finish()
    (run,) = (tmp_path / 'logs' / 'wandb').glob('offline-run-*/run-*.wandb')
    end = time.monotonic() + 30
    while b'loss' not in run.read_bytes():  # another process of wandb's writes it
        assert time.monotonic() < end, 'nothing was logged'
        time.sleep(0.1)


def test_rich_is_used_where_it_is_installed():
    pytest.importorskip('rich')
    assert type(trainer.build_progress('auto')[0]).__name__ == 'RichProgressBar'


def test_heads_are_found_by_what_they_reach():
    net = MtNet(width=16, keypoint_width=16, global_dim=32)
    own = head_parameters(net, ['segmentation'])
    assert own == {name for name, _ in net.named_parameters() if name.startswith('segmentation.')}
    assert all(name.startswith(('pool', 'place')) for name in head_parameters(net, ['global_descriptor']))
    freeze(net, backbone=True, train_heads=['depth'])
    assert {n.split('.')[0] for n, p in net.named_parameters() if p.requires_grad} == {'depth'}
    assert all(p.grad is None for p in net.parameters())
    net.train()
    hold_statistics(net)
    norms = {n: m.training for n, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert all(training == name.startswith('depth') for name, training in norms.items())
    with pytest.raises(MtError, match="unknown task 'depht'"):
        freeze(MtNet(width=16, keypoint_width=16), train_heads=['depht'])


def test_parts_are_trained_by_name():
    """``train_only`` of an experiment's stage: all other parts keep weights and statistics."""
    config = dict(stages.expand(load_config('mtnet_small_keypoints')))['points']
    config['model'].update(width=16, keypoint_width=16)
    module = build_module(config)
    trained = {n.split('.')[0] for n, p in module.net.named_parameters() if p.requires_grad}
    assert trained == {'fine', 'keypoints', 'descriptors'}
    module.train()
    module.on_train_epoch_start()
    assert {n for n, m in module.net.named_children() if m.training} == trained
    with pytest.raises(MtError, match="unknown part 'fin'; this network has: encoder"):
        freeze(MtNet(width=16, keypoint_width=16), only=['fin'])


class Counting:
    """A sampler whose samples are the first numbers of their stream."""

    def sample(self, rng, size=None):
        return {'images': rng.integers(0, 1000, 2)}


@pytest.mark.parametrize('sample_seeds', [False, True])
def test_processes_share_the_batches_of_one(sample_seeds, monkeypatch):
    monkeypatch.setattr(Batches, 'is_place', lambda self, name: name == 'p')
    samplers = {name: Counting() for name in 'abp'}

    def batch(rank, world):
        batches = Batches(samplers, [['a', 'p', 'b']], {'a': 2, 'b': 3, 'p': 4}, 0, sample_seeds=sample_seeds)
        batches.rank, batches.world_size = rank, world
        return batches[7]

    whole = batch(0, 1)
    assert whole['dense']['sets'] == ['a', 'a', 'b', 'b', 'b'] and whole['places']['p']['pairs'] == 4
    parts = [batch(rank, 3) for rank in range(3)]
    assert [len(p['dense']['images']) for p in parts] == [1, 2, 2]
    torch.testing.assert_close(torch.cat([p['dense']['images'] for p in parts]), whole['dense']['images'])
    together = torch.cat([p['places']['p']['images'] for p in parts])
    torch.testing.assert_close(together, whole['places']['p']['images'])
    assert parts[1]['dense']['sets'] == whole['dense']['sets'] and parts[1]['places']['p']['pairs'] == 4
    with pytest.raises(MtError, match='batch of 4 cannot be shared by 5'):
        batch(0, 5)


def test_stages_change_what_they_name_and_nothing_else():
    config = tiny_config(
        stages=[
            {'name': 'all'},
            {'name': 'seg', 'epochs': 1, 'only_segmentation': True, 'optimizer': {'lr': 0.5}},
            {'name': 'places', 'loss_weights': {'place': 1.0}, 'sets': {'camvid': {'batch': 9}}},
        ]
    )
    (first, a), (_, b), (third, c) = stages.expand(config)
    assert (first, third) == ('all', 'places') and 'stages' not in a
    assert a == {k: v for k, v in config.items() if k != 'stages'}
    assert b['optimizer'] == {**config['optimizer'], 'lr': 0.5} and b['train_heads'] == ['segmentation']
    assert b['loss_weights'] == {'segmentation': 1.0} and b['epochs'] == 1
    assert c['loss_weights'] == {'place': 1.0} and c['train_heads'] == []
    assert c['sets']['camvid'] == {**config['sets']['camvid'], 'batch': 9}
    with pytest.raises(MtError, match="stage 'x': epoch is not a key"):
        stages.expand(tiny_config(stages=[{'name': 'x', 'epoch': 3}]))
    with pytest.raises(MtError, match=r'stages\[0\] needs a name'):
        stages.expand(tiny_config(stages=[{'epochs': 3}]))


STAGES = [
    {'name': 'multitask', 'epochs': 1},
    {'name': 'segmentation', 'epochs': 2, 'only_segmentation': True, 'schedule': [['camvid']],
     'losses': {'segmentation': {'cross_entropy': 1.0, 'lovasz': 0.5}}, 'optimizer': {'lr': 0.01}},
    {'name': 'places', 'epochs': 1, 'freeze_backbone': True, 'train_heads': ['global_descriptor'],
     'loss_weights': {'place': 1.0}, 'losses': {'place': {'triplet': {'mining': 'hard'}}},
     'schedule': [['places_kitti']], 'ema_decay': None},
]  # fmt: skip


def test_stages_follow_one_another_and_resume_in_the_right_one(data, tmp_path, capfd):
    experiment = write_config(tmp_path / 'staged.yaml', tiny_config(steps_per_epoch=2, stages=STAGES))
    command = arguments(experiment, data, tmp_path / 'out')
    assert main([*command, '--stop-after', '2']) == 0
    err = capfd.readouterr().err
    assert 'stage 1 of 3: multitask' in err and 'stage 2 of 3: segmentation' in err and 'places' not in err
    assert load(tmp_path / 'out' / 'last.ckpt')['run']['stage'] == 1
    assert main(command) == 0
    err = capfd.readouterr().err
    assert 'stage 1 of 3' not in err and 'stage 2 of 3' in err and 'stage 3 of 3' in err
    folders = [tmp_path / 'out' / 'stages' / name for name in ('0-multitask', '1-segmentation')]
    first, second, third = (load(f / 'last.ckpt') for f in (*folders, tmp_path / 'out'))
    assert (second['epoch'], second['global_step']) == (1, 4), 'the second stage ended where it should'

    def changed(old, new):
        old, new = old['state_dict'], new['state_dict']
        # averaging a weight with itself may round
        same = {n: torch.allclose(old[n], new[n], rtol=1e-5, atol=1e-7) for n in old}
        names = [n for n in old if n.startswith('net.') and not same[n]]
        return {n.split('.')[1] for n in names}

    assert changed(first, second) == {'segmentation'}
    assert changed(second, third) <= {'pool16', 'pool32', 'place'} and 'place' in changed(second, third)
    kept = load_yaml(folders[1] / 'config.yaml')
    assert kept['train_heads'] == ['segmentation'] and kept['loss_weights'] == {'segmentation': 1.0}
    assert main(command) == 0, 'a finished run is finished'
    assert 'stage' not in capfd.readouterr().err
    once = tmp_path / 'once'
    assert main(arguments(experiment, data, once)) == 0
    assert_same_weights(once / 'stages' / '1-segmentation' / 'last.ckpt', folders[1] / 'last.ckpt')


def load_yaml(path):
    import yaml

    return yaml.safe_load(path.read_text())


FEATURES = {
    'weighting': {'kind': 'uncertainty'},
    'class_weights': {'rule': 'median_frequency'},
    'losses': {
        'segmentation': {'ohem': 1.0, 'dice': 0.5, 'focal': 0.1},
        'depth': {'scale_invariant_log': 1.0, 'berhu': 0.1, 'gradient': 0.1},
        'place': {'multi_similarity': 1.0},
    },
    'accumulate': 2,
    'precision': 'bf16',
}


@pytest.mark.parametrize('kind', ['uncertainty', 'dwa', 'pcgrad'])
def test_everything_at_once_trains_and_resumes(kind, data, tmp_path):
    changes = {**FEATURES, 'weighting': {'kind': kind}}
    if kind != 'uncertainty':  # the losses once, the weightings each
        changes = {'weighting': {'kind': kind}, 'accumulate': 2}
    epochs = 3 if kind == 'dwa' else 2
    experiment = write_config(tmp_path / 'x.yaml', tiny_config(**changes, epochs=epochs))
    assert main(arguments(experiment, data, tmp_path / 'once')) == 0
    assert main([*arguments(experiment, data, tmp_path / 'twice'), '--stop-after', '1']) == 0
    assert main(arguments(experiment, data, tmp_path / 'twice')) == 0
    state = load(tmp_path / 'once' / 'last.ckpt')
    assert state['global_step'] == 2 * epochs  # of 3 batches the third alone is a step too; steps are logged
    assert_same_weights(tmp_path / 'once' / 'last.ckpt', tmp_path / 'twice' / 'last.ckpt')
    rows = [row for row in figures(tmp_path / 'once') if 'loss' in row]
    assert len(rows) == 2 * epochs and all(abs(v) < 1e4 for row in rows for v in row.values())
    if kind == 'uncertainty':
        learnt = state['current_model_state']['weighting.log_variance'] != 0
        assert learnt.tolist() == [True, True, False, True, True], (
            'all but the keypoints, which have no labels'
        )
        assert 'segmentation/dice' in rows[0]
    if kind == 'dwa':
        assert all(v == 1 for row in rows[:4] for k, v in row.items() if k.startswith('dwa/'))
        third = {k: v for k, v in rows[4].items() if k.startswith('dwa/') and v != 1}
        assert third and sum(third.values()) == pytest.approx(len(third), rel=1e-5)


def test_early_stopping_stops_and_stays_stopped(data, tmp_path):
    config = tiny_config(
        epochs=9, steps_per_epoch=1, schedule=[['camvid']], early_stopping={'patience': 1, 'min_delta': 1.0}
    )
    command = arguments(write_config(tmp_path / 'x.yaml', config), data, tmp_path / 'out')
    assert main(command) == 0
    assert load(tmp_path / 'out' / 'last.ckpt')['epoch'] == 1, 'the second validation was no better by 1'
    assert main(command) == 0
    assert load(tmp_path / 'out' / 'last.ckpt')['epoch'] == 1


def test_a_teacher_joins_in_training(data, tmp_path):
    experiment = write_config(tmp_path / 'x.yaml', tiny_config(epochs=1, steps_per_epoch=1))
    assert main(arguments(experiment, data, tmp_path / 'teacher')) == 0
    section = {'model': str(tmp_path / 'teacher' / 'last.ckpt'), 'tasks': {'segmentation': 1.0, 'place': 0.5}}
    student = tiny_config(
        epochs=1, steps_per_epoch=1, distillation=[section], loss_weights={'keypoints': 1.0},
        schedule=[['camvid']],
    )  # fmt: skip
    command = arguments(write_config(tmp_path / 'y.yaml', student), data, tmp_path / 'student')
    assert main(command) == 0
    (row,) = [row for row in figures(tmp_path / 'student') if 'loss' in row]
    assert row['loss'] == pytest.approx(
        row['keypoints'] + row['distill/segmentation'] + row['distill/place'], rel=1e-5
    )
    assert 'depth' not in row and 'segmentation' not in row, 'tasks without weight are left out'


@pytest.mark.parametrize(
    ('override', 'sentence'),
    [
        ('weighting.kind=magic', 'known: fixed, uncertainty, dwa, pcgrad'),
        ('losses={depth: {l3: 1}}', "unknown loss 'l3'"),
        ('optimizer.name=lion', "optimizer.name: unknown 'lion'"),
        ('best={metric: val/nothing}', 'val/nothing'),
        ('train_heads=[flow]', "unknown task 'flow'"),
        ('distillation=[{model: /no.ckpt, tasks: {depth: 1}}]', '/no.ckpt does not exist'),
    ],
)
def test_a_wrong_key_gets_one_sentence(override, sentence, data, tmp_path, capfd):
    config = tiny_config(epochs=1, steps_per_epoch=1, schedule=[['camvid']])
    experiment = write_config(tmp_path / 'x.yaml', config)
    assert main(arguments(experiment, data, tmp_path / 'out', override)) == 1
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith('train: ') and sentence in message
