"""The images kept for watching a run, out of any set of frames: class ids or depth, one image per batch."""

import cv2
import numpy as np
import torch

from mt_training.data.frames import resize_depth


class ValidationFrames(torch.utils.data.Dataset):
    """
    Whole images at one size with the labels they have.

    An item is a dict ``set`` ('segmentation' or 'depth'), ``images`` [1,3,h,w] uint8, and ``labels`` [1,h,w]
    uint8 of the experiment's class ids or ``depth`` [1,h,w] float32 metres at the canonical focal length. An
    image with both is two items.

    :param frames: :class:`mt_training.data.readers.sample.FrameSet`.
    :param size: (width, height), multiples of 32.
    :param focal: canonical focal length in pixels.
    :param table: [256] uint8, class id of the set → of the experiment, or None without classes.
    :param tasks: which of 'segmentation' and 'depth'; None = those there are.
    """

    def __init__(self, frames, size, focal, table=None, tasks=None):
        self.frames, self.size, self.focal, self.table = frames, tuple(size), focal, table
        has = [t for t in ('segmentation', 'depth') if t in frames.provides]
        if table is None and 'segmentation' in has:
            has.remove('segmentation')
        self.items = [(t, i) for t in has if tasks is None or t in tasks for i in range(len(frames))]

    def __len__(self):
        """Return the number of items."""
        return len(self.items)

    def __getitem__(self, index):
        """Read one item."""
        task, i = self.items[index]
        sample = self.frames[i]
        image = cv2.resize(sample.image, self.size, interpolation=cv2.INTER_AREA)
        out = {'images': image.transpose(2, 0, 1)}
        shape = self.size[::-1]
        if task == 'segmentation':
            labels = np.full(shape, 255, np.uint8)
            if sample.labels is not None:
                mapped = self.table[sample.labels]
                labels = cv2.resize(mapped, self.size, interpolation=cv2.INTER_NEAREST_EXACT)
            out['labels'] = labels
        else:
            depth = np.full(shape, np.nan, np.float32)
            if sample.depth is not None and sample.camera is not None:
                focal = sample.camera.fx * self.size[0] / sample.image.shape[1]
                depth = resize_depth(sample.depth, self.size) * np.float32(self.focal / focal)
            out['depth'] = depth
        return {
            'set': task,
            **{key: torch.from_numpy(np.ascontiguousarray(value))[None] for key, value in out.items()},
        }
