"""
Changes of light and lens: kornia's augmentations, in an order and at strengths that suit all tasks.

Nothing here moves a pixel, so labels, depth, keypoints and intrinsics stay as they are. What moves pixels is
in :mod:`mt_training.data.augment`, as one matrix that all of them share.
"""

from functools import lru_cache

import kornia.augmentation as K
import numpy as np
import torch

SHADOW = 0.15  # how often, at strength 1


def photometric(rng, image, strength=1.0, blur=1.4):
    """
    Change brightness, contrast, saturation, colour cast, gamma, focus, noise and shadow.

    :param rng: numpy Generator; it alone decides what is drawn.
    :param image: [H,W,3] uint8 RGB.
    :param strength: 1 as for training, smaller for less often and weaker; 0 changes nothing.
    :param blur: largest standard deviation of the blur, pixels.
    :return: the same shape and type.
    """
    if not strength:
        return image
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    with torch.random.fork_rng(devices=[]):  # kornia draws from torch's own generator
        torch.manual_seed(int(rng.integers(2**31)))
        x = _changes(float(strength), float(blur))(x)
        if rng.random() < SHADOW * strength:  # asked here: kornia would compute every shadow, drawn or not
            x = _shadow()(x)
    return (x[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


@lru_cache
def _changes(strength, blur):
    """Return the augmentations, for float images [B,3,H,W] in 0–1."""

    def around_one(change):
        return (max(0.0, 1 - strength * change), 1 + strength * change)

    kernel = 2 * int(np.ceil(2.5 * blur)) + 1
    return K.ImageSequential(
        K.ColorJitter(around_one(0.3), around_one(0.35), around_one(0.45), 0.0, p=1.0),
        K.RandomRGBShift(*[0.06 * strength] * 3, p=1.0),
        K.RandomGrayscale(p=min(1, 0.2 * strength)),
        K.RandomGamma((0.6, 1.65), p=min(1, 0.4 * strength)),
        K.RandomGaussianBlur((kernel, kernel), (min(0.4, blur), blur), p=min(1, 0.25 * strength)),
        K.RandomGaussianNoise(std=0.01, p=min(1, 0.2 * strength)),
        K.RandomGaussianNoise(std=0.03, p=min(1, 0.15 * strength)),
    )


@lru_cache
def _shadow():
    return K.RandomPlasmaShadow((0.1, 0.4), (-0.3, -0.1), (0.1, 0.5), p=1.0)
