"""The Lightning trainer of an experiment: devices, precision, loggers, callbacks, checkpoints."""

import os

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy

from mt_perception.errors import MtError
from mt_training.checkpoints import AtomicCheckpointIO
from mt_training.distributed import LONGEST_WAIT, rank, under_torchrun

PRECISIONS = {'32': '32-true', 'bf16': 'bf16-mixed', '16': '16-mixed'}


class StepSeed(lightning.Callback):
    """
    Seeds chance (dropout) by the batch, so that a resumed run ends like an uninterrupted one.

    :param by_process: another seed in each process; not where their masks are parts of one.
    """

    def __init__(self, seed, by_process=False):
        """Keep the seed of the run."""
        self.seed, self.by_process = seed, by_process

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        """Seed."""
        number = trainer.current_epoch * trainer.num_training_batches + batch_idx
        torch.manual_seed(self.seed + number + (1_000_003 * rank() if self.by_process else 0))


class RunState(lightning.Callback):
    """
    Notes in every checkpoint which stage of which experiment it belongs to, and whether the stage is over.

    Under the key ``run``: ``stage`` (index), ``finished``, ``config``.
    """

    def __init__(self, config, stage=0):
        """Keep what to note."""
        self.config, self.stage = config, stage

    def on_save_checkpoint(self, trainer, module, checkpoint):
        """Note."""
        over = checkpoint['epoch'] + 1 >= self.config['epochs']
        stopped = any(isinstance(c, EarlyStopping) and c.stopped_epoch for c in trainer.callbacks)
        checkpoint['run'] = {'stage': self.stage, 'finished': over or stopped, 'config': self.config}


def last_checkpoint(output):
    """Return the callback that keeps ``output/last.ckpt``, written after every epoch."""
    return ModelCheckpoint(
        output, filename='last', save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )


def best_metric(config):
    """
    Return (metric, mode) that tells the best checkpoint of an experiment, or None.

    :raises MtError: ``best`` is none of its forms.
    """
    best = config.get('best', 'auto')
    if best is None:
        return None
    if best == 'auto':
        validation = config.get('validation') or {}
        if 'camvid' in validation:
            return 'val/miou', 'max'
        return ('val/abs_rel', 'min') if 'kitchen' in validation else None
    if not isinstance(best, dict) or 'metric' not in best or best.get('mode', 'max') not in ('min', 'max'):
        raise MtError('best: give auto, null or {metric: val/miou, mode: max or min}')
    return best['metric'], best.get('mode', 'max')


def build_loggers(names, output):
    """
    Make the loggers.

    :param names: list of names, or of {name: options}.
    :raises MtError: an unknown logger, or one whose package is not installed.
    """
    loggers = []
    for entry in names:
        name, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        options = options or {}
        if name == 'csv':
            loggers.append(CSVLogger(output, name='logs', **options))
        elif name in ('tensorboard', 'wandb'):
            try:
                loggers.append(_logger(name, output, options))
            except ModuleNotFoundError:
                raise MtError(
                    f'loggers: {name} is not installed; pip install {name}, or leave it out'
                ) from None
        else:
            raise MtError(f"loggers: unknown '{name}'; known: csv, tensorboard, wandb")
    return loggers


def _logger(name, output, options):
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if name == 'tensorboard':
        return TensorBoardLogger(output, name='logs/tensorboard', **options)
    (output / 'logs').mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        **{'project': 'mt_training', 'name': output.name, 'save_dir': output / 'logs', **options}
    )


def build_progress(kind):
    """Return the callbacks that show progress; MtError when rich is asked for and not installed."""
    if kind not in ('auto', 'rich', 'tqdm', 'none'):
        raise MtError(f"progress: unknown '{kind}'; known: auto, rich, tqdm, none")
    if kind in ('auto', 'rich'):
        try:
            from lightning.pytorch.callbacks import RichProgressBar

            return [RichProgressBar(refresh_rate=5)]
        except ModuleNotFoundError:
            if kind == 'rich':
                raise MtError('progress: rich is not installed; pip install rich, or say tqdm') from None
    return [] if kind == 'none' else [TQDMProgressBar(refresh_rate=20)]


def build_precision(name):
    """
    Return Lightning's name of a precision.

    :raises MtError: there is no such precision, or this machine does not have it.
    """
    name = str(name).removesuffix('-mixed').removesuffix('-true')
    cuda = torch.cuda.is_available()
    if name == 'auto':
        name = '32' if not cuda else 'bf16' if torch.cuda.is_bf16_supported() else '16'
    if name not in PRECISIONS:
        raise MtError(f"precision: unknown '{name}'; known: auto, {', '.join(PRECISIONS)}")
    if name == '16' and not cuda:
        raise MtError('precision: 16 needs a GPU; the CPU has 32 and bf16')
    return PRECISIONS[name]


def build_devices(config):
    """Return devices, num_nodes and strategy: those of torchrun where it started this process."""
    devices, nodes = config.get('devices', 'auto'), config.get('num_nodes', 1)
    if under_torchrun():
        devices = int(os.environ['LOCAL_WORLD_SIZE'])
        nodes = int(os.environ['WORLD_SIZE']) // devices
    elif devices not in ('auto', 1) or nodes != 1:
        count = devices if isinstance(devices, int) else 'GPUS'
        raise MtError(
            f'several processes are started with torchrun --nproc-per-node {count} --nnodes {nodes} '
            '-m mt_training.train …'
        )
    strategy = config.get('strategy', 'auto')
    if strategy == 'auto' and under_torchrun():
        strategy = 'ddp'
    if strategy == 'ddp':
        # a step whose sets lack a task leaves its head unused
        strategy = DDPStrategy(find_unused_parameters=True, timeout=LONGEST_WAIT)
    return {'devices': devices if under_torchrun() else 1, 'num_nodes': nodes, 'strategy': strategy}


def build_trainer(config, output, max_epochs, stage=0, seed=None, watch_best=True):
    """
    Make the trainer.

    :param config: the experiment; see ``configs/defaults.yaml``.
    :param output: folder of checkpoints and logs.
    :param max_epochs: end of this call.
    :param stage: index of the stage, noted in the checkpoints.
    :param seed: of this stage, default the experiment's.
    :param watch_best: keep ``best.ckpt`` and stop early where the experiment says so.
    """
    by_process = not config.get('gather_losses', True)
    callbacks = [StepSeed(config['seed'] if seed is None else seed, by_process), RunState(config, stage)]
    if config.get('ema_decay'):
        callbacks.append(EMAWeightAveraging(decay=config['ema_decay']))
    best = best_metric(config) if watch_best else None
    if best:
        callbacks.append(
            ModelCheckpoint(
                output, filename='best', monitor=best[0], mode=best[1], save_top_k=1,
                enable_version_counter=False, save_on_train_epoch_end=False,
            )
        )  # fmt: skip
    stopping = config.get('early_stopping')
    if stopping and watch_best:
        if not best:
            raise MtError('early_stopping needs a metric: say which with best: {metric: …, mode: …}')
        try:
            callbacks.append(EarlyStopping(best[0], mode=best[1], check_on_train_epoch_end=False, **stopping))
        except TypeError:
            raise MtError(f'early_stopping takes patience and min_delta, not {", ".join(stopping)}') from None
    callbacks += [last_checkpoint(output), *build_progress(config.get('progress', 'auto'))]
    return lightning.Trainer(
        default_root_dir=output,
        max_epochs=max_epochs,
        accelerator='auto',
        precision=build_precision(config.get('precision', 32)),
        gradient_clip_val=config.get('gradient_clip'),
        accumulate_grad_batches=config.get('accumulate', 1),
        check_val_every_n_epoch=config.get('validate_every', 1),
        num_sanity_val_steps=0,
        log_every_n_steps=config['log_every'],
        logger=build_loggers(config.get('loggers', ['csv']), output),
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        enable_progress_bar=config.get('progress', 'auto') != 'none',
        callbacks=callbacks,
        **build_devices(config),
    )
