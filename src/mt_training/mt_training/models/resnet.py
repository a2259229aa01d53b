"""
ResNet-50 encoder: plain 3×3 and 1×1 convolutions, what GPUs do best.

He et al., "Deep Residual Learning for Image Recognition", 2016, with the stride in the 3×3 convolution.
Parameters carry the names of the public PyTorch ImageNet checkpoints (``resnet50*.pth``), so that these fit.
"""

import torch.nn.functional as F
from torch import nn

from mt_training.models.state_dicts import ImageNetScale, load_matching

DEPTHS = (3, 4, 6, 3)  # blocks per stage
WIDTHS = (64, 128, 256, 512)  # channels inside the blocks of a stage
EXPANSION = 4  # a block's output channels per inner channel


class Bottleneck(nn.Module):
    """Reduce (1×1), filter (3×3), expand (1×1), add the input."""

    def __init__(self, inputs, width, stride):
        """Make the layers; the input is projected where its shape changes."""
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        """[B,C,H,W] → [B,4·width,H/stride,W/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """
    Encoder.

    :ivar channels: channels of the returned feature maps, strides 2, 4, 8, 16 and 32.
    """

    def __init__(self):
        """Make the network with random weights."""
        super().__init__()
        self.scale = ImageNetScale()
        self.channels = (64, *(width * EXPANSION for width in WIDTHS))
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for number, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), 1):
            blocks = []
            for index in range(depth):
                blocks.append(Bottleneck(inputs, width, 2 if number > 1 and index == 0 else 1))
                inputs = width * EXPANSION
            setattr(self, f'layer{number}', nn.Sequential(*blocks))

    def stages(self):
        """Return the four stages."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def parts(self):
        """Return the modules in the order in which the image meets them; the stem is one."""
        return [nn.ModuleList([self.conv1, self.bn1]), *(block for s in self.stages() for block in s)]

    def forward(self, x):
        """[B,3,H,W], (RGB − 128) / 128 → five maps, strides 2, 4, 8, 16, 32."""
        x = F.relu(self.bn1(self.conv1(self.scale(x))))
        out = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in self.stages():
            x = stage(x)
            out.append(x)
        return out

    def load_pretrained(self, folder, images=()):
        """Start from ``resnet50*.pth`` in ``folder``."""
        load_matching(self, folder, 'resnet50*.pth')
