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
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mt_perception.errors import MtError
from mt_training import stages
from mt_training.checkpoints import usable_checkpoint
from mt_training.data.augment import view_sizes
from mt_training.data.datasets_file import add_datasets_option
from mt_training.data.sets import Batches, EpochNumbers, SetBuilder, list_images, open_folder, read_rgb
from mt_training.distributed import first_process_first, meet, part, rank, under_torchrun, world_size
from mt_training.losses.class_balance import class_weights
from mt_training.losses.teachers import Teachers
from mt_training.module import MultiTaskModule
from mt_training.trainer import StepSeed, build_trainer, last_checkpoint

__all__ = ['StepSeed', 'last_checkpoint', 'load_config', 'main', 'override', 'train']

CONFIGS = Path(__file__).parent / 'configs'
START_VIEWS = 60  # views of each set from which a network starts what can start from images
IMITATED = 32  # views on which an encoder learns to imitate the larger one it is made from


DEFAULTS = 'defaults'  # not an experiment: what the keys mean that one leaves out
BALANCE_SAMPLES = 100  # pairs per set from which the frequency of classes is told


def load_config(name):
    """
    Read an experiment; keys it leaves out get their values from ``configs/defaults.yaml``.

    One with the key ``extends: NAME`` has all keys of that experiment, but for those it gives itself.

    :param name: a name in the package's ``configs`` or the path of a YAML file.
    :raises MtError: there is no such experiment.
    """
    path = Path(name) if Path(name).suffix in ('.yaml', '.yml') else CONFIGS / f'{name}.yaml'
    if not path.is_file():
        known = ', '.join(sorted(p.stem for p in CONFIGS.glob('*.yaml') if p.stem != DEFAULTS))
        raise MtError(f"there is no experiment '{name}'; known: {known}")
    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise MtError(f'{path} is not YAML: {" ".join(str(error).split())}') from None
    if not isinstance(config, dict) or not {'architecture', 'extends'} & set(config):
        raise MtError(f"{path} is not an experiment: it has no key 'architecture'")
    if 'extends' in config:
        config = {**load_config(config.pop('extends')), **config}
    if config['architecture'].startswith('lightglue'):
        return config
    defaults = yaml.safe_load((CONFIGS / f'{DEFAULTS}.yaml').read_text())
    config['optimizer'] = {**defaults['optimizer'], **config.get('optimizer', {})}
    return {**config, **{key: value for key, value in defaults.items() if key not in config}}


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


def build_module(config, seed=None):
    """Make the Lightning module of an experiment; its teachers are loaded too."""
    neighbours = {name: s.get('neighbours', 0) for name, s in config['sets'].items()}
    steps = -(-config['steps_per_epoch'] // config.get('accumulate', 1))
    module = MultiTaskModule(
        config['architecture'],
        config['model'],
        config['optimizer'],
        config['loss_weights'],
        config['epochs'] * steps,
        config['class_weights'],
        neighbours,
        config['freeze_blocks'],
        kp2d=config.get('kp2d'),
        losses=config['losses'],
        weighting=config['weighting'],
        freeze_backbone=config['freeze_backbone'],
        train_heads=config['train_heads'],
        only=config['train_only'],
        gather_losses=config['gather_losses'],
        seed=config['seed'] if seed is None else seed,
    )
    if config['distillation']:
        module.set_teachers(Teachers(config['distillation']))
    return module


def balance(config, samplers):
    """
    Return the class weights of an experiment: its list, or those of its rule for what the samplers show.

    :param samplers: dict name → sampler; those without labels do not count.
    """
    weights = config['class_weights']
    if not isinstance(weights, dict):
        return weights
    options = dict(weights)
    rule = options.pop('rule', None)
    rng = np.random.default_rng(config['seed'])
    dense = [s for s in samplers.values() if not getattr(s, 'only_places', False)]
    labels = (image for s in dense for _ in range(BALANCE_SAMPLES) for image in s.sample(rng)['labels'])
    return class_weights(rule, labels, config['model']['classes'], **options)


def train(
    config, data, pretrained, output, init=None, cache=None, stop_after=None, datasets=None, change=None
):
    """
    Run an experiment, all its stages; goes on from ``output/last.ckpt`` where there is one.

    :param config: see ``configs/mtnet_small.yaml`` and ``configs/defaults.yaml``.
    :param data: root folder of the data sets.
    :param pretrained: folder of the encoder's and the keypoint teacher's weights.
    :param output: folder for checkpoints, metrics and the data cache.
    :param init: weights to start from, see :func:`mt_training.weights.load_state`; None for the encoder's.
    :param cache: folder of prepared data to share with other runs, default ``output/cache``.
    :param stop_after: end after this many epochs of all stages, leaving the rest for a later call.
    :param datasets: a ``datasets.yaml`` for sets of kind ``dataset``; None: see
        mt_training.data.datasets_file.
    :param change: function that changes the module once its weights are there, before it trains: called
        again in the same way when a run goes on; None: nothing.
    :return: path of the last checkpoint.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    meet()
    plan = stages.expand(config)
    checkpoint = usable_checkpoint(output / 'last.ckpt')
    first, inside = stages.place_to_go_on(checkpoint, plan)
    cache = Path(cache) if cache else output / 'cache'
    begun = sum(stage['epochs'] for _, stage in plan[:first])
    for index in range(first, len(plan)):
        name, stage = plan[index]
        left = stage['epochs'] if stop_after is None else min(stage['epochs'], stop_after - begun)
        if left <= 0:
            break
        if name is not None and rank() == 0:
            print(f'stage {index + 1} of {len(plan)}: {name}', file=sys.stderr)
        if index > 0 and not inside and rank() == 0:
            stages.archive(output, index - 1, plan[index - 1][0])
            (output / 'best.ckpt').unlink(missing_ok=True)
        done = run_stage(
            stage, data, pretrained, output, cache, index, left, checkpoint if inside else None,
            checkpoint if index > 0 else init, datasets, change,
        )  # fmt: skip
        checkpoint, inside = output / 'last.ckpt', False
        begun += stage['epochs']
        if not done:
            break
    return output / 'last.ckpt'


def open_data(config, data, pretrained, cache, seed, resume=None, datasets=None):
    """
    Open what a stage trains on and is watched with.

    :param config: of the stage. :param data: and ``pretrained``, ``cache``, ``datasets``, see :func:`train`.
    :param seed: of the order of the batches.
    :param resume: checkpoint to go on from, or None.
    :return: (dict set → sampler, loader of the batches, loader of the validation).
    """
    with first_process_first():
        builder = SetBuilder(
            data,
            cache,
            Path(pretrained) / 'aliked-n16rot.pth',
            config['size'],
            config['focal'],
            config.get('classes'),
            datasets,
        )
        used = list(dict.fromkeys(name for step in config['schedule'] for name in step))
        unknown = [name for name in used if name not in config['sets']]
        if unknown:
            raise MtError(f"the schedule names {', '.join(unknown)}, which 'sets' does not describe")
        samplers = {name: builder.build(config['sets'][name]) for name in used}
        validation = config['validation']
        plain = {name: section for name, section in validation.items() if 'dataset' not in section}
        watched = [Validation(plain, data, cache, config['focal'])]
        watched += [builder.validation(section) for section in validation.values() if 'dataset' in section]
        watched = torch.utils.data.ConcatDataset(watched)
    sizes = {name: config['sets'][name]['batch'] for name in used}
    views = view_sizes(config['size'], config['view_scales']) if config.get('view_scales') else None
    batches = Batches(samplers, config['schedule'], sizes, seed, views, config['sample_seeds'])
    workers = config['workers']
    loader = torch.utils.data.DataLoader(
        batches,
        sampler=EpochNumbers(config['steps_per_epoch'], resume),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=3 if workers else None,
    )
    validation = torch.utils.data.DataLoader(
        watched, sampler=range(rank(), len(watched), world_size()), batch_size=None
    )
    return samplers, loader, validation


def run_stage(
    config, data, pretrained, output, cache, index, epochs, resume, init, datasets=None, change=None
):
    """
    Run one stage.

    :param config: of this stage. :param index: its number, from 0.
    :param epochs: end of this call. :param resume: checkpoint of this stage to go on from, or None.
    :param init: weights to start from, see :func:`mt_training.stages.start_from`, or None for the encoder's.
    :param datasets: a ``datasets.yaml``, or None. :param change: see :func:`train`.
    :return: whether the stage is over.
    """
    if rank() == 0:
        stages.write_config(output, config)
    seed = config['seed'] + index
    lightning.seed_everything(seed)
    samplers, loader, validation = open_data(config, data, pretrained, cache, seed, resume, datasets)
    config = {**config, 'class_weights': balance(config, samplers)}
    module = build_module(config, seed)
    if init and not resume:
        stages.start_from(module, init)
    elif not resume:
        rng = np.random.default_rng(config['seed'])
        views = [s.sample(rng)['images'][0] for s in samplers.values() for _ in range(START_VIEWS)]
        views = [torch.from_numpy(view[None].astype(np.float32)) for view in views]
        step = -(-len(views) // IMITATED)
        module.net.load_pretrained(pretrained, views[::step])
        module.net.initialise_places(views)
    if change is not None:
        change(module)
    module = module.to(memory_format=torch.channels_last)
    trainer = build_trainer(config, output, epochs, index, seed)
    trainer.fit(module, loader, validation, ckpt_path=resume, weights_only=False)
    return trainer.should_stop or trainer.current_epoch >= config['epochs']


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

            last = train_matcher(
                config, args.data, args.pretrained, args.output, args.keypoints, args.cache, args.init
            )
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
    except MisconfigurationException as error:
        print(f'train: {" ".join(str(error).split())}', file=sys.stderr)
        return 1
    finally:
        if under_torchrun():
            part()
    if rank() == 0:
        print(f'trained; the last checkpoint is {last}')
        draw_curves(args.output)
    return 0


def draw_curves(output):
    """Draw the course of a run to ``output/curves.png``, where it logged to CSV files."""
    from mt_training import curves

    try:
        print(f'its course: {curves.write(output)}')
    except MtError as error:
        print(f'note: {error}')


if __name__ == '__main__':
    sys.exit(main())
