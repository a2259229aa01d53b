"""The simplest place descriptor: a tiny patch-normalised image (SeqSLAM, Milford and Wyeth, ICRA 2012)."""

from time import perf_counter

import cv2
import numpy as np
from scipy.spatial.distance import cdist

from mt_perception.types import Perception

WIDTH, HEIGHT = 64, 32
PATCH = 8  # pixels; brightness and contrast are removed in squares of this size


class PixelDescriptor:
    """Gray 64 × 32 image, every 8 × 8 patch at mean 0 and deviation 1, compared by absolute differences."""

    name = 'pixels'

    def process(self, image, camera=None, tasks=None):
        """
        Describe one image.

        :param image: [H,W,3] uint8 RGB.
        :return: :class:`mt_perception.types.Perception` with ``global_descriptor`` [2048] and ``timings_ms``.
        """
        start = perf_counter()
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
        patches = small.reshape(HEIGHT // PATCH, PATCH, WIDTH // PATCH, PATCH)
        patches = patches - patches.mean((1, 3), keepdims=True)
        patches /= np.maximum(
            patches.std((1, 3), keepdims=True), 1.0
        )  # at least a gray level: noise stays small
        vector = patches.reshape(-1)
        milliseconds = (perf_counter() - start) * 1e3
        return Perception(
            (image.shape[1], image.shape[0]), global_descriptor=vector, timings_ms={'inference': milliseconds}
        )

    @staticmethod
    def similarity(queries, references):
        """[Q,R] negative mean absolute difference, SeqSLAM's equation 1."""
        return -cdist(queries, references, 'cityblock') / queries.shape[1]
