"""Two frames of a moving camera without depth: what the photometric loss learns from."""

import numpy as np

from mt_training.data.augment import IGNORE, photometric, random_crop, warp_image
from mt_training.data.pairs import CELL, POINTS


class PosedPairs:
    """
    Two frames of a sequence through the same zoom and crop, with the camera and, where known, its motion.

    :param frames: list of dicts ``image`` [H,W,3] uint8, ``camera`` (mt_perception Camera), ``pose`` [4,4]
        camera-to-world or None.
    :param size: (width, height) of the views.
    :param gap: largest distance of the two frames in the list; they are never the same.
    :param scale: range of the zoom.
    """

    def __init__(self, frames, size, gap=1, scale=(1.0, 1.5)):
        """Keep the frames in memory."""
        self.frames, self.size, self.gap, self.scale = frames, size, min(gap, len(frames) - 1), scale

    def sample(self, rng):
        """Draw one pair; see :mod:`mt_training.data.pairs` for the keys."""
        i = int(rng.integers(len(self.frames)))
        steps = [s for s in range(-self.gap, self.gap + 1) if s and 0 <= i + s < len(self.frames)]
        pair = (self.frames[i], self.frames[i + steps[int(rng.integers(len(steps)))]])
        source = pair[0]['image'].shape[1::-1]
        matrix, _ = random_crop(rng, source, self.size, self.scale)
        light = int(rng.integers(2**31))  # the same for both: the loss compares them
        images = [
            photometric(np.random.default_rng(light), warp_image(f['image'], matrix, self.size)) for f in pair
        ]
        width, height = self.size
        motion = np.full((4, 4), np.nan)
        if pair[0]['pose'] is not None:
            motion = np.linalg.inv(pair[1]['pose']) @ pair[0]['pose']
        return {
            'images': np.stack([image.transpose(2, 0, 1) for image in images]),
            'labels': np.full((2, height, width), IGNORE, np.uint8),
            'cells': np.full((2, height // CELL, width // CELL), IGNORE, np.uint8),
            'depth': np.full((2, height, width), np.nan, np.float32),
            'points': np.zeros((2, POINTS, 2), np.float32),
            'points_valid': np.zeros(POINTS, bool),
            'place': np.int64(i),
            'camera': np.stack([matrix @ f['camera'].matrix for f in pair]).astype(np.float32),
            'second_from_first': motion.astype(np.float32),
        }
