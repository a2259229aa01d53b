"""Train the matcher on the keypoints of a trained network (``train --config lightglue``)."""

from pathlib import Path

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger

from mt_perception.errors import MtError
from mt_training.checkpoints import AtomicCheckpointIO, usable_checkpoint, write_text
from mt_training.data.sets import EpochNumbers, SetBuilder
from mt_training.deploy import DeployedNet
from mt_training.export import load_net, model_id
from mt_training.matcher.data import BankPairs, make_bank
from mt_training.matcher.module import MatcherModule
from mt_training.stages import start_from
from mt_training.trainer import StepSeed, build_progress, last_checkpoint


def train_matcher(config, data, pretrained, output, keypoints, cache=None, init=None):
    """
    Run a matcher experiment; goes on from ``output/last.ckpt`` where there is one.

    :param config: see ``configs/lightglue.yaml``.
    :param data: root folder of the data sets.
    :param pretrained: folder of the keypoint teacher's weights.
    :param output: folder for the checkpoint, metrics and the bank of pairs.
    :param keypoints: checkpoint of the network whose keypoints are matched.
    :param cache: data cache of another run to share, default ``output/cache``.
    :param init: weights to start from, see :func:`mt_training.weights.load_state`; None for random ones.
    :return: path of the last checkpoint.
    """
    if not keypoints:
        raise MtError('--keypoints names the checkpoint of the network whose keypoints the matcher learns')
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    lightning.seed_everything(config['seed'])
    net, net_config = load_net(keypoints)
    deployed = DeployedNet(net, config['keypoints'], ('keypoints',))
    config = {**config, 'matches_model': model_id(net, net_config)}
    write_text(output / 'config.yaml', yaml.safe_dump(config, sort_keys=False))
    bank_path = output / f'bank-{config["matches_model"]}-{config["pairs"]}.npz'
    samplers = {}
    if not bank_path.is_file():
        teacher = Path(pretrained) / 'aliked-n16rot.pth'
        builder = SetBuilder(data, cache or output / 'cache', teacher, config['size'], config['focal'])
        samplers = {name: builder.build(config['sets'][name]) for name in config['mixture']}
    bank = make_bank(
        deployed, samplers, config['mixture'], config['pairs'], config['keypoints'], bank_path, config['seed']
    )
    first = len(bank['scores']) - config['validation_pairs']
    batches = BankPairs(bank, np.arange(first), config['batch'], config['points'], config['seed'])
    watched = BankPairs(bank, np.arange(first, len(bank['scores'])), config['batch'], config['points'], 0)
    module = MatcherModule(config['model'], config['optimizer'], config['epochs'] * config['steps_per_epoch'])
    last = output / 'last.ckpt'
    resume = usable_checkpoint(last)
    if init and not resume:
        start_from(module, init)
    trainer = lightning.Trainer(
        default_root_dir=output,
        max_epochs=config['epochs'],
        accelerator='auto',
        devices=1,
        gradient_clip_val=config['gradient_clip'],
        num_sanity_val_steps=0,
        log_every_n_steps=config['log_every'],
        logger=CSVLogger(output, name='logs'),
        callbacks=[
            StepSeed(config['seed']),
            last_checkpoint(output),
            *build_progress('auto'),
        ],
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(
        module,
        torch.utils.data.DataLoader(
            batches, sampler=EpochNumbers(config['steps_per_epoch'], resume), batch_size=None
        ),
        torch.utils.data.DataLoader(watched, sampler=range(5), batch_size=None),
        ckpt_path=resume,
        weights_only=False,
    )
    return last
