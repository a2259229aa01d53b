"""Optimizers and learning rates."""

import math

import torch

from mt_perception.errors import MtError

OPTIMIZERS = ('adamw', 'adam', 'sgd')
SCHEDULES = ('cosine', 'poly', 'constant')


def learning_rate(step, max_steps, warmup=0, schedule='cosine', final=0.02, power=0.9):
    """
    Return the factor on the learning rate at a step: linear warm-up, then the schedule.

    :param step: from 0. :param max_steps: end of the schedule.
    :param warmup: steps.
    :param schedule: ``cosine`` to ``final``, ``poly`` (1 − t)^power to ``final``, or ``constant``.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, max_steps - warmup))
    if schedule == 'constant':
        return 1.0
    if schedule == 'poly':
        return final + (1 - final) * (1 - done) ** power
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def build_optimizer(config, max_steps, encoder, rest, extra=()):
    """
    Make the optimizer and its schedule.

    :param config: ``lr``, ``encoder_lr``, ``weight_decay``, ``warmup``; and, each with a default, ``name``
        (adamw, adam, sgd), ``momentum``, ``schedule`` (cosine, poly, constant), ``final``, ``power``.
    :param max_steps: length of the schedule in optimizer steps.
    :param encoder: parameters at ``encoder_lr``. :param rest: parameters at ``lr``.
    :param extra: parameters at ``lr`` without weight decay (weights of the tasks).
    :raises MtError: an unknown optimizer or schedule.
    """
    name, schedule = config.get('name', 'adamw'), config.get('schedule', 'cosine')
    if name not in OPTIMIZERS:
        raise MtError(f"optimizer.name: unknown '{name}'; known: {', '.join(OPTIMIZERS)}")
    if schedule not in SCHEDULES:
        raise MtError(f"optimizer.schedule: unknown '{schedule}'; known: {', '.join(SCHEDULES)}")
    groups = [
        {'params': list(encoder), 'lr': config['encoder_lr']},
        {'params': list(rest), 'lr': config['lr']},
    ]
    if extra:
        groups.append({'params': list(extra), 'lr': config['lr'], 'weight_decay': 0.0})
    decay = config['weight_decay']
    if name == 'sgd':
        optimizer = torch.optim.SGD(
            groups, lr=config['lr'], momentum=config.get('momentum', 0.9), weight_decay=decay
        )
    else:
        kind = {'adamw': torch.optim.AdamW, 'adam': torch.optim.Adam}[name]
        optimizer = kind(groups, weight_decay=decay)
    options = {key: config[key] for key in ('warmup', 'final', 'power') if key in config}
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step, max_steps, schedule=schedule, **options)
    )
    return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}
