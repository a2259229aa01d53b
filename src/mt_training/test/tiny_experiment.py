"""A miniature of the default experiment that trains an epoch in about a second, for tests of the loop."""

import os
import subprocess
import sys

import cv2
import numpy as np
import torch

from mt_training import train
from mt_training.models import mobilenet_v2
from mt_training.train import load_config


def smooth_image(rng, size):
    """Make a smooth random image of ``size`` = (width, height)."""
    return cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)


def write_data(root):
    """Write images with labels (4 for training, 3 to watch), a drive, and random encoder weights."""
    rng = np.random.default_rng(0)
    for part, count in (('train', 4), ('val', 3)):
        for kind in ('images', 'labels'):
            (root / 'camvid' / part / kind).mkdir(parents=True)
        for i in range(count):
            image = smooth_image(rng, (96, 80))
            cv2.imwrite(str(root / 'camvid' / part / 'images' / f'{i}.png'), image)
            cv2.imwrite(str(root / 'camvid' / part / 'labels' / f'{i}.png'), image[:, :, 0] // 22)
    (root / 'drive').mkdir()
    for i in range(6):
        cv2.imwrite(str(root / 'drive' / f'{i}.png'), smooth_image(rng, (120, 48)))
    (root / 'pretrained').mkdir()
    torch.manual_seed(1)
    weights = {k: v.numpy() for k, v in mobilenet_v2.MobileNetV2().state_dict().items()}
    np.savez(root / 'pretrained' / 'mobilenet_v2_imagenet.npz', **weights)
    return root


def tiny_config(**changes):
    """Return the experiment: 2 epochs of 3 steps, the last step of each for places alone."""
    config = load_config('mtnet_small')
    config['model'].update(width=16, keypoint_width=16, descriptor_dim=16, global_dim=32)
    config.update(
        size=[64, 64],
        steps_per_epoch=3,
        epochs=2,
        validate_every=1,
        log_every=1,
        workers=0,
        progress='none',
        schedule=[['camvid', 'kitti', 'places_kitti'], ['camvid'], ['places_kitti']],
        validation={'camvid': {'root': 'camvid/val', 'every': 1, 'size': [96, 64]}},
    )
    config['optimizer']['warmup'] = 2
    sets = config['sets']
    sets['camvid'].update(batch=3, teacher_every=0)
    sets['kitti'].update(root='drive', every=1, batch=2, teacher_every=0)
    sets['places_kitti'].update(root='drive', every=1, batch=3, size=[64, 32], neighbours=0)
    config['sets'] = {name: sets[name] for name in ('camvid', 'kitti', 'places_kitti')}
    config.update(changes)
    return config


def shrink(replace=setattr):
    """
    Make smaller what no experiment can: MobileNetV2, and the number of views a network starts from.

    :param replace: how, for instance ``monkeypatch.setattr``.
    """
    stages = {block: channels // 4 for block, channels in mobilenet_v2.STAGES.items()}
    blocks = [(expansion, channels // 4, stride) for expansion, channels, stride in mobilenet_v2.BLOCKS]
    replace(mobilenet_v2, 'STAGES', stages)
    replace(mobilenet_v2, 'BLOCKS', blocks)
    replace(mobilenet_v2.MobileNetV2, 'channels', tuple(stages.values()))
    replace(train, 'START_VIEWS', 16)
    replace(train, 'BALANCE_SAMPLES', 10)


def write_config(path, config):
    """Write an experiment."""
    import yaml

    path.write_text(yaml.safe_dump(config))
    return path


def arguments(experiment, data, output, *overrides):
    """Return the command line of a run."""
    return [
        '--config', str(experiment), '--data', str(data), '--pretrained', str(data / 'pretrained'),
        '--output', str(output), '--threads', '1', *overrides,
    ]  # fmt: skip


def start(words):
    """Run Python with words in a process of its own; the modules are found as here."""
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def load(path):
    """Load a checkpoint."""
    return torch.load(path, map_location='cpu', weights_only=False)


def figures(output, version=0):
    """Return the logged rows of a start of a run: list of dict figure → number."""
    import csv

    with open(output / 'logs' / f'version_{version}' / 'metrics.csv') as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def assert_same_weights(first, second, rtol=1e-5, atol=1e-6):
    """Compare the weights of two checkpoints: the averaged and the trained ones."""
    for part in ('state_dict', 'current_model_state'):
        expected, found = load(first)[part], load(second)[part]
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol, msg=f'{part} {name}')
