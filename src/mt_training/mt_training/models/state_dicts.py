"""Pre-trained weights as public PyTorch checkpoints keep them: one state dict per file."""

from pathlib import Path

import torch

from mt_perception.errors import MtError


def load_matching(encoder, folder, pattern):
    """
    Start ``encoder`` from the first file in ``folder`` that fits ``pattern``; says so when there is none.

    The encoder's parameters have the names of the public checkpoints; what the file holds beyond them (the
    classifier) is left out.

    :param encoder: module.
    :param folder: folder of weights.
    :param pattern: such as ``resnet50*.pth``.
    :raises MtError: the file is not a state dict of this encoder.
    """
    found = sorted(Path(folder).glob(pattern))
    if not found:
        print(f'{type(encoder).__name__}: no {pattern} in {folder}; the encoder starts from random weights')
        return
    try:
        state = torch.load(found[0], map_location='cpu', weights_only=True)
    except Exception as error:
        raise MtError(f'{found[0]} is not a PyTorch state dict: {error}') from None
    own = {k: v for k, v in encoder.state_dict().items() if not k.endswith('num_batches_tracked')}
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise MtError(f'{found[0]} does not hold weights of this encoder: {wrong[0]} is missing or misshapen')
    encoder.load_state_dict({key: state[key] for key in own}, strict=False)


class ImageNetScale(torch.nn.Module):
    """Turn (RGB − 128) / 128, which all encoders take, into the statistics of public ImageNet weights."""

    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)

    def __init__(self):
        """Fold both normalisations into one scale and shift per channel."""
        super().__init__()
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (self.MEAN, self.STD))
        self.register_buffer('scale', 128 / 255 / std, persistent=False)
        self.register_buffer('shift', (128 / 255 - mean) / std, persistent=False)

    def forward(self, x):
        """[B,3,H,W] → the same shape."""
        return x * self.scale + self.shift
