"""mt_msgs/KeypointArray and mt_msgs/GlobalDescriptor to what the core works with, and back."""

import numpy as np

from mt_msgs.msg import GlobalDescriptor, KeypointArray
from mt_perception.errors import MtError
from mt_perception.nodes.conversions import fill
from mt_perception.types import Keypoints

DESCRIPTOR_TYPES = {'float32': (KeypointArray.FLOAT32, '<f4'), 'float16': (KeypointArray.FLOAT16, '<f2')}
ELEMENTS = {KeypointArray.FLOAT32: '<f4', KeypointArray.FLOAT16: '<f2', KeypointArray.UINT8: 'u1'}


class KeypointMessageError(MtError):
    """A KeypointArray whose arrays do not fit its own numbers."""


def keypoints_to_message(keypoints, header, descriptor_type='float32', metric=True):
    """
    Return :class:`Keypoints` as mt_msgs/KeypointArray.

    :param header: std_msgs/Header of the image.
    :param descriptor_type: one of ``DESCRIPTOR_TYPES``.
    :param metric: the unit of their depth is the metre.
    """
    number, dtype = DESCRIPTOR_TYPES[descriptor_type]
    message = KeypointArray(header=header, model_id=keypoints.model_id, count=len(keypoints))
    message.image_width, message.image_height = (int(v) for v in keypoints.image_size)
    message.descriptor_type = number
    message.descriptor_dim = int(keypoints.descriptors.shape[1])
    message.depth_is_metric = metric
    fill(message.xy, keypoints.xy, np.float32)
    fill(message.scores, keypoints.scores, np.float32)
    fill(message.descriptors, keypoints.descriptors, dtype)
    fill(message.depth, keypoints.depth, np.float32)
    fill(message.class_id, keypoints.class_id, np.uint8)
    return message


def keypoints_from_message(message, any_unit=False):
    """
    Return an mt_msgs/KeypointArray as :class:`Keypoints`.

    Depth that is not metric comes out as unknown; binary descriptors come out as ±1/√bits, so that their
    scalar product falls with the Hamming distance.

    :param any_unit: keep depth that is not metric, too.
    :raises KeypointMessageError: an array does not have the length ``count`` asks for.
    """
    n, dim = message.count, message.descriptor_dim
    if message.descriptor_type not in ELEMENTS:
        raise KeypointMessageError(f'keypoints have the unknown descriptor type {message.descriptor_type}')
    element = np.dtype(ELEMENTS[message.descriptor_type])
    expected = {
        'xy': 2 * n,
        'scores': n,
        'descriptors': n * dim * element.itemsize,
        'depth': n,
        'class_id': n,
    }
    for name, length in expected.items():
        if len(getattr(message, name)) != length:
            raise KeypointMessageError(
                f'keypoints claim {n} points of {dim} descriptor elements, but {name} has '
                f'{len(getattr(message, name))} entries instead of {length}'
            )
    descriptors = np.frombuffer(message.descriptors, element).reshape(n, dim)
    if message.descriptor_type == KeypointArray.UINT8:
        bits = np.unpackbits(descriptors, axis=1).astype(np.float32)
        descriptors = (2 * bits - 1) / np.sqrt(np.float32(max(8 * dim, 1)))
    return Keypoints.create(
        np.frombuffer(message.xy, np.float32).reshape(n, 2),
        np.frombuffer(message.scores, np.float32),
        descriptors.astype(np.float32),
        (message.image_width, message.image_height),
        depth=np.frombuffer(message.depth, np.float32) if any_unit or message.depth_is_metric else None,
        class_id=np.frombuffer(message.class_id, np.uint8),
        model_id=message.model_id,
    )


def global_descriptor_to_message(descriptor, model_id, header):
    """Return a [G] float32 descriptor as mt_msgs/GlobalDescriptor."""
    message = GlobalDescriptor(header=header, model_id=model_id)
    fill(message.descriptor, descriptor, np.float32)
    return message


def global_descriptor_from_message(message):
    """
    Return an mt_msgs/GlobalDescriptor as [G] float32 of unit length.

    :raises KeypointMessageError: it is empty, zero or not finite.
    """
    descriptor = np.frombuffer(message.descriptor, np.float32)
    length = np.linalg.norm(descriptor)
    if not (np.isfinite(length) and length > 0):
        raise KeypointMessageError(
            f'a global descriptor of model {message.model_id!r} with {len(descriptor)} elements has length '
            f'{length:g}; it must be a unit vector'
        )
    return descriptor / length
