"""
Train a network.

``./mt run mt_training train --config mtnet_small --data ROOT --pretrained DIR --output OUT``

Progress, metrics and checkpoints go to OUT; a run that was stopped goes on with the same command.
"""

import argparse
import sys
from pathlib import Path

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from mt_perception.errors import MtError
from mt_training.data.augment import view_sizes
from mt_training.data.datasets_file import add_datasets_option
from mt_training.data.sets import Batches, EpochNumbers, SetBuilder, list_images, open_folder, read_rgb
from mt_training.module import MultiTaskModule
from mt_training.weights import load_weights

CONFIGS = Path(__file__).parent / 'configs'
START_VIEWS = 60  # views of each set from which a network starts what can start from images
IMITATED = 32  # views on which an encoder learns to imitate the larger one it is made from


def load_config(name):
    """
    Read an experiment.

    One with the key ``extends: NAME`` has all keys of that experiment, but for those it gives itself.

    :param name: a name in the package's ``configs`` or the path of a YAML file.
    :raises MtError: there is no such experiment.
    """
    path = Path(name) if Path(name).suffix in ('.yaml', '.yml') else CONFIGS / f'{name}.yaml'
    if not path.is_file():
        known = ', '.join(sorted(p.stem for p in CONFIGS.glob('*.yaml')))
        raise MtError(f"there is no experiment '{name}'; known: {known}")
    config = yaml.safe_load(path.read_text())
    if 'extends' in config:
        config = {**load_config(config.pop('extends')), **config}
    return config


def override(config, assignments):
    """
    Apply ``a.b=value`` assignments (YAML values) to ``config`` in place.

    The keys must exist; the ``model`` section takes all that its network takes.
    """
    for assignment in assignments:
        key, _, value = assignment.partition('=')
        *parents, last = key.split('.')
        section = config
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or (last not in section and parents != ['model']):
            raise MtError(f"'{key}' is not a key of this experiment")
        section[last] = yaml.safe_load(value)


class Validation(torch.utils.data.Dataset):
    """The images kept for watching a run: class ids or depth, one image per batch."""

    def __init__(self, section, data, cache, focal):
        """Read lists; images are read when asked for."""
        import cv2

        from mt_training.data.frames import cached_frames

        self.items = []
        if 'camvid' in section:
            part = section['camvid']
            root = Path(data) / part['root']
            size = tuple(part['size'])
            for path in list_images(root / 'images')[:: part['every']]:
                label = cv2.imread(str(root / 'labels' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
                label = np.where(label > 10, 255, label).astype(np.uint8)
                image = cv2.resize(read_rgb(path), size, interpolation=cv2.INTER_AREA)
                self.items.append(
                    {'set': 'segmentation', 'images': image.transpose(2, 0, 1), 'labels': label}
                )
        if 'kitchen' in section:
            part = section['kitchen']
            root = Path(data) / part['root']
            for frame in cached_frames(
                part['root'], lambda: open_folder(root), range(*part['frames']), cache
            ):
                self.items.append(
                    {
                        'set': 'depth',
                        'images': frame['image'].transpose(2, 0, 1),
                        'depth': frame['depth'] * np.float32(focal / frame['camera'].fx),
                    }
                )

    def __len__(self):
        """Return the number of images."""
        return len(self.items)

    def __getitem__(self, index):
        """Return one image as a batch of one."""
        item = self.items[index]
        return {
            k: v if isinstance(v, str) else torch.from_numpy(np.ascontiguousarray(v))[None]
            for k, v in item.items()
        }


class StepSeed(lightning.Callback):
    """Seeds chance (dropout) by the step, so that a resumed run ends like an uninterrupted one."""

    def __init__(self, seed):
        """Keep the seed of the run."""
        self.seed = seed

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        """Seed."""
        torch.manual_seed(self.seed + trainer.global_step)


def last_checkpoint(output):
    """Return the callback that keeps ``output/last.ckpt``, written after every epoch."""
    return ModelCheckpoint(
        output, filename='last', save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
    )


def build_module(config):
    """Make the Lightning module of an experiment."""
    neighbours = {name: s.get('neighbours', 0) for name, s in config['sets'].items()}
    return MultiTaskModule(
        config['architecture'],
        config['model'],
        config['optimizer'],
        config['loss_weights'],
        config['epochs'] * config['steps_per_epoch'],
        config['class_weights'],
        neighbours,
        config['freeze_blocks'],
        config['train_only'],
        config.get('kp2d'),
    )


def start_from(net, init):
    """
    Start a network from the weights of another that fit it; says which parts keep their random ones.

    :param init: see :func:`mt_training.weights.load_weights`.
    :raises MtError: there are no such weights, or none fits.
    """
    given, own = load_weights(init), net.state_dict()
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fitting]
    if not fitting:
        raise MtError(f"'{init}' is of another network: it has no {missing[0]}")
    net.load_state_dict(fitting, strict=False)
    if missing:
        parts = sorted({'.'.join(key.split('.')[:2]) for key in missing})
        print(f"'{init}' has no weights for {', '.join(parts)}; they start from random ones")


def train(config, data, pretrained, output, init=None, cache=None, stop_after=None, datasets=None):
    """
    Run an experiment; goes on from ``output/last.ckpt`` where there is one.

    :param config: see ``configs/mtnet_small.yaml``.
    :param data: root folder of the data sets.
    :param pretrained: folder of the encoder's and the keypoint teacher's weights.
    :param output: folder for checkpoints, metrics and the data cache.
    :param init: weights to start from, see :func:`mt_training.weights.load_weights`; None for the encoder's.
    :param cache: folder of prepared data to share with other runs, default ``output/cache``.
    :param stop_after: end after this many epochs, leaving the rest for a later call.
    :param datasets: a ``datasets.yaml`` for sets of kind ``dataset``; None: see
        mt_training.data.datasets_file.
    :return: path of the last checkpoint.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / 'config.yaml').write_text(yaml.safe_dump(config, sort_keys=False))
    lightning.seed_everything(config['seed'])
    cache = Path(cache) if cache else output / 'cache'
    builder = SetBuilder(
        data,
        cache,
        Path(pretrained) / 'aliked-n16rot.pth',
        config['size'],
        config['focal'],
        config['classes'],
        datasets,
    )
    used = list(dict.fromkeys(name for step in config['schedule'] for name in step))
    samplers = {name: builder.build(config['sets'][name]) for name in used}
    sizes = {name: config['sets'][name]['batch'] for name in used}
    scales = config.get('view_scales')
    views = view_sizes(config['size'], scales) if scales else None
    batches = Batches(samplers, config['schedule'], sizes, config['seed'], views)
    last = output / 'last.ckpt'
    numbers = EpochNumbers(config['steps_per_epoch'], last)
    loader = torch.utils.data.DataLoader(
        batches, sampler=numbers, batch_size=None, num_workers=1, prefetch_factor=3
    )
    watched = config['validation']
    plain = {name: section for name, section in watched.items() if 'dataset' not in section}
    parts = [Validation(plain, data, cache, config['focal'])]
    parts += [builder.validation(section) for section in watched.values() if 'dataset' in section]
    validation = torch.utils.data.DataLoader(torch.utils.data.ConcatDataset(parts), batch_size=None)

    module = build_module(config)
    if init:
        start_from(module.net, init)
    elif not last.is_file():
        rng = np.random.default_rng(config['seed'])
        views = [samplers[n].sample(rng)['images'][0] for n in used for _ in range(START_VIEWS)]
        views = [torch.from_numpy(view[None].astype(np.float32)) for view in views]
        step = -(-len(views) // IMITATED)
        module.net.load_pretrained(pretrained, views[::step])
        module.net.initialise_places(views)
    module = module.to(memory_format=torch.channels_last)
    trainer = lightning.Trainer(
        default_root_dir=output,
        max_epochs=min(config['epochs'], stop_after or config['epochs']),
        accelerator='auto',
        devices=1,
        gradient_clip_val=config['gradient_clip'],
        check_val_every_n_epoch=config['validate_every'],
        num_sanity_val_steps=0,
        log_every_n_steps=config['log_every'],
        logger=CSVLogger(output, name='logs'),
        callbacks=[
            StepSeed(config['seed']),
            EMAWeightAveraging(decay=config['ema_decay']),
            last_checkpoint(output),
            TQDMProgressBar(refresh_rate=20),
        ],
    )
    trainer.fit(module, loader, validation, ckpt_path=last if last.is_file() else None, weights_only=False)
    return last


def main(argv=None):
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog='train', description=__doc__.splitlines()[1])
    parser.add_argument(
        '--config', default='mtnet_small', help='experiment: a name in configs/ or a YAML file'
    )
    parser.add_argument('--data', help='root folder of the data sets that an experiment names by folder')
    add_datasets_option(parser)
    parser.add_argument('--pretrained', required=True, help='folder of encoder and teacher weights')
    parser.add_argument('--output', required=True, help='folder for checkpoints and metrics')
    parser.add_argument(
        '--init', help='weights to start from: a checkpoint, or a shipped model such as mtnet_small'
    )
    parser.add_argument('--keypoints', help='matcher: checkpoint of the network whose keypoints it matches')
    parser.add_argument('--cache', help='data cache to share with other runs (default: OUT/cache)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads (0: all)')
    parser.add_argument(
        '--stop-after', type=int, help='stop after this epoch; the same command goes on later'
    )
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='change a key of the experiment')
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        config = load_config(args.config)
        override(config, args.overrides)
        if config['architecture'].startswith('lightglue'):
            from mt_training.matcher.train import train_matcher

            last = train_matcher(config, args.data, args.pretrained, args.output, args.keypoints, args.cache)
        else:
            last = train(
                config,
                args.data,
                args.pretrained,
                args.output,
                args.init,
                args.cache,
                args.stop_after,
                args.datasets,
            )
    except MtError as error:
        print(f'train: {error}', file=sys.stderr)
        return 1
    print(f'trained; the last checkpoint is {last}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
