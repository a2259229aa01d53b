"""
MobileNetV2 encoder with the batch norm folded into its convolutions.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018. The public ImageNet
weights come folded, with TensorFlow's SAME padding at stride 2 (one row and column on the right and
bottom) and ReLU6; both are kept, so that the weights mean here what they meant there.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mt_perception.errors import MtError

# (expansion, output channels, stride) of the 17 blocks at width 1.0
BLOCKS = (
    [(1, 16, 1)]
    + [(6, 24, 2)]
    + [(6, 24, 1)]
    + [(6, 32, 2)]
    + [(6, 32, 1)] * 2
    + [(6, 64, 2)]
    + [(6, 64, 1)] * 3
    + [(6, 96, 1)] * 3
    + [(6, 160, 2)]
    + [(6, 160, 1)] * 2
    + [(6, 320, 1)]
)
# the last block of each stride, and its channels: stride 2, 4, 8, 16, 32
STAGES = {0: 16, 2: 24, 5: 32, 12: 96, 16: 320}


class SameConv(nn.Conv2d):
    """Convolution padded like TensorFlow's SAME for inputs that the stride divides."""

    def forward(self, x):
        """[B,C,H,W] → [B,C',H/stride,W/stride]."""
        if self.stride[0] == 2:
            x = F.pad(x, (0, 1, 0, 1))
        return super().forward(x)


def _conv(inputs, outputs, kernel, stride=1, groups=1):
    padding = kernel // 2 if stride == 1 else 0
    return SameConv(inputs, outputs, kernel, stride, padding, groups=groups)


class InvertedResidual(nn.Module):
    """Expand (1×1), filter (3×3 depthwise), project (1×1); added to the input where shapes allow."""

    def __init__(self, inputs, outputs, stride, expansion):
        """Make the three convolutions; the first is left out when ``expansion`` is 1."""
        super().__init__()
        hidden = inputs * expansion
        self.expand = _conv(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = _conv(hidden, hidden, 3, stride, groups=hidden)
        self.project = _conv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        """[B,C,H,W] → [B,C',H/stride,W/stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """
    Encoder.

    :ivar channels: channels of the returned feature maps, strides 2, 4, 8, 16 and 32.
    """

    channels = tuple(STAGES.values())

    def __init__(self):
        """Make the network with random weights."""
        super().__init__()
        self.stem = _conv(3, 32, 3, 2)
        blocks, inputs = [], 32
        for expansion, outputs, stride in BLOCKS:
            blocks.append(InvertedResidual(inputs, outputs, stride, expansion))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        """
        Extract features.

        :param x: [B,3,H,W] float, (RGB − 128) / 128; H and W multiples of 32.
        :return: list of five maps, strides 2, 4, 8, 16, 32.
        """
        x = F.relu6(self.stem(x))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in STAGES:
                features.append(x)
        return features

    def load_npz(self, path):
        """
        Load weights named ``stem``, ``blocks.N.{expand,depthwise,project}`` from a NumPy archive.

        :raises MtError: the file is missing or lacks a weight.
        """
        if not Path(path).is_file():
            raise MtError(f'encoder weights not found at {path}')
        with np.load(path) as data:
            own = self.state_dict()
            missing = [key for key in own if key not in data or data[key].shape != tuple(own[key].shape)]
            if missing:
                raise MtError(
                    f'{path} does not hold MobileNetV2 weights: {missing[0]} is missing or misshapen'
                )
            self.load_state_dict({key: torch.from_numpy(data[key].astype(np.float32)) for key in own})
