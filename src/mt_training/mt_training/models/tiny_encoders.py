"""Encoders of KP2Dtiny: four maps, strides 2, 4, 8 and 16, without pre-trained weights."""

import torch.nn.functional as F
from torch import nn

from mt_training.models.blocks import SelfAttention, conv_bn


def conv_stage(inputs, outputs):
    """Halve the map: [B,inputs,H,W] → [B,outputs,H/2,W/2]."""
    return nn.Sequential(conv_bn(inputs, outputs, stride=2), conv_bn(outputs, outputs))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B,C,H,W]."""

    def forward(self, x):
        """Normalise."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TransformerBlock(nn.Module):
    """
    Efficient self-attention and a feed-forward with a depthwise convolution, which tells places apart.

    Xie et al., "SegFormer", 2021, section 3.1.
    """

    def __init__(self, channels, heads, reduction, expansion=2):
        """See :class:`SelfAttention`."""
        super().__init__()
        hidden = channels * expansion
        self.norm1, self.attention = ChannelNorm(channels), SelfAttention(channels, heads, reduction)
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x):
        """[B,C,H,W] → the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class TransformerStage(nn.Module):
    """Halve the map by an overlapping patch embedding, then transformer blocks."""

    def __init__(self, inputs, outputs, depth, heads, reduction):
        """``depth`` blocks."""
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), ChannelNorm(outputs))
        self.blocks = nn.Sequential(*(TransformerBlock(outputs, heads, reduction) for _ in range(depth)))
        self.norm = ChannelNorm(outputs)

    def forward(self, x):
        """[B,inputs,H,W] → [B,outputs,H/2,W/2]."""
        return F.relu(self.norm(self.blocks(self.embed(x))))


class TinyEncoder(nn.Module):
    """
    Four stages that each halve the map.

    :param channels: of the four maps.
    :param transformer: transformer blocks instead of convolutions at strides 8 and 16 (KeypointFormer).
    """

    def __init__(self, channels, transformer=False):
        """Make the network with random weights."""
        super().__init__()
        self.channels = tuple(channels)
        c2, c4, c8, c16 = channels
        stages = [conv_stage(3, c2), conv_stage(c2, c4)]
        if transformer:
            stages += [TransformerStage(c4, c8, 2, 2, 4), TransformerStage(c8, c16, 2, 4, 2)]
        else:
            stages += [conv_stage(c4, c8), conv_stage(c8, c16)]
        self.stages = nn.ModuleList(stages)

    def parts(self):
        """Return the modules in the order in which the image meets them."""
        return list(self.stages)

    def forward(self, x):
        """[B,3,H,W], (RGB − 128) / 128 → four maps, strides 2, 4, 8, 16."""
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def load_pretrained(self, folder, images=()):
        """Say that no public weights fit."""
        print(f'{type(self).__name__}: no public weights fit it; the encoder starts from random weights')
