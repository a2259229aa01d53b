"""
The parts of Mask2Former that the transformers library has: its decoders, and Swin as an encoder.

They are built from numbers alone; nothing is downloaded. Only :mod:`mt_training.models.mask2former` imports
this, when such a network is made: transformers takes seconds to import, and no other network needs it.
"""

import torch
from torch import nn
from transformers import Mask2FormerConfig, SwinConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)
from transformers.models.swin.modeling_swin import SwinBackbone

from mt_training.models.state_dicts import ImageNetScale

STAGES = ('stage1', 'stage2', 'stage3', 'stage4')


class SwinEncoder(nn.Module):
    """
    Swin Transformer (Liu et al., "Swin Transformer", 2021) as an encoder.

    :param embed_dim: channels at stride 4; each later stage has twice as many.
    :param depths: blocks of the four stages. :param heads: attention heads of the four stages.
    :param window: side of the attention windows in tokens.
    :param drop_path: largest probability of leaving a block out while training.
    :ivar channels: channels of the returned feature maps, strides 4, 8, 16 and 32.
    """

    def __init__(self, embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.2):
        """Make the network with random weights."""
        super().__init__()
        self.scale = ImageNetScale()
        self.backbone = SwinBackbone(
            SwinConfig(
                embed_dim=embed_dim,
                depths=list(depths),
                num_heads=list(heads),
                window_size=window,
                drop_path_rate=drop_path,
                out_features=list(STAGES),
            )
        )
        self.backbone.swin.layernorm = nn.Identity()  # of the classifier; nothing here reads its result
        self.channels = tuple(embed_dim * 2**i for i in range(len(STAGES)))

    def parts(self):
        """Return the modules in the order in which the image meets them, for freezing the first ones."""
        swin = self.backbone.swin
        return [swin.embeddings, *(block for stage in swin.encoder.layers for block in stage.blocks)]

    def forward(self, x):
        """[B,3,H,W], (RGB − 128) / 128 → four maps, strides 4, 8, 16, 32."""
        return list(self.backbone(self.scale(x)).feature_maps)

    def load_pretrained(self, folder, images=()):
        """Start from the weights of a Swin in ``folder``, see :mod:`mt_training.models.pretrained_swin`."""
        from mt_training.models.pretrained_swin import load_swin

        load_swin(self, folder)


def pixel_centres(shapes, valid_ratios, device):
    """
    Return where the tokens of all maps lie in the image, [B,N,L,2] x, y in 0–1.

    In the place of the library's, whose numbers become float64 in an exported graph, which engines do not
    sample at.

    :param shapes: (height, width) of the L maps, N tokens together.
    :param valid_ratios: [B,L,2], all 1: no image is padded.
    """
    centres = []
    for shape in shapes:
        y, x = ((torch.arange(int(n), device=device) + 0.5) / int(n) for n in shape)
        centres.append(torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], dim=-1).flatten(0, 1))
    centres = torch.cat(centres).to(valid_ratios)
    return centres[None, :, None].expand(len(valid_ratios), -1, len(shapes), -1)


class Decoders(Mask2FormerPreTrainedModel):
    """
    Pixel decoder, transformer decoder and classifier with the library's random weights.

    :param config: of transformers. :param channels: of the encoder's four maps.
    """

    def __init__(self, config, channels):
        """Make the parts."""
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, list(channels))
        # the library takes memory for it that no device context reaches
        self.pixel_decoder.level_embed = nn.Parameter(torch.randn(3, config.feature_size))
        self.pixel_decoder.encoder.get_reference_points = pixel_centres
        self.transformer = Mask2FormerTransformerModule(config.feature_size, config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.post_init()


def build_decoders(
    channels, classes, width, queries, pixel_layers, decoder_layers, heads, feedforward, pixel_feedforward
):
    """
    Return :class:`Decoders`.

    :param channels: of the encoder's maps, strides 4, 8, 16, 32; the others as
        :class:`mt_training.models.mask2former.Mask2Former`.
    """
    config = Mask2FormerConfig(
        num_labels=classes,
        feature_size=width,
        mask_feature_size=width,
        hidden_dim=width,
        num_queries=queries,
        encoder_layers=pixel_layers,
        decoder_layers=decoder_layers + 1,  # the library counts the prediction before the first layer
        num_attention_heads=heads,
        dim_feedforward=feedforward,
        encoder_feedforward_dim=pixel_feedforward,
    )
    return Decoders(config, channels)
