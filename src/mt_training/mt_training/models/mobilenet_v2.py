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
EXPANSION = 6  # of the published network
RIDGE = 1e-3  # regularisation of fitted projections, relative to the mean energy of a channel


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

    def filtered(self, x):
        """Return the hidden channels [B,hidden,H/stride,W/stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        return F.relu6(self.depthwise(y))

    def joined(self, x, hidden):
        """Project the hidden channels; add the input where shapes allow."""
        y = self.project(hidden)
        return x + y if self.residual else y

    def forward(self, x):
        """[B,C,H,W] → [B,C',H/stride,W/stride]."""
        return self.joined(x, self.filtered(x))


@torch.no_grad()
def imitate(block, full, pairs):
    """
    Give a block with fewer hidden channels the weights with which it does best what a full one does.

    Kept are the hidden channels that change the full block's output most; the projection is then fitted to
    that output by least squares, which also makes up for what earlier blocks lost (He et al., "Channel
    Pruning for Accelerating Very Deep Neural Networks", 2017, section 3.1).

    :param block: :class:`InvertedResidual` to set.
    :param full: the pre-trained one.
    :param pairs: list of (input of ``block``, input of ``full``), [1,C,H,W]; the outputs take their place.
    """
    outputs, variance, weight = [], 0.0, full.project.weight[:, :, 0, 0]
    for _, right in pairs:
        hidden = full.filtered(right)
        variance = variance + hidden.var(dim=(0, 2, 3))
        outputs.append(full.joined(right, hidden))
    count = block.depthwise.out_channels
    worth = variance * weight.square().sum(0)
    keep = worth.argsort(descending=True)[:count].sort().values
    for name in ('expand', 'depthwise') if block.expand is not None else ('depthwise',):
        own, other = getattr(block, name), getattr(full, name)
        own.weight.copy_(other.weight[keep])
        own.bias.copy_(other.bias[keep])
    rows, targets = [], []
    for (left, _), output in zip(pairs, outputs, strict=True):
        target = output - left if block.residual else output
        rows.append(block.filtered(left)[0].flatten(1).double())
        targets.append(target[0].flatten(1).double())
    size = sum(r.shape[1] for r in rows)
    row_mean = sum(r.sum(1, keepdim=True) for r in rows) / size
    target_mean = sum(t.sum(1, keepdim=True) for t in targets) / size
    gram = sum((r - row_mean) @ (r - row_mean).T for r in rows)
    cross = sum((r - row_mean) @ (t - target_mean).T for r, t in zip(rows, targets, strict=True))
    gram += RIDGE * gram.diagonal().mean() * torch.eye(count, dtype=gram.dtype, device=gram.device)
    fitted = torch.linalg.solve(gram, cross).T
    block.project.weight.copy_(fitted[:, :, None, None])
    block.project.bias.copy_((target_mean - fitted @ row_mean)[:, 0])
    for index, output in enumerate(outputs):
        left = pairs[index][0]
        pairs[index] = (block.joined(left, block.filtered(left)), output)


class MobileNetV2(nn.Module):
    """
    Encoder.

    :param expansion: hidden channels of a block per input channel; with fewer than the published 6 it
        starts by imitating the pre-trained one, and the feature maps stay what they are.
    :ivar channels: channels of the returned feature maps, strides 2, 4, 8, 16 and 32.
    """

    channels = tuple(STAGES.values())

    def __init__(self, expansion=EXPANSION):
        """Make the network with random weights."""
        super().__init__()
        self.expansion = min(expansion, EXPANSION)
        self.stem = _conv(3, 32, 3, 2)
        blocks, inputs = [], 32
        for factor, outputs, stride in BLOCKS:
            blocks.append(InvertedResidual(inputs, outputs, stride, min(factor, expansion)))
            inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def parts(self):
        """Return the modules in the order in which the image meets them, for freezing the first ones."""
        return [self.stem, *self.blocks]

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

    def load_pretrained(self, folder, images=()):
        """
        Start from ``mobilenet_v2_imagenet.npz`` in ``folder``, with the batch norm folded.

        :param images: list of [1,3,H,W] float RGB 0–255, on which a smaller encoder imitates the full one.
        :raises MtError: the file is missing or is something else, or images are needed and there are none.
        """
        path = Path(folder) / 'mobilenet_v2_imagenet.npz'
        if self.expansion == EXPANSION:
            self.load_npz(path)
            return
        if not images:
            raise MtError('an encoder with fewer hidden channels needs images to imitate the full one on')
        full = MobileNetV2()
        full.load_npz(path)
        self.stem.load_state_dict(full.stem.state_dict())
        with torch.no_grad():
            start = [F.relu6(full.stem((image - 128.0) / 128.0)) for image in images]
        pairs = [(x, x) for x in start]
        for block, other in zip(self.blocks, full.blocks, strict=True):
            imitate(block, other, pairs)

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
