"""Textures with anisotropic pre-filtered levels (rip-maps)."""

import cv2
import numpy as np


class Texture:
    """
    A texture image that is made when it is first seen and pre-filtered per axis.

    A level (i, j) is the image reduced 2**i times along its columns and 2**j times along its rows
    (Larson, Shah: "Ripmaps"), so a surface seen at a grazing angle stays sharp along the
    axis that is not foreshortened and does not alias along the one that is.

    :param make: function of a random generator that returns [h,w,3] RGB or [h,w,4] RGBA uint8.
    :param seed: seed sequence entropy for that generator, so that the image does not depend on the
        order in which textures are first seen.
    :param wrap: repeat beyond the borders (else the border pixel is repeated).
    """

    def __init__(self, make, seed, wrap=False):
        self._make = make
        self._seed = seed
        self._levels = {}
        self._mean = None
        self.border = cv2.BORDER_WRAP if wrap else cv2.BORDER_REPLICATE

    @property
    def image(self):
        """The full-resolution image."""
        return self.level(0, 0)

    @property
    def shape(self):
        """(height, width) of the full-resolution image."""
        return self.image.shape[:2]

    @property
    def mean(self):
        """Mean colour [3] of the opaque part, and mean opacity 0–1."""
        if self._mean is None:
            pixels = self.image.reshape(-1, self.image.shape[2]).astype(np.float32)
            weight = pixels[:, 3:] if self.has_alpha else np.full((len(pixels), 1), 255, np.float32)
            color = (pixels[:, :3] * weight).sum(0) / max(float(weight.sum()), 1.0)
            self._mean = color.tolist(), float(weight.mean()) / 255
        return self._mean

    @property
    def has_alpha(self):
        """Whether the image has a fourth channel with opacity."""
        return self.image.shape[2] == 4

    def level(self, column_level, row_level):
        """Return the image reduced 2**column_level by 2**row_level times."""
        key = (column_level, row_level)
        if key not in self._levels:
            if key == (0, 0):
                made = np.ascontiguousarray(self._make(np.random.default_rng(self._seed)))
            else:
                base = self.image
                size = (max(1, base.shape[1] >> column_level), max(1, base.shape[0] >> row_level))
                made = cv2.resize(base, size, interpolation=cv2.INTER_AREA)
            self._levels[key] = made
        return self._levels[key]


def flat(texture, kept):
    """
    Return a texture with less contrast: every texel moved towards the mean colour, opacity as it was.

    :param kept: share of the contrast that stays, 0–1.
    """

    def make(rng):
        image = texture.image.copy()
        mean = np.array(texture.mean[0], np.float32)
        color = mean + (image[..., :3] - mean) * np.float32(kept)
        image[..., :3] = np.clip(color + 0.5, 0, 255)
        return image

    result = Texture(make, 0)
    result.border = texture.border
    return result
