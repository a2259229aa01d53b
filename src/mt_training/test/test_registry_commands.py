"""evaluate and train take any data set of the registry by its name in datasets.yaml."""

import json

import numpy as np
import pytest

pytest.importorskip('onnx', reason='needs the training environment: ./mt build --training')

from miniature_sets import write_cityscapes, write_pittsburgh
from mt_training.evaluation.cli import main as evaluate
from tiny_model import write_tiny_model


@pytest.fixture
def datasets(tmp_path):
    """Write Cityscapes (classes, disparity) and places by position, and the file that says where they are."""
    # the tiny model's class is red: road left of column 40, sidewalk right of it
    write_cityscapes(tmp_path / 'cityscapes')
    write_pittsburgh(tmp_path / 'pitts')
    path = tmp_path / 'datasets.yaml'
    path.write_text('city: {dataset: cityscapes, root: cityscapes}\npittsburgh: pitts\n')
    return path


def result(output):
    """Return metrics.json."""
    return json.loads((output / 'metrics.json').read_text())


def test_evaluate_finds_sets_by_name(datasets, tmp_path, capsys):
    """Segmentation, depth and places of miniature sets, numbers by hand."""
    model = write_tiny_model(tmp_path / 'tiny.onnx', class_names=('road', 'sidewalk'))
    common = ('--model', str(model), '--datasets', str(datasets), '--output', str(tmp_path / 'out'))
    assert evaluate(['segmentation', '--dataset', 'city', *common]) == 0
    metrics = result(tmp_path / 'out')
    assert metrics['images'] == 2 and metrics['iou']['sidewalk'] == pytest.approx(40 / 64)
    assert metrics['dataset']['split'] == 'val'
    # f b / d = 2000 · 0.2 / 80 = 5 m, and the model says blue / 10 = 5 m
    assert evaluate(['depth', '--dataset', 'city', '--frames', ':1', *common]) == 0
    metrics = result(tmp_path / 'out')
    assert metrics['images'] == 1 and metrics['abs_rel'] < 1e-3 and metrics['limits_m'] == [0.1, 80.0]
    assert evaluate(['vpr', '--dataset', 'pittsburgh', *common]) == 0
    metrics = result(tmp_path / 'out')
    assert metrics['queries'] == 4 and metrics['recall']['1'] == 1 and '25 m' in metrics['truth']
    assert evaluate(['vpr', '--dataset', 'pittsburgh', '--option', 'radius=3', *common]) == 0
    assert result(tmp_path / 'out')['queries_without_reference'] == 4
    assert evaluate(['segmentation', '--dataset', 'city', '--option', 'labels=none', *common]) == 1
    assert 'has no class labels here' in capsys.readouterr().err
    assert evaluate(['keypoints', '--dataset', 'city', '--features', 'sift', *common]) == 1
    assert 'does not suit; here are hpatches, oxford_affine' in capsys.readouterr().err
    assert evaluate(['segmentation', '--dataset', 'ade20k', *common]) == 1
    assert 'not known where' in capsys.readouterr().err


def test_train_on_sets_by_name(datasets, tmp_path, capsys):
    """One tiny epoch in two view sizes: classes and depth from Cityscapes, places from Pittsburgh."""
    pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')
    import torch
    import yaml

    from mt_training.models.mobilenet_v2 import MobileNetV2
    from mt_training.train import load_config, main

    config = load_config('example_datasets')
    config['model'].update(width=16, keypoint_width=16, global_dim=8)
    config.update(size=[64, 32], steps_per_epoch=2, epochs=1, validate_every=1, log_every=1)
    config.update(view_scales=[1.0, 2.0], schedule=[['cityscapes', 'places']])
    config['sets'] = {
        'cityscapes': {'kind': 'dataset', 'dataset': 'city', 'split': 'train', 'batch': 2},
        'places': {
            'kind': 'dataset',
            'dataset': 'pittsburgh',
            'split': 'train',
            'size': [64, 32],
            'batch': 2,
        },
    }
    config['validation'] = {'city': {'dataset': 'city', 'split': 'val', 'size': [64, 32]}}
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump(config))
    weights = {k: v.numpy() for k, v in MobileNetV2().state_dict().items()}
    np.savez(tmp_path / 'mobilenet_v2_imagenet.npz', **weights)
    arguments = ['--config', str(tmp_path / 'tiny.yaml'), '--pretrained', str(tmp_path), '--threads', '1']
    arguments += ['--output', str(tmp_path / 'run')]
    assert main([*arguments, '--datasets', str(datasets)]) == 0
    rows = (tmp_path / 'run/logs/version_0/metrics.csv').read_text().splitlines()
    columns = rows[0].split(',')
    assert {'cityscapes/depth', 'places/recall', 'val/miou', 'val/abs_rel'} <= set(columns)
    values = [
        float(r.split(',')[columns.index('loss')]) for r in rows[1:] if r.split(',')[columns.index('loss')]
    ]
    assert values and np.isfinite(values).all()
    assert torch.load(tmp_path / 'run/last.ckpt', weights_only=False)['global_step'] == 2
    (tmp_path / 'cityscapes/leftImg8bit/val').rename(tmp_path / 'cityscapes/moved')
    # elsewhere: a finished run opens no data
    again = [*arguments, '--output', str(tmp_path / 'again'), '--datasets', str(datasets)]
    assert main(again) == 1
    assert 'no folder leftImg8bit/val; expected there' in capsys.readouterr().err
