"""
Stages of an experiment: each changes some keys and starts from the weights of the one before.

::

    stages:
      - {name: multitask, epochs: 40}
      - {name: segmentation, epochs: 10, only_segmentation: true, schedule: [[cityscapes]], optimizer: {lr:
          2.0e-4}}
      - {name: places, epochs: 5, freeze_backbone: true, train_heads: [global_descriptor], loss_weights:
          {place: 1.0}}
"""

import copy
import shutil
from pathlib import Path

import torch

from mt_perception.errors import MtError
from mt_perception.writing import whole_file
from mt_training.checkpoints import write_text
from mt_training.distributed import rank
from mt_training.weights import load_state

# taken whole from a stage: a task or set it does not name is not meant
REPLACED = (
    'losses',
    'loss_weights',
    'weighting',
    'validation',
    'distillation',
    'class_weights',
    'early_stopping',
)
KEPT = ('last.ckpt', 'best.ckpt', 'config.yaml')


def merge(base, changes, where=''):
    """
    Return ``base`` with ``changes``, section by section.

    :raises MtError: a key that ``base`` does not have.
    """
    out = copy.deepcopy(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(out.get(key), dict) and key not in REPLACED:
            out[key] = merge(out[key], value, f'{where}{key}.') if key != 'model' else {**out[key], **value}
        elif key not in out and where.split('.')[0] not in ('sets', 'optimizer'):
            raise MtError(f'{where}{key} is not a key of this experiment')
        else:
            out[key] = copy.deepcopy(value)
    return out


def expand(config):
    """
    Return the list of (name, configuration) of the stages; one, named None, where there are none.

    :raises MtError: a stage without name or with unknown keys.
    """
    base = {key: value for key, value in config.items() if key != 'stages'}
    if not config.get('stages'):
        return [(None, shorthand(base, set()))]
    out = []
    for index, stage in enumerate(config['stages']):
        if not isinstance(stage, dict) or 'name' not in stage:
            raise MtError(f'stages[{index}] needs a name')
        changes = {key: value for key, value in stage.items() if key != 'name'}
        try:
            merged = merge(base, changes)
        except MtError as error:
            raise MtError(f"stage '{stage['name']}': {error}") from None
        out.append((str(stage['name']), shorthand(merged, set(changes))))
    return out


def shorthand(config, named):
    """Spell out ``only_segmentation``: the head alone trains, the other losses are left out unless named."""
    if config.get('only_segmentation'):
        config = {**config, 'train_heads': ['segmentation']}
        if 'loss_weights' not in named:
            weights = config['loss_weights']
            config['loss_weights'] = {'segmentation': weights.get('segmentation', 1.0)}
    return config


def place_to_go_on(checkpoint, stages):
    """
    Return (index of the stage to run, whether the checkpoint is of that very stage).

    :param checkpoint: path of the checkpoint to go on from, or None.
    :param stages: see :func:`expand`; an index of their number says that nothing is left to do.
    """
    if checkpoint is None:
        return 0, False
    state = torch.load(checkpoint, map_location='cpu', weights_only=False, mmap=True)
    run = state.get('run', {'stage': 0, 'finished': False})
    index = run['stage']
    if index >= len(stages):
        raise MtError(f'{checkpoint} is of stage {index + 1}, and this experiment has {len(stages)}')
    config = stages[index][1]
    over = state['epoch'] + 1 >= config['epochs'] or (run['finished'] and bool(config.get('early_stopping')))
    return (index + 1, False) if over else (index, True)


def archive(output, index, name):
    """Keep what a finished stage made in ``output/stages/INDEX-NAME``; again does no harm."""
    folder = Path(output) / 'stages' / f'{index}-{name}'
    folder.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        source, kept = Path(output) / file, folder / file
        if source.is_file() and not kept.is_file():
            with whole_file(kept) as beside:
                shutil.copyfile(source, beside)


def start_from(module, init):
    """
    Start a module from the weights of another run that fit it; says which parts keep their random ones.

    :param init: see :func:`mt_training.weights.load_state`.
    :raises MtError: there are no such weights, or none fits.
    """
    given = load_state(init)
    own = {key: value for key, value in module.state_dict().items() if not key.startswith('weighting.')}
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    missing = [key.removeprefix('net.') for key in own if key not in fitting]
    if not fitting:
        raise MtError(f"'{init}' is of another network: it has no {missing[0]}")
    module.load_state_dict(fitting, strict=False)
    if missing and rank() == 0:
        parts = sorted({'.'.join(key.split('.')[:2]) for key in missing})
        print(f"'{init}' has no weights for {', '.join(parts)}; they start from random ones")


def write_config(output, config):
    """Write ``output/config.yaml``: what the checkpoints beside it are."""
    import yaml

    write_text(Path(output) / 'config.yaml', yaml.safe_dump(config, sort_keys=False))
