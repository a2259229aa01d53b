"""
FastSegNet: real-time segmentation.

An inverted residual encoder, attention refinement on its two coarsest maps, a fusion with its stride-8 map
and a light head: the context path of BiSeNet (Yu et al., 2018) on MobileNetV2, whose early layers also serve
as the spatial path.
"""

import torch
from torch import nn

from mt_training.models.blocks import ChannelAttention, conv_bn, separable_conv, upsample
from mt_training.models.mobilenet_v2 import MobileNetV2
from mt_training.models.network import Network


class AttentionRefinement(nn.Module):
    """Bring a map to ``width`` channels and weigh them: [B,C,h,w] → [B,width,h,w] (BiSeNet, section 3.2)."""

    def __init__(self, channels, width):
        """Make the layers."""
        super().__init__()
        self.conv, self.attention = separable_conv(channels, width), ChannelAttention(width, 4)

    def forward(self, x):
        """Refine."""
        x = self.conv(x)
        return x * self.attention(x)


class FeatureFusion(nn.Module):
    """Join fine and coarse maps of one size; attention adds what matters (BiSeNet, section 3.2)."""

    def __init__(self, channels, width):
        """``channels`` of both maps together."""
        super().__init__()
        self.conv, self.attention = conv_bn(channels, width, 1), ChannelAttention(width, 4)

    def forward(self, fine, coarse):
        """Two maps [B,·,h,w] → [B,width,h,w]."""
        x = self.conv(torch.cat([fine, coarse], dim=1))
        return x + x * self.attention(x)


class FastSegNet(Network):
    """
    The network; logits at stride 8.

    :param classes: number of classes.
    :param width: channels of the decoder.
    :param dropout: of whole channels before the classifier.
    :param auxiliary: also classify the two refined context maps while training.
    """

    tasks = ('segmentation',)

    def __init__(self, classes=19, width=128, dropout=0.1, auxiliary=True):
        """Make the network with random weights."""
        super().__init__()
        self.classes = classes
        self.encoder = MobileNetV2()
        _, _, c8, c16, c32 = self.encoder.channels
        self.context = nn.Sequential(nn.Conv2d(c32, width, 1), nn.ReLU(inplace=True))
        self.refine32, self.refine16 = AttentionRefinement(c32, width), AttentionRefinement(c16, width)
        self.smooth32, self.smooth16 = separable_conv(width, width), separable_conv(width, width)
        self.spatial = separable_conv(c8, width // 2)
        self.fusion = FeatureFusion(width + width // 2, width)
        self.head = nn.Sequential(
            separable_conv(width, width), nn.Dropout2d(dropout), nn.Conv2d(width, classes, 1)
        )
        heads = [nn.Conv2d(width, classes, 1) for _ in range(2 if auxiliary else 0)]
        self.auxiliary = nn.ModuleList(heads)

    def forward(self, image, tasks=tasks):
        """
        Run the network.

        :param image: [B,3,H,W] float RGB in 0–255; H and W multiples of 32.
        :param tasks: the network has one, so there is nothing to choose.
        :return: dict of ``segmentation`` [B,classes,H/8,W/8] logits and, while training with auxiliary heads,
            ``auxiliary_segmentation``: logits at strides 8 and 16.
        """
        _, _, f8, f16, f32 = self.encoder((image - 128.0) / 128.0)
        x = self.refine32(f32) + self.context(f32.mean(dim=(2, 3), keepdim=True))
        coarse = self.smooth32(upsample(x, 2))
        x = self.refine16(f16) + coarse
        middle = self.smooth16(upsample(x, 2))
        out = {'segmentation': self.head(self.fusion(self.spatial(f8), middle))}
        if self.training and len(self.auxiliary):
            out['auxiliary_segmentation'] = [
                head(y) for head, y in zip(self.auxiliary, (middle, coarse), strict=True)
            ]
        return out
