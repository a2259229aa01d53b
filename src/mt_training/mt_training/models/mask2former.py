"""
Mask2Former: an image as a set of masks, each with a class; semantic and panoptic segmentation in one.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022. An encoder, a
pixel decoder with multi-scale deformable attention, and a transformer decoder whose queries each attend to
their own mask. The decoders and Swin are those of the transformers library; the encoders of the other
networks here serve too.
"""

import torch

from mt_perception.errors import MtError
from mt_training.models.mtan import ENCODERS
from mt_training.models.network import Network
from mt_training.models.resnet import ResNet50

# Swin by name: embed_dim, depths, heads
SWINS = {
    'swin_tiny': (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    'swin_micro': (48, (2, 2, 4, 2), (3, 6, 12, 24)),
    'swin_nano': (32, (1, 1, 2, 1), (2, 4, 8, 16)),
}
PLAIN = {**ENCODERS, 'resnet50': ResNet50}
MIN_SCORE = 1e-6  # of a class at a pixel, before the logarithm
GROUPS = 32  # of the pixel decoder's group norm


class Mask2Former(Network):
    """
    The network; masks at stride 4.

    :param classes: number of classes, C.
    :param encoder: one of ``SWINS`` or ``PLAIN``.
    :param embed_dim: of a Swin: channels at stride 4; None: what its name stands for.
    :param depths: of a Swin: blocks of the four stages; None: what its name stands for.
    :param window: of a Swin: side of the attention windows in tokens of 4 pixels.
    :param drop_path: of a Swin: largest probability of leaving a block out while training.
    :param width: channels of both decoders and of the masks' embedding, a multiple of 32.
    :param queries: number of masks, Q.
    :param pixel_layers: layers of deformable attention over strides 8, 16 and 32.
    :param decoder_layers: layers of the transformer decoder. Each one's prediction is trained, so that a
        trained network also works with fewer.
    :param heads: attention heads of the decoders.
    :param feedforward: hidden channels of the transformer decoder's layers.
    :param pixel_feedforward: hidden channels of the pixel decoder's layers.
    :param auxiliary: train the predictions before every layer of the transformer decoder too.
    :raises MtError: an unknown encoder, numbers that do not fit, or transformers is not installed.
    """

    tasks = ('segmentation',)
    library = 'transformers'  # its releases that have these parts need Python 3.11
    fixed_size = True

    def __init__(
        self,
        classes=19,
        encoder='swin_tiny',
        embed_dim=None,
        depths=None,
        window=7,
        drop_path=0.2,
        width=256,
        queries=100,
        pixel_layers=6,
        decoder_layers=9,
        heads=8,
        feedforward=2048,
        pixel_feedforward=1024,
        auxiliary=True,
    ):
        """Make the network with random weights."""
        super().__init__()
        if width % GROUPS or width % heads:
            raise MtError(f'mask2former: width {width} is not a multiple of {GROUPS} and of heads, {heads}')
        if encoder not in SWINS and encoder not in PLAIN:
            raise MtError(f"mask2former: encoder '{encoder}' is not one of {', '.join([*SWINS, *PLAIN])}")
        try:
            from mt_training.models.transformers_parts import SwinEncoder, build_decoders
        except ImportError as error:
            raise MtError(
                f'mask2former needs the transformers library ({error}): ./mt build --training, with '
                'Python 3.11 or newer'
            ) from None
        self.classes, self.queries, self.auxiliary = classes, queries, auxiliary
        if encoder in SWINS:
            own_dim, own_depths, swin_heads = SWINS[encoder]
            self.encoder = SwinEncoder(
                embed_dim or own_dim, depths or own_depths, swin_heads, window, drop_path
            )
        else:
            self.encoder = PLAIN[encoder]()
        parts = build_decoders(
            self.encoder.channels[-4:], classes, width, queries, pixel_layers, decoder_layers, heads,
            feedforward, pixel_feedforward,
        )  # fmt: skip
        self.pixel_decoder, self.transformer = parts.pixel_decoder, parts.transformer
        self.class_predictor = parts.class_predictor

    def forward(self, image, tasks=tasks):
        """
        Run the network.

        :param image: [B,3,H,W] float RGB in 0–255; H and W multiples of 32.
        :param tasks: the network has one, so there is nothing to choose.
        :return: dict of ``segmentation`` [B,C,H/4,W/4], see :func:`semantic_logits`; ``query_classes``, a
            list of [B,Q,C+1] logits, the last of "nothing"; ``query_masks``, a list of [B,Q,H/4,W/4] logits.
            The lists have one entry; while training with ``auxiliary`` one per layer, the last layer's last.
        """
        features = self.encoder((image - 128.0) / 128.0)[-4:]
        pixels = self.pixel_decoder(features, output_attentions=False, output_hidden_states=False)
        found = self.transformer(
            multi_scale_features=pixels.multi_scale_features, mask_features=pixels.mask_features
        )
        states, masks = list(found.intermediate_hidden_states), list(found.masks_queries_logits)
        if not (self.training and self.auxiliary):
            states, masks = states[-1:], masks[-1:]
        classes = [self.class_predictor(state.transpose(0, 1)) for state in states]
        return {
            'segmentation': semantic_logits(classes[-1], masks[-1]),
            'query_classes': classes,
            'query_masks': masks,
        }

    def load_pretrained(self, folder, images=()):
        """
        Start from a Mask2Former in ``folder``, else start the encoder from the weights that fit it there.

        See :mod:`mt_training.models.pretrained_swin` for what is looked for; says so where there is nothing.

        :raises MtError: there are weights, and they are of something else.
        """
        from mt_training.models.pretrained_swin import load_mask2former

        if not load_mask2former(self, folder):
            super().load_pretrained(folder, images)


def semantic_logits(classes, masks):
    """
    Turn queries into class scores of pixels, whose softmax is their share of the sum.

    A class scores Σ p(query is of the class) · p(pixel is in the query's mask) (Cheng et al., "Per-Pixel
    Classification is Not All You Need", 2021, section 3.4).

    :param classes: [B,Q,C+1] logits. :param masks: [B,Q,h,w] logits.
    :return: [B,C,h,w] logarithms of the scores.
    """
    weights = classes.softmax(-1)[..., :-1].transpose(1, 2)
    scores = weights @ masks.sigmoid().flatten(2)
    return scores.clamp(min=MIN_SCORE).log().unflatten(2, masks.shape[-2:])


def panoptic(classes, masks, things, min_score=0.8, min_overlap=0.8):
    """
    Turn the queries of one image into segments that do not overlap (MaskFormer, section 3.4).

    :param classes: [Q,C+1] logits. :param masks: [Q,h,w] logits.
    :param things: class ids of countable objects; of another class all pixels are one segment.
    :param min_score: queries less sure of their class are left out.
    :param min_overlap: a query that keeps less than this part of its mask is left out.
    :return: ([h,w] int32, 0 = none; list of dicts ``id`` > 0, ``class_id``, ``is_thing``, ``score``).
    """
    score, label = classes.softmax(-1).max(-1)
    kept = (label != classes.shape[-1] - 1) & (score > min_score)
    score, label, inside = score[kept], label[kept], masks[kept].sigmoid()
    segment_ids = torch.zeros(masks.shape[-2:], dtype=torch.int32)
    segments, stuff = [], {}
    if not len(score):
        return segment_ids.numpy(), segments
    owner = (score[:, None, None] * inside).argmax(0)
    for index, class_id in enumerate(label.tolist()):
        whole = inside[index] >= 0.5
        own = whole & (owner == index)
        if not bool(own.any()) or own.sum() / whole.sum() < min_overlap:
            continue
        if class_id in stuff:
            segment_ids[own.cpu()] = stuff[class_id]
            continue
        number = len(segments) + 1
        segment_ids[own.cpu()] = number
        if class_id not in things:
            stuff[class_id] = number
        segments.append(
            {
                'id': number, 'class_id': class_id, 'is_thing': class_id in things,
                'score': float(score[index]),
            }
        )  # fmt: skip
    return segment_ids.numpy(), segments
