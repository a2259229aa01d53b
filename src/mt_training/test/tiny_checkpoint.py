"""A miniature network as train leaves it: weights and the experiment beside them, without training it."""

import torch
import yaml

from mt_training.models import build_network
from tiny_experiment import tiny_config


def write_checkpoint(folder, architecture='mtnet-nano', model=None, **changes):
    """
    Write ``last.ckpt`` and ``config.yaml``; batch norms have statistics and scales of all sizes.

    :param model: the experiment's section of that name.
    :param changes: other keys of the experiment.
    :return: path of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(architecture=architecture, freeze_blocks=0, **changes)
    config['model'] = model or {
        'classes': 11, 'width': 16, 'keypoint_width': 16, 'descriptor_dim': 16, 'global_dim': 32
    }  # fmt: skip
    config['export'] = {**config['export'], 'max_keypoints': 32}
    torch.manual_seed(3)
    net = build_network(architecture, **config['model'])
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    path = folder / 'last.ckpt'
    torch.save({'state_dict': {f'net.{k}': v for k, v in net.state_dict().items()}}, path)
    (folder / 'config.yaml').write_text(yaml.safe_dump(config))
    return path
