"""
KP2Dtiny: keypoints, descriptors, segmentation, places and depth from a network of under a million parameters.

Keypoints as in KP2D (Tang et al., "Neural Outlier Rejection for Self-Supervised Keypoint Learning", 2020):
one per 8×8 cell, with a score and an offset that may leave the cell. The decoders are dedicated (V2: one per
task) or fused (V3: one for scores and offsets, one for descriptors, segmentation and depth).
"""

import torch
import torch.nn.functional as F
from torch import nn

from mt_perception.errors import MtError
from mt_training.models.blocks import SelfAttention, conv_bn, log_depth, upsample
from mt_training.models.network import TASKS, Network, check_choices
from mt_training.models.places import HEADS
from mt_training.models.tiny_encoders import TinyEncoder

CELL = 8  # pixels per keypoint cell
BORDER_RATIO = 2.0  # offsets reach this many times half a cell: points may cross into neighbouring cells


class Fuse(nn.Module):
    """Bring a coarse map to the size of a fine one and join them."""

    def __init__(self, coarse, fine, width, mode):
        """Channels of both, channels of the result, kind of up-sampling."""
        super().__init__()
        self.mode, self.conv = mode, conv_bn(coarse + fine, width)

    def forward(self, coarse, fine):
        """[B,coarse,h,w], [B,fine,2h,2w] → [B,width,2h,2w]."""
        return self.conv(torch.cat([upsample(coarse, 2, self.mode), fine], dim=1))


class PixelDecoder(nn.Module):
    """
    From strides 16, 8 and 4 to a stride-4 map per output.

    :param channels: of the encoder's maps, strides 4, 8, 16.
    :param outputs: dict name → channels.
    :param attention: self-attention on the stride-16 map.
    """

    def __init__(self, channels, width, outputs, mode, attention=False):
        """Make the layers; dropout is for the classifier alone."""
        super().__init__()
        c4, c8, c16 = channels
        self.attention = SelfAttention(c16) if attention else None
        self.fuse8, self.fuse4 = Fuse(c16, c8, width, mode), Fuse(width, c4, width, mode)
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, count, 1) for name, count in outputs.items()})
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, f4, f8, f16):
        """Return dict name → [B,count,H/4,W/4]."""
        if self.attention is not None:
            f16 = f16 + self.attention(f16)
        x = self.fuse4(self.fuse8(f16, f8), f4)
        return {
            name: head(self.dropout(x) if name == 'segmentation' else x) for name, head in self.heads.items()
        }


class CellDecoder(nn.Module):
    """From the stride-8 map to values per keypoint cell: ``outputs``, dict name → channels."""

    def __init__(self, channels, width, outputs):
        """Make the layers."""
        super().__init__()
        self.conv = conv_bn(channels, width)
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, count, 1) for name, count in outputs.items()})

    def forward(self, f8):
        """Return dict name → [B,count,H/8,W/8]."""
        x = self.conv(f8)
        return {name: head(x) for name, head in self.heads.items()}


class Kp2dTiny(Network):
    """
    The network.

    :param classes: number of segmentation classes.
    :param tasks: which tasks it has decoders for.
    :param channels: of the encoder, strides 2, 4, 8, 16.
    :param width: of the decoders.
    :param descriptor_dim: D.
    :param global_dim: G.
    :param decoders: 'dedicated' (V2) or 'fused' (V3).
    :param attention: self-attention before segmentation (the variants N_A and S_A).
    :param transformer: transformer blocks in the encoder (KeypointFormer).
    :param places: place head: 'gem', 'convap' or 'netvlad'.
    :param upsampling: 'bilinear' or 'nearest'.
    :param microcontroller: nothing but convolution, ReLU, nearest up-sampling, addition, concatenation and
        average pooling with fixed windows; images of one size.
    :raises MtError: an unknown task, head or kind of decoder, or one that a microcontroller cannot run.
    """

    def __init__(
        self,
        classes=11,
        tasks=TASKS,
        channels=(16, 32, 64, 128),
        width=64,
        descriptor_dim=64,
        global_dim=256,
        decoders='dedicated',
        attention=False,
        transformer=False,
        places='gem',
        upsampling='bilinear',
        microcontroller=False,
    ):
        """Make the network with random weights."""
        super().__init__()
        check_choices(
            'kp2dtiny',
            tasks=(tasks, TASKS),
            decoders=([decoders], ('dedicated', 'fused')),
            places=([places], HEADS),
            upsampling=([upsampling], ('bilinear', 'nearest')),
        )
        places_fit = places == 'convap' or 'global_descriptor' not in tasks
        if microcontroller and (attention or transformer or upsampling != 'nearest' or not places_fit):
            raise MtError(
                'kp2dtiny: a microcontroller takes nearest upsampling and convap places, no attention and no '
                'transformer'
            )
        self.tasks = tuple(t for t in TASKS if t in tasks)
        self.fixed_size = microcontroller
        self.encoder = TinyEncoder(channels, transformer)
        self.classes = classes if 'segmentation' in tasks else 0
        self.descriptor_dim = descriptor_dim if 'keypoints' in tasks else 0
        self.global_dim = global_dim if 'global_descriptor' in tasks else 0
        self.decoders = nn.ModuleDict()
        cells = {'keypoint_scores': 1, 'keypoint_offsets': 2} if 'keypoints' in tasks else {}
        pixels = {'segmentation': self.classes, 'descriptors': self.descriptor_dim, 'depth': 'depth' in tasks}
        pixels = {name: int(count) for name, count in pixels.items() if count}
        groups = [cells] if decoders == 'fused' else [{name: count} for name, count in cells.items()]
        for outputs in groups:
            if outputs:
                self.decoders['+'.join(outputs)] = CellDecoder(channels[2], width, outputs)
        groups = [pixels] if decoders == 'fused' else [{name: count} for name, count in pixels.items()]
        for outputs in groups:
            if outputs:
                # depth is smooth: half the width will do where it has a decoder of its own
                own = width // 2 if list(outputs) == ['depth'] else width
                attend = attention and 'segmentation' in outputs
                self.decoders['+'.join(outputs)] = PixelDecoder(
                    channels[1:], own, outputs, upsampling, attend
                )
        self.place = None
        if self.global_dim:
            options = {'fixed': True} if microcontroller else {}
            self.place = HEADS[places](channels[3], global_dim, **options)

    def maps(self, x, tasks=TASKS):
        """
        Run all layers, without the functions that bound their results.

        :param x: [B,3,H,W] float, (RGB − 128) / 128.
        :param tasks: which decoders to run.
        :return: dict of ``segmentation`` [B,classes,H/4,W/4], ``descriptors`` [B,D,H/4,W/4], ``depth``
            [B,1,H/4,W/4], ``keypoint_scores`` [B,1,H/8,W/8], ``keypoint_offsets`` [B,2,H/8,W/8] and
            ``global_descriptor`` [B,G], as far as there are.
        """
        wanted = set(tasks) & set(self.tasks)
        if 'keypoints' in wanted:
            wanted |= {'keypoint_scores', 'keypoint_offsets', 'descriptors'}
        _, f4, f8, f16 = self.encoder(x)
        out = {}
        for names, decoder in self.decoders.items():
            if wanted & set(names.split('+')):
                found = decoder(f8) if isinstance(decoder, CellDecoder) else decoder(f4, f8, f16)
                out.update({name: value for name, value in found.items() if name in wanted})
        if 'global_descriptor' in wanted:
            out['global_descriptor'] = self.place(f16)
        return out

    def forward(self, image, tasks=TASKS):
        """
        Run the network.

        :param image: [B,3,H,W] float RGB in 0–255; H and W multiples of 32.
        :param tasks: which decoders to run.
        :return: dict of ``segmentation`` [B,classes,H/4,W/4] logits, ``log_depth`` [B,1,H/4,W/4] of metres,
            ``keypoint_scores`` [B,1,H/8,W/8] in 0–1, ``keypoint_offsets`` [B,2,H/8,W/8] (x, y) in pixels from
            the centre of the cell, ``descriptors`` [B,D,H/4,W/4] not normalised, ``global_descriptor`` [B,G]
            unit length; as far as the network has them.
        """
        out = self.maps((image - 128.0) / 128.0, tasks)
        if 'keypoint_scores' in out:
            out['keypoint_scores'] = out['keypoint_scores'].sigmoid()
            out['keypoint_offsets'] = out['keypoint_offsets'].tanh() * (BORDER_RATIO * (CELL - 1) / 2)
        if 'depth' in out:
            out['log_depth'] = log_depth(out.pop('depth'))
        if 'global_descriptor' in out:
            out['global_descriptor'] = F.normalize(out['global_descriptor'], dim=1)
        return out

    def initialise_places(self, images):
        """Start the place head from the stride-16 maps of ``images``, [1,3,H,W] float RGB 0–255."""
        if self.place is None:
            return
        self.eval()
        with torch.no_grad():
            self.place.initialise([self.encoder((image - 128.0) / 128.0)[-1] for image in images])
        self.train()
