"""Blocks shared by the architectures."""

import math

import torch
import torch.nn.functional as F
from torch import nn

DEPTH_MIN, DEPTH_MAX = 0.3, 120.0  # metres; range of the depth heads


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, activation=True):
    """Convolution, batch norm and, by default, ReLU: [B,inputs,H,W] → [B,outputs,H/stride,W/stride]."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class FoldedConv(nn.Sequential):
    """
    1×1 convolution, batch norm and ReLU of several maps, folded to one stride and concatenated.

    An exported graph has instead the sum of a stride×stride convolution of each map, which is the same:
    nothing is concatenated or rearranged there, which costs more than the arithmetic.
    """

    def __init__(self, inputs, outputs):
        """:param inputs: Σ Cᵢ·strideᵢ². :param outputs: channels."""
        super().__init__(*conv_bn(inputs, outputs, 1))

    def forward(self, maps, strides):
        """Maps [B,Cᵢ,h·strideᵢ,w·strideᵢ], each folded by its stride, → [B,outputs,h,w]."""
        if torch.onnx.is_in_onnx_export() and not self.training:
            return self.summed(maps, strides)
        folded = [F.pixel_unshuffle(x, s) if s > 1 else x for x, s in zip(maps, strides, strict=True)]
        return super().forward(torch.cat(folded, dim=1))

    def summed(self, maps, strides):
        """Return the same, in evaluation mode, without rearranging maps."""
        conv, norm, activation = self
        weight, shift = conv.weight, conv.bias
        if isinstance(norm, nn.BatchNorm2d):  # it goes into the weights
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, shift = weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        total, first = None, 0
        for x, stride in zip(maps, strides, strict=True):
            channels = int(x.shape[1])  # a number, not part of the graph
            last = first + channels * stride * stride
            part = weight[:, first:last].reshape(-1, channels, stride, stride)
            y = F.conv2d(x, part, shift if total is None else None, stride)
            total, first = y if total is None else total + y, last
        return activation(total)


def separable_conv(inputs, outputs, kernel=3):
    """Depthwise, pointwise, batch norm, ReLU."""
    depthwise = nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False)
    return nn.Sequential(depthwise, *conv_bn(inputs, outputs, 1))


def upsample(x, scale, mode='bilinear'):
    """Up-sampling by a whole number (fixed scale, so the exported graph has no shape arithmetic)."""
    align = None if mode == 'nearest' else False
    return F.interpolate(x, scale_factor=float(scale), mode=mode, align_corners=align)


def log_depth(x):
    """Squash raw values of a depth head to log metres within ``DEPTH_MIN``–``DEPTH_MAX``."""
    low, high = math.log(DEPTH_MIN), math.log(DEPTH_MAX)
    return low + (high - low) * torch.sigmoid(x)


class GeM(nn.Module):
    """
    Generalised-mean pooling over the image: [B,C,H,W] → [B,C].

    Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018, eq. 3.
    """

    def __init__(self, power=3.0):
        """Start with exponent ``power``; it is learned."""
        super().__init__()
        self.power = nn.Parameter(torch.tensor(float(power)))

    def forward(self, x):
        """Pool."""
        return x.clamp(min=1e-4).pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)


class ChannelAttention(nn.Module):
    """
    Weigh channels by what the whole image holds: [B,C,H,W] → gates [B,C,1,1] in 0–1.

    Hu et al., "Squeeze-and-Excitation Networks", 2018, eq. 3.
    """

    def __init__(self, channels, reduction=8, outputs=None):
        """Squeeze to ``channels / reduction``, at least 8; gate ``outputs`` channels, by default as many."""
        super().__init__()
        hidden = max(8, channels // reduction)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs or channels, 1),
            nn.Sigmoid(),
        )

    def start_neutral(self):
        """Let every gate start at one half, whatever the input."""
        nn.init.zeros_(self.gate[2].weight)
        nn.init.zeros_(self.gate[2].bias)

    def forward(self, x):
        """Return the gates."""
        return self.gate(x.mean(dim=(2, 3), keepdim=True))


class SpatialAttention(nn.Module):
    """
    Weigh places by the mean and the largest of their channels: [B,C,H,W] → gates [B,1,H,W] in 0–1.

    Woo et al., "CBAM: Convolutional Block Attention Module", 2018, eq. 3.
    """

    def __init__(self, kernel=7):
        """Compare places within ``kernel`` pixels."""
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x):
        """Return the gates."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(summary))


class SelfAttention(nn.Module):
    """
    Every place looks at a coarser copy of the map: [B,C,H,W] → [B,C,H,W].

    Keys and values come from a strided convolution, so the cost is that of plain self-attention divided by
    reduction² (Xie et al., "SegFormer", 2021, eq. 2); queries and the output are 1×1 convolutions.
    """

    def __init__(self, channels, heads=2, reduction=2):
        """Make the projections; ``heads`` divides ``channels``, ``reduction`` divides H and W."""
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.query = nn.Conv2d(channels, channels, 1)
        self.reduce = nn.Conv2d(channels, channels, reduction, reduction, groups=channels)
        self.key, self.value = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """Attend."""
        coarse = self.reduce(x)

        def tokens(y):  # [B,C,h,w] → [B,heads,C/heads,N]
            return y.flatten(2).unflatten(1, (self.heads, -1))

        query, key, value = tokens(self.query(x)), tokens(self.key(coarse)), tokens(self.value(coarse))
        weight = (query.transpose(2, 3) @ key * self.scale).softmax(dim=-1)  # [B,heads,HW,hw]
        attended = value @ weight.transpose(2, 3)
        return self.out(attended.flatten(1, 2).reshape(x.shape))
