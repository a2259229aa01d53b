"""SIFT and ORB from OpenCV as :class:`mt_perception.types.Keypoints`."""

from time import perf_counter

import cv2
import numpy as np

from mt_perception.types import Keypoints, Perception


class ClassicalFeatures:
    """
    What SIFT and ORB have in common; a subclass sets ``detector`` and ``to_float``.

    OpenCV's keypoint pixels have the centre of the top-left pixel at (0, 0), as ours.
    """

    name: str

    def __init__(self, max_keypoints):
        """:param max_keypoints: keep at most this many of the strongest keypoints."""
        self.max_keypoints = max_keypoints

    def process(self, image, camera=None, tasks=None):
        """
        Find keypoints in one image.

        :param image: [H,W,3] uint8 RGB.
        :param camera: not used; the network's pipeline has it.
        :param tasks: not used.
        :return: :class:`Perception` with ``keypoints`` and ``timings_ms``.
        """
        start = perf_counter()
        gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        prepared = perf_counter()
        found, raw = self.detector.detectAndCompute(gray, None)
        detected = perf_counter()
        size = (image.shape[1], image.shape[0])
        if raw is None or len(found) == 0:
            found, raw = (), np.zeros((0, self.detector.descriptorSize()), np.uint8)
        xy = np.array([k.pt for k in found], np.float32).reshape(-1, 2)
        score = np.array([k.response for k in found], np.float32)
        order = np.argsort(-score, kind='stable')[: self.max_keypoints]
        keypoints = Keypoints.create(
            xy[order], score[order], self.to_float(raw[order]), size, model_id=self.name
        )
        end = perf_counter()
        return Perception(
            size,
            keypoints=keypoints,
            timings_ms={
                'preprocess': (prepared - start) * 1e3,
                'inference': (detected - prepared) * 1e3,
                'postprocess': (end - detected) * 1e3,
            },
        )


class SiftFeatures(ClassicalFeatures):
    """SIFT (Lowe 2004) with RootSIFT descriptors (Arandjelović and Zisserman 2012), D = 128."""

    name = 'sift'

    def __init__(self, max_keypoints):
        """:param max_keypoints: keep at most this many of the strongest keypoints."""
        super().__init__(max_keypoints)
        self.detector = cv2.SIFT_create(nfeatures=max_keypoints)

    @staticmethod
    def to_float(raw):
        """L1-normalise and take the root: unit length, and the dot product is the Hellinger kernel."""
        raw = raw.astype(np.float32)
        return np.sqrt(raw / np.maximum(raw.sum(1, keepdims=True), 1e-6))


class OrbFeatures(ClassicalFeatures):
    """ORB (Rublee et al. 2011), D = 256."""

    name = 'orb'

    def __init__(self, max_keypoints):
        """:param max_keypoints: keep at most this many of the strongest keypoints."""
        super().__init__(max_keypoints)
        self.detector = cv2.ORB_create(nfeatures=max_keypoints)

    @staticmethod
    def to_float(raw):
        """Bits to ±1/16: unit length, and the dot product is 1 − Hamming distance / 128."""
        bits = np.unpackbits(raw.astype(np.uint8), axis=1).astype(np.float32)
        return (2 * bits - 1) / 16
