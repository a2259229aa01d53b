"""
Maps of segments: what belongs together in an image, and of which class, in one number per pixel.

A pixel holds class id + 256 · number: each object has a number of its own, stuff has 0, so that class ids
alone are such a map too. Class 255 is ignored.
"""

import numpy as np

from mt_training.data.augment import IGNORE

SEGMENT = 256


def merge_segments(segment_ids, segments, table):
    """
    Turn a panoptic label into a map of segments in the experiment's classes.

    :param segment_ids: [H,W] int32, 0 = none.
    :param segments: list of :class:`mt_training.data.readers.sample.Segment`; groups of objects that were not
        told apart are ignored.
    :param table: [256] uint8, class id of the set → of the experiment.
    :return: [H,W] float32 of whole numbers: OpenCV warps no wide integers.
    """
    values = {0: IGNORE}
    for number, segment in enumerate(segments, 1):
        class_id = int(table[segment.class_id])
        own = number if segment.is_thing and class_id != IGNORE else 0
        values[segment.id] = IGNORE if segment.is_crowd else class_id + SEGMENT * own
    present, inverse = np.unique(segment_ids, return_inverse=True)
    chosen = np.array([values.get(int(i), IGNORE) for i in present], np.float32)
    return chosen[inverse].reshape(segment_ids.shape)


def fill_segments(samples):
    """Give all samples ``segments`` where any has: of sets that do not know objects, the class ids."""
    if not any('segments' in sample for sample in samples):
        return samples
    return [
        sample if 'segments' in sample else {**sample, 'segments': sample['labels'].astype(np.int32)}
        for sample in samples
    ]
