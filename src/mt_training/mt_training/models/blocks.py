"""Blocks shared by the architectures."""

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, activation=True):
    """Convolution, batch norm and, by default, ReLU: [B,inputs,H,W] → [B,outputs,H/stride,W/stride]."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def separable_conv(inputs, outputs, kernel=3):
    """Depthwise, pointwise, batch norm, ReLU."""
    depthwise = nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False)
    return nn.Sequential(depthwise, *conv_bn(inputs, outputs, 1))


def upsample(x, scale):
    """Bilinear up-sampling by a whole number (fixed scale, so the exported graph has no shape arithmetic)."""
    return F.interpolate(x, scale_factor=float(scale), mode='bilinear', align_corners=False)


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
