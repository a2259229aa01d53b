"""The network that a tool starts from: a checkpoint with its experiment, or an experiment and weights."""

from mt_perception.errors import MtError
from mt_training.export import load_net
from mt_training.models import NETWORKS, build_network
from mt_training.train import load_config, override
from mt_training.weights import load_weights


def add_start_options(group):
    """Add ``--checkpoint``, ``--config`` and ``--init``."""
    group.add_argument('--checkpoint', help='file written by train, with its config.yaml beside')
    group.add_argument('--config', help='or: an experiment, for the weights of --init')
    group.add_argument('--init', help='with --config: weights, such as the shipped mtnet_small')


def load_start(args):
    """
    Load the network of the options.

    :return: (network in evaluation mode, its experiment, weights as ``train --init`` takes them).
    :raises MtError: options that do not go together, or files that are not what they should be.
    """
    if args.checkpoint:
        if args.config or args.init:
            raise MtError('--checkpoint says all that --config and --init say; give one or the other')
        net, config = load_net(args.checkpoint)
        return net, config, args.checkpoint
    if not (args.config and args.init):
        raise MtError('which network? give --checkpoint, or --config with --init')
    config = load_config(args.config)
    if config['architecture'] not in NETWORKS:
        raise MtError(f"'{args.config}' is not an experiment of a network for images")
    net = build_network(config['architecture'], **config['model'])
    given, own = load_weights(args.init), net.state_dict()
    wrong = [key for key, value in own.items() if key not in given or given[key].shape != value.shape]
    if wrong:
        raise MtError(f"'{args.init}' does not hold the weights of '{args.config}': {wrong[0]} does not fit")
    net.load_state_dict({key: given[key] for key in own})
    return net.eval(), config, args.init


def short_training(config, epochs, rate, overrides=()):
    """
    Return an experiment for training a changed network a little more.

    :param config: the experiment that made it. :param epochs: of the new one, without stages.
    :param rate: learning rates, as a part of the old ones.
    :param overrides: ``key=value`` changes.
    """
    optimizer = dict(config['optimizer'])
    for key in ('lr', 'encoder_lr'):
        optimizer[key] *= rate
    optimizer['warmup'] = min(optimizer.get('warmup', 0), config['steps_per_epoch'])
    changed = {
        **config, 'optimizer': optimizer, 'epochs': epochs, 'ema_decay': None, 'best': None,
        'early_stopping': None, 'stages': [], 'validate_every': 1,
    }  # fmt: skip
    override(changed, overrides)
    return changed
