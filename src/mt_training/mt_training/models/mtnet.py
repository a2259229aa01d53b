"""
mtnet: one encoder, one feature pyramid, four heads.

Encoder → feature pyramid (Lin et al., 2017) at stride 4 → segmentation, depth, keypoints with
descriptors; a generalised-mean place descriptor straight from the encoder. Keypoints follow the cell
classification of SuperPoint (DeTone et al., 2018) on 4×4-pixel cells, fed with the pixels themselves so
that corners stay where they are.

Sizes: nano and small stand on MobileNetV2 (nano with a third of the hidden channels), base on ResNet-50.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mt_training.models.blocks import (
    ChannelAttention,
    FoldedConv,
    GeM,
    conv_bn,
    log_depth,
    separable_conv,
    upsample,
)
from mt_training.models.mobilenet_v2 import MobileNetV2
from mt_training.models.network import TASKS, Network, check_choices
from mt_training.models.places import whitened_projection
from mt_training.models.resnet import ResNet50

CELL = 4  # pixels per keypoint cell and stride of the dense heads
FINE_DEPTH = 32  # channels of the stride-4 correction of a stride-8 depth head
KEYPOINT_LOGITS = CELL * CELL + 1  # one per pixel of the cell, one for "none here"


class FeaturePyramid(nn.Module):
    """Top-down fusion of strides 32, 16, 8, 4, with the whole image's average added at the top."""

    def __init__(self, channels, width, attention=False):
        """Laterals from ``channels`` (strides 4, 8, 16, 32) to ``width``; ``attention`` as in MtNet."""
        super().__init__()
        self.laterals = nn.ModuleList([conv_bn(c, width, 1, activation=False) for c in channels])
        self.context = nn.Sequential(nn.Conv2d(channels[-1], width, 1), nn.ReLU(inplace=True))
        self.smooth = nn.ModuleList([separable_conv(width, width) for _ in channels])
        self.gates = nn.ModuleList(ChannelAttention(width, 4) for _ in channels[1:] if attention)
        for gate in self.gates:
            gate.start_neutral()

    def forward(self, features):
        """Four maps (strides 4, 8, 16, 32) → maps of strides 4, 8 and 16, each [B,width,h,w]."""
        x = self.laterals[3](features[3]) + self.context(features[3].mean(dim=(2, 3), keepdim=True))
        x = self.weighed(self.smooth[3](F.relu(x)), 3)
        out = []
        for level in (2, 1, 0):
            x = F.relu(self.laterals[level](features[level]) + upsample(x, 2))
            x = self.weighed(self.smooth[level](x), level)
            out.append(x)
        return out[::-1]

    def weighed(self, x, level):
        """Weigh the channels of a map coarser than stride 4, each by 0–2."""
        if not level or not len(self.gates):
            return x
        return x * (2 * self.gates[level - 1](x))


class MtNet(Network):
    """
    The multi-task network.

    :param classes: number of segmentation classes.
    :param width: channels of the pyramid.
    :param keypoint_width: channels of the keypoint branch.
    :param descriptor_dim: D.
    :param global_dim: G.
    :param encoder: 'mobilenet_v2' or 'resnet50'.
    :param expansion: of MobileNetV2's blocks, 6 in the published network.
    :param tasks: which tasks it has heads for.
    :param attention: weigh the channels of the pyramid's maps of strides 8, 16 and 32 by what the whole image
        holds; it starts without effect, so weights trained without it go on from where they were.
    :param coarse: channels of a segmentation head at stride 8, whose logits a 1×1 convolution at stride 4
        corrects: wider for less time; 0: the head is at stride 4, as wide as the pyramid.
    :param coarse_depth: likewise for depth: channels of a head at stride 8, corrected at stride 4 by one of
        32 channels; 0: the head is at stride 4, as wide as the pyramid.
    :param auxiliary: also classify the pyramid's stride-8 and stride-16 maps while training.
    :raises MtError: an unknown encoder or task.
    """

    def __init__(
        self,
        classes=11,
        width=96,
        keypoint_width=64,
        descriptor_dim=64,
        global_dim=256,
        encoder='mobilenet_v2',
        expansion=6,
        tasks=TASKS,
        attention=False,
        coarse=0,
        coarse_depth=0,
        auxiliary=False,
    ):
        """Make the network with random weights."""
        super().__init__()
        check_choices('mtnet', encoder=([encoder], ('mobilenet_v2', 'resnet50')), tasks=(tasks, TASKS))
        self.tasks = tuple(task for task in TASKS if task in tasks)
        self.classes = classes if 'segmentation' in tasks else 0
        self.descriptor_dim = descriptor_dim if 'keypoints' in tasks else 0
        self.global_dim = global_dim if 'global_descriptor' in tasks else 0
        self.encoder = ResNet50() if encoder == 'resnet50' else MobileNetV2(expansion)
        c2, c4, c8, c16, c32 = self.encoder.channels
        self.pyramid = FeaturePyramid((c4, c8, c16, c32), width, attention)
        if 'segmentation' in tasks:
            inner = coarse or width
            self.segmentation = nn.Sequential(
                separable_conv(width, inner),
                separable_conv(inner, inner),
                nn.Dropout2d(0.1),
                nn.Conv2d(inner, classes, 1),
            )
            self.segmentation_fine = nn.Conv2d(width, classes, 1) if coarse else None
        extra = 2 if auxiliary and 'segmentation' in tasks else 0
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(extra))
        if 'depth' in tasks:
            inner = coarse_depth or width
            self.depth = nn.Sequential(
                separable_conv(width, inner, 5 if coarse_depth else 3),
                separable_conv(inner, inner // 2, 5),
                nn.Conv2d(inner // 2, 1, 1),
            )
            fine = [separable_conv(width, FINE_DEPTH), nn.Conv2d(FINE_DEPTH, 1, 1)]
            self.depth_fine = nn.Sequential(*fine) if coarse_depth else None
        if 'keypoints' in tasks:
            fine = c2 * 4 + CELL * CELL + c4  # stride-2 features and gray pixels folded to stride 4
            self.fine = FoldedConv(fine + width, keypoint_width)
            self.keypoints = nn.Sequential(
                conv_bn(keypoint_width, keypoint_width), nn.Conv2d(keypoint_width, KEYPOINT_LOGITS, 1)
            )
            self.descriptors = nn.Sequential(
                conv_bn(keypoint_width, keypoint_width), nn.Conv2d(keypoint_width, descriptor_dim, 1)
            )
        if 'global_descriptor' in tasks:
            self.pool16, self.pool32 = GeM(), GeM()
            self.place = nn.Linear(c16 + c32, global_dim)

    def pooled(self, features):
        """Return the un-projected place features [B,C16 + C32] of the encoder's maps."""
        return torch.cat(
            [F.normalize(self.pool16(F.relu(features[3]))), F.normalize(self.pool32(F.relu(features[4])))],
            dim=1,
        )

    def initialise_places(self, images):
        """Start the place projection, if any, from the principal components of pooled features, whitened."""
        if not self.global_dim:
            return
        self.eval()
        with torch.no_grad():
            pooled = [self.pooled(self.encoder((image - 128.0) / 128.0)) for image in images]
        whitened_projection(self.place, torch.cat(pooled))
        self.train()

    def classify(self, p4, p8):
        """Return the class logits [B,classes,h,w] of the pyramid's maps of strides 4 and 8."""
        if self.segmentation_fine is None:
            return self.segmentation(p4)
        return upsample(self.segmentation(p8), 2) + self.segmentation_fine(p4)

    def measure(self, p4, p8):
        """Return log depth [B,1,h,w] from the pyramid's maps of strides 4 and 8."""
        if self.depth_fine is None:
            return log_depth(self.depth(p4))
        return log_depth(upsample(self.depth(p8), 2) + self.depth_fine(p4))

    def forward(self, image, tasks=TASKS):
        """
        Run the network.

        :param image: [B,3,H,W] float RGB in 0–255; H and W multiples of 32.
        :param tasks: which heads to run, as far as it has them.
        :return: dict of ``segmentation`` [B,classes,H/4,W/4] logits, ``log_depth`` [B,1,H/4,W/4] of metres,
            ``keypoints`` [B,17,H/4,W/4] logits (16 pixels of the cell row by row, then "none"),
            ``descriptors`` [B,D,H/4,W/4] not normalised, ``global_descriptor`` [B,G] unit length and,
            training with auxiliary heads, ``auxiliary_segmentation``: logits at strides 8 and 16.
        """
        image = (image - 128.0) / 128.0
        features = self.encoder(image)
        out, tasks = {}, set(tasks) & set(self.tasks)
        if 'global_descriptor' in tasks:
            out['global_descriptor'] = F.normalize(self.place(self.pooled(features)), dim=1)
        if not tasks - {'global_descriptor'}:
            return out
        p4, *coarser = self.pyramid(features[1:])
        if 'segmentation' in tasks:
            out['segmentation'] = self.classify(p4, coarser[0])
            if self.training and len(self.auxiliary):
                out['auxiliary_segmentation'] = [
                    head(x) for head, x in zip(self.auxiliary, coarser, strict=True)
                ]
        if 'depth' in tasks:
            out['log_depth'] = self.measure(p4, coarser[0])
        if 'keypoints' in tasks:
            gray = image.mean(dim=1, keepdim=True)
            fine = self.fine((features[0], gray, features[1], p4), (2, CELL, 1, 1))
            out['keypoints'] = self.keypoints(fine)
            out['descriptors'] = self.descriptors(fine)
        return out
