"""
MTAN: one encoder, and for every task attention modules that pick what it needs at each scale.

Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", 2019: the attention of a task at one
scale masks the shared features, seeing also what the task took from the finer scale. Here the mask is made of
channel attention and, where wanted, spatial attention, and all convolutions are separable.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mt_training.models.blocks import (
    ChannelAttention,
    SpatialAttention,
    conv_bn,
    log_depth,
    separable_conv,
    upsample,
)
from mt_training.models.mobilenet_v2 import MobileNetV2
from mt_training.models.mobilenet_v3 import MobileNetV3
from mt_training.models.network import Network, check_choices

DENSE = ('segmentation', 'depth')
ENCODERS = {
    'mobilenet_v2': MobileNetV2,
    'mobilenet_v3_small': lambda: MobileNetV3('small'),
    'mobilenet_v3_large': lambda: MobileNetV3('large'),
}


class TaskAttention(nn.Module):
    """
    The attention of one task at one scale.

    :param shared: channels of the encoder's map.
    :param previous: channels of what the task took from the next finer scale, 0 at the finest.
    :param width: channels of what it takes here.
    :param spatial: also weigh places, not only channels.
    :param reduction: how far channel attention squeezes.
    """

    def __init__(self, shared, previous, width, spatial, reduction):
        """Make the layers."""
        super().__init__()
        self.channel = ChannelAttention(shared + previous, reduction, outputs=shared)
        self.spatial = SpatialAttention() if spatial else None
        self.take = separable_conv(shared + previous, width)

    def forward(self, shared, previous=None):
        """Map of the encoder [B,shared,h,w], of the task [B,previous,2h,2w] → [B,width,h,w]."""
        seen = shared
        if previous is not None:
            previous = F.max_pool2d(previous, 2)
            seen = torch.cat([shared, previous], dim=1)
        masked = shared * self.channel(seen)
        if self.spatial is not None:
            masked = masked * self.spatial(seen)
        return self.take(masked if previous is None else torch.cat([masked, previous], dim=1))


class TaskBranch(nn.Module):
    """
    Attention modules and decoder of one task, strides 4, 8, 16 and 32.

    :param channels: of the encoder's maps.
    :param width: of the decoder.
    :param outputs: channels of the result.
    :param mode: up-sampling, 'bilinear' or 'nearest'.
    :param auxiliary: whether strides 8 and 16 have heads of their own.
    """

    def __init__(self, channels, width, outputs, spatial, reduction, mode, dropout, auxiliary):
        """Make the modules of every scale."""
        super().__init__()
        self.mode = mode
        self.attention = nn.ModuleList(
            TaskAttention(c, width // 2 if i else 0, width // 2, spatial, reduction)
            for i, c in enumerate(channels)
        )
        self.top = conv_bn(width // 2, width, 1)
        self.lateral = nn.ModuleList(conv_bn(width // 2, width, 1, activation=False) for _ in channels[:-1])
        self.decode = nn.ModuleList(separable_conv(width, width) for _ in channels[:-1])
        self.head = nn.Sequential(
            separable_conv(width, width), nn.Dropout2d(dropout), nn.Conv2d(width, outputs, 1)
        )
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, outputs, 1) for _ in range(2 if auxiliary else 0))

    def forward(self, features):
        """Four maps of the encoder → ([B,outputs,H/4,W/4], the decoder's maps at strides 8 and 16)."""
        taken = []
        for attention, shared in zip(self.attention, features, strict=True):
            taken.append(attention(shared, taken[-1] if taken else None))
        x, maps = self.top(taken[-1]), []
        for level in (2, 1, 0):
            x = F.relu(self.lateral[level](taken[level]) + upsample(x, 2, self.mode))
            x = self.decode[level](x)
            maps.append(x)
        return self.head(x), (maps[1], maps[0])


class Mtan(Network):
    """
    The network.

    :param classes: number of segmentation classes.
    :param tasks: which of 'segmentation' and 'depth' it has branches for.
    :param encoder: one of ``ENCODERS``.
    :param width: channels of the decoders.
    :param spatial: spatial attention beside channel attention.
    :param reduction: how far channel attention squeezes.
    :param upsampling: 'bilinear' or 'nearest'.
    :param auxiliary: also classify the decoder's stride-8 and stride-16 maps while training.
    :param dropout: of whole channels before the last convolution.
    :raises MtError: an unknown encoder, task or way of up-sampling.
    """

    def __init__(
        self,
        classes=19,
        tasks=DENSE,
        encoder='mobilenet_v3_large',
        width=256,
        spatial=True,
        reduction=4,
        upsampling='bilinear',
        auxiliary=True,
        dropout=0.1,
    ):
        """Make the network with random weights."""
        super().__init__()
        check_choices(
            'mtan',
            encoder=([encoder], ENCODERS),
            tasks=(tasks, DENSE),
            upsampling=([upsampling], ('bilinear', 'nearest')),
        )
        self.tasks = tuple(t for t in DENSE if t in tasks)
        self.classes = classes if 'segmentation' in tasks else 0
        self.encoder = ENCODERS[encoder]()
        self.branches = nn.ModuleDict()
        for task in self.tasks:
            outputs = classes if task == 'segmentation' else 1
            self.branches[task] = TaskBranch(
                self.encoder.channels[1:],
                width,
                outputs,
                spatial,
                reduction,
                upsampling,
                dropout if task == 'segmentation' else 0.0,
                auxiliary and task == 'segmentation',
            )

    def forward(self, image, tasks=DENSE):
        """
        Run the network.

        :param image: [B,3,H,W] float RGB in 0–255; H and W multiples of 32.
        :param tasks: which branches to run.
        :return: dict of ``segmentation`` [B,classes,H/4,W/4] logits, ``log_depth`` [B,1,H/4,W/4] of metres
            and, training with auxiliary heads, ``auxiliary_segmentation``: logits at strides 8 and 16.
        """
        features = self.encoder((image - 128.0) / 128.0)[1:]
        out = {}
        if 'segmentation' in tasks and 'segmentation' in self.tasks:
            branch = self.branches['segmentation']
            out['segmentation'], maps = branch(features)
            if self.training and len(branch.auxiliary):
                out['auxiliary_segmentation'] = [
                    head(x) for head, x in zip(branch.auxiliary, maps, strict=True)
                ]
        if 'depth' in tasks and 'depth' in self.tasks:
            out['log_depth'] = log_depth(self.branches['depth'](features)[0])
        return out
