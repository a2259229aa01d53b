"""What the parts of the system hand to each other."""

from dataclasses import dataclass, field

import numpy as np

UNKNOWN_CLASS = 255


@dataclass
class Keypoints:
    """
    The keypoints of one image, strongest first, without padding.

    :param xy: [N,2] float32 pixels of the original image (before any resizing for the network),
        centre of the top-left pixel = (0, 0).
    :param scores: [N] float32.
    :param descriptors: [N,D] float32, unit length.
    :param depth: [N] float32 metres along the optical axis, NaN where unknown.
    :param class_id: [N] uint8, ``UNKNOWN_CLASS`` where unknown.
    :param image_size: (width, height) of the original image in pixels.
    :param model_id: which network made the descriptors; only equal ids may be matched.
    """

    xy: np.ndarray
    scores: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    class_id: np.ndarray
    image_size: tuple
    model_id: str = ''

    def __len__(self):
        """Return the number of keypoints."""
        return len(self.xy)

    @classmethod
    def create(cls, xy, scores, descriptors, image_size, depth=None, class_id=None, model_id=''):
        """Build from what is known; depth and class default to unknown."""
        n = len(xy)
        descriptors = np.asarray(descriptors, np.float32)
        if descriptors.ndim != 2:
            descriptors = descriptors.reshape(n, -1 if n else 0)
        return cls(
            np.asarray(xy, np.float32).reshape(n, 2),
            np.asarray(scores, np.float32),
            descriptors,
            np.full(n, np.nan, np.float32) if depth is None else np.asarray(depth, np.float32),
            np.full(n, UNKNOWN_CLASS, np.uint8) if class_id is None else np.asarray(class_id, np.uint8),
            tuple(image_size),
            model_id,
        )

    def select(self, index):
        """Return the keypoints at ``index`` (slice, integer array or boolean mask)."""
        return Keypoints(
            self.xy[index],
            self.scores[index],
            self.descriptors[index],
            self.depth[index],
            self.class_id[index],
            self.image_size,
            self.model_id,
        )


@dataclass
class Perception:
    """
    What one forward pass says about one image; ``None`` for a task the model does not have.

    :param segmentation: [h,w] uint8 class ids at network size.
    :param segmentation_confidence: [h,w] uint8, top probability × 255.
    :param depth: [h,w] float32 metres along the optical axis at network size.
    :param keypoints: in pixels of the original image.
    :param global_descriptor: [G] float32, unit length.
    :param image_size: (width, height) of the original image in pixels.
    :param timings_ms: milliseconds per stage: ``preprocess``, ``inference``, ``postprocess``.
    """

    image_size: tuple
    segmentation: np.ndarray | None = None
    segmentation_confidence: np.ndarray | None = None
    depth: np.ndarray | None = None
    keypoints: Keypoints | None = None
    global_descriptor: np.ndarray | None = None
    timings_ms: dict = field(default_factory=dict)
