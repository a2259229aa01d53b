"""
The loss of networks that predict a set of masks: predictions and segments are matched, then compared.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", 2022, sections 3.2.3 and
3.3. Matching (Hungarian, on randomly drawn points) and the parts of the loss are those of the transformers
library, which takes the assignment from SciPy.
"""

import functools
from types import SimpleNamespace

from mt_training.data.augment import IGNORE
from mt_training.data.segments import SEGMENT

PARTS = {'class': 'loss_cross_entropy', 'mask': 'loss_mask', 'dice': 'loss_dice'}


def targets(segments):
    """
    Turn a map of segments into masks.

    :param segments: [H,W] integers, class id + 256 · number; class 255 is ignored, and so belongs to no mask.
        Class ids alone will do: then all pixels of a class are one segment.
    :return: (class ids [N] int64, masks [N,H,W] float32).
    """
    values = segments.unique()
    values = values[values % SEGMENT != IGNORE]
    return (values % SEGMENT).long(), (segments[None] == values[:, None, None]).float()


@functools.lru_cache(maxsize=8)
def criterion(classes, weights, no_object_weight, points, oversample, importance):
    """Make the library's loss for C classes; ``weights`` are those of class, mask and dice."""
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    class_weight, mask_weight, dice_weight = weights
    config = SimpleNamespace(
        num_labels=classes,
        class_weight=class_weight,
        mask_weight=mask_weight,
        dice_weight=dice_weight,
        no_object_weight=no_object_weight,
        train_num_points=points,
        oversample_ratio=oversample,
        importance_sample_ratio=importance,
    )
    return Mask2FormerLoss(config, dict(zip(PARTS.values(), weights, strict=True)))


def hungarian(
    query_classes,
    query_masks,
    segments,
    class_weight=2.0,
    mask_weight=5.0,
    dice_weight=5.0,
    no_object_weight=0.1,
    points=12544,
    oversample=3.0,
    importance=0.75,
):
    """
    Weighted sum of the classes' cross entropy, the masks' binary cross entropy and dice, over all layers.

    :param query_classes: list, one per layer, of [B,Q,C+1] logits, the last of "nothing".
    :param query_masks: list of [B,Q,h,w] logits.
    :param segments: [B,H,W], see :func:`targets`.
    :param class_weight: of the classes, in matching and loss; likewise ``mask_weight`` and ``dice_weight``.
    :param no_object_weight: of the class "nothing" among the others.
    :param points: at which masks are compared. :param oversample: as many times more are drawn, ...
    :param importance: and this part of the points are the most uncertain of them.
    :return: (scalar, dict ``class``, ``mask``, ``dice`` of the last layer's parts, unweighted scalars).
    """
    weights = (class_weight, mask_weight, dice_weight)
    classes = query_classes[-1].shape[-1] - 1
    loss = criterion(classes, weights, no_object_weight, points, oversample, importance)
    loss = loss.to(query_masks[-1].device)
    labels, masks = zip(*(targets(one) for one in segments), strict=True)
    layers = [
        {'masks_queries_logits': m, 'class_queries_logits': c}
        for m, c in zip(query_masks, query_classes, strict=True)
    ]
    found = loss(
        layers[-1]['masks_queries_logits'], layers[-1]['class_queries_logits'], list(masks), list(labels),
        layers[:-1],
    )  # fmt: skip
    total = 0
    for key, weight in zip(PARTS.values(), weights, strict=True):
        total = total + weight * sum(value for name, value in found.items() if name.startswith(key))
    return total, {part: found[key].detach() for part, key in PARTS.items()}
