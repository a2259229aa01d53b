"""
MobileNetV3 encoders.

Howard et al., "Searching for MobileNetV3", 2019, tables 1 and 2. Parameters carry the names of the public
PyTorch ImageNet checkpoints (``mobilenet_v3_large*.pth``, ``mobilenet_v3_small*.pth``), so that these fit.
"""

from torch import nn

from mt_training.models.state_dicts import ImageNetScale, load_matching

# (kernel, hidden channels, output channels, squeeze-and-excite, hard swish, stride) per block
LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
STEM = 16  # channels at stride 2


def divisible(value, by=8):
    """Round to a multiple of ``by``, never down by more than a tenth (section 5 of the published code)."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


def _conv(inputs, outputs, kernel=1, stride=1, groups=1, activation=None):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class SqueezeExcite(nn.Module):
    """Channel attention with a hard sigmoid."""

    def __init__(self, channels):
        """Squeeze to a quarter."""
        super().__init__()
        hidden = divisible(channels / 4)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        """[B,C,H,W] → the same shape."""
        gate = self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu())
        return x * nn.functional.hardsigmoid(gate)


class InvertedResidual(nn.Module):
    """Expand, filter, squeeze-and-excite, project; added to the input where shapes allow."""

    def __init__(self, inputs, kernel, hidden, outputs, excite, swish, stride):
        """Make the layers of one row of the tables."""
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers = [] if hidden == inputs else [_conv(inputs, hidden, activation=activation)]
        layers.append(_conv(hidden, hidden, kernel, stride, hidden, activation))
        layers += [SqueezeExcite(hidden)] if excite else []
        self.block = nn.Sequential(*layers, _conv(hidden, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        """[B,C,H,W] → [B,C',H/stride,W/stride]."""
        y = self.block(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """
    Encoder; the published network without its last 1×1 convolution and classifier.

    :param size: 'small' or 'large'.
    :ivar channels: channels of the returned feature maps, strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, size):
        """Make the network with random weights."""
        super().__init__()
        rows = {'small': SMALL, 'large': LARGE}[size]
        self.size, self.scale = size, ImageNetScale()
        layers, inputs = [_conv(3, STEM, 3, 2, activation=nn.Hardswish)], STEM
        last = []  # the last layer of each stride
        for index, row in enumerate(rows, 1):
            layers.append(InvertedResidual(inputs, *row))
            if row[-1] == 2:
                last.append((index - 1, inputs))
            inputs = row[2]
        last.append((len(rows), inputs))
        self.features = nn.ModuleList(layers)
        self.stages, self.channels = (tuple(v) for v in zip(*last, strict=True))

    def parts(self):
        """Return the modules in the order in which the image meets them."""
        return list(self.features)

    def forward(self, x):
        """[B,3,H,W], (RGB − 128) / 128 → five maps, strides 2, 4, 8, 16, 32."""
        x, out = self.scale(x), []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.stages:
                out.append(x)
        return out

    def load_pretrained(self, folder, images=()):
        """Start from ``mobilenet_v3_SIZE*.pth`` in ``folder``."""
        load_matching(self, folder, f'mobilenet_v3_{self.size}*.pth')
