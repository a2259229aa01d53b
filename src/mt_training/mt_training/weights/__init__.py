"""
Trained weights to start a training from: float16 NumPy archives, one per shipped model.

The ONNX files that run are in mt_perception; these are the same networks before batch norm was folded in,
for fine-tuning: ``train --init mtnet_small``.
"""

from pathlib import Path

import numpy as np

from mt_perception.errors import MtError
from mt_perception.writing import whole_file

FOLDER = Path(__file__).parent


def save_weights(net, path):
    """
    Write a network's weights as a NumPy archive of float16 (statistics of batch norm: float32).

    :param net: torch module.
    :param path: file to write; it is there whole or not at all.
    """
    arrays = {}
    for name, value in net.state_dict().items():
        array = value.cpu().numpy()
        half = array.dtype == np.float32 and 'running_' not in name
        arrays[name] = array.astype(np.float16) if half else array
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as beside, open(beside, 'wb') as file:
        np.savez_compressed(file, **arrays)


def load_weights(path):
    """
    Read the weights of a network to start from.

    :param path: see :func:`load_state`.
    :return: dict name of the parameter in the network → tensor.
    :raises MtError: there is no such file, or it holds no weights.
    """
    state = load_state(path)
    return {name.removeprefix('net.'): value for name, value in state.items() if name.startswith('net.')}


def load_state(path):
    """
    Read weights to start a training from.

    :param path: a name in this folder, an archive of :func:`save_weights`, or a checkpoint of ``train``.
    :return: dict name of the parameter in the training's module → tensor; those of the network are below
        ``net.``, a checkpoint may hold others.
    :raises MtError: there is no such file, or it holds no weights.
    """
    import torch

    shipped = FOLDER / f'{path}.npz'
    path = shipped if shipped.is_file() else Path(path)
    if not path.is_file():
        known = ', '.join(sorted(p.stem for p in FOLDER.glob('*.npz')))
        raise MtError(f"there are no weights '{path}': neither a file nor one of the shipped {known}")
    try:
        if path.suffix == '.npz':
            with np.load(path) as data:
                return {
                    f'net.{name}': torch.from_numpy(
                        data[name].astype(np.float32) if data[name].dtype == np.float16 else data[name]
                    )
                    for name in data.files
                }
        return torch.load(path, map_location='cpu', weights_only=False)['state_dict']
    except Exception as error:  # damaged archives raise many kinds of errors
        raise MtError(f'{path} holds no weights: {error}') from error
