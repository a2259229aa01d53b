"""
Networks: one file per architecture, shared blocks in ``blocks``, encoders in files of their own.

A network is a :class:`mt_training.models.network.Network`. Its ``forward(image, tasks)`` takes [B,3,H,W]
float RGB in 0–255, H and W multiples of 32, and gives a dict of what was asked for and it can do:

* ``segmentation`` [B,C,h,w] logits; while training also ``auxiliary_segmentation``, a list of such, where
  the network has auxiliary heads;
* ``log_depth`` [B,1,h,w] log metres at the canonical focal length;
* keypoints, in one of two forms: ``keypoints`` [B,17,H/4,W/4], logits of the pixels of each 4×4 cell and
  "none here"; or ``keypoint_scores`` [B,1,h,w] in 0–1 with ``keypoint_offsets`` [B,2,h,w] (x, y) in pixels
  from the cell's centre. With either, ``descriptors`` [B,D,h,w], not normalised;
* ``global_descriptor`` [B,G], unit length;
* of networks that predict masks, ``query_classes`` and ``query_masks``, lists of [B,Q,C+1] and [B,Q,h,w]
  logits.

h and w are H and W divided by a stride that each map chooses for itself.
"""

import importlib.util
import inspect

from mt_perception.errors import MtError
from mt_training.models.fastsegnet import FastSegNet
from mt_training.models.kp2dtiny import Kp2dTiny
from mt_training.models.mask2former import Mask2Former
from mt_training.models.mtan import Mtan
from mt_training.models.mtnet import MtNet
from mt_training.models.shapes import reshape

_TINY_N = {'channels': (16, 24, 48, 80), 'width': 48}
_TINY_S = {'channels': (16, 32, 64, 128), 'width': 72}

# architecture → (class, what its name stands for); an experiment's ``model`` section may change each value
NETWORKS = {
    'mtnet-nano': (MtNet, {'expansion': 2, 'width': 48, 'keypoint_width': 32}),
    'mtnet-small': (MtNet, {}),
    'mtnet-base': (
        MtNet,
        {
            'encoder': 'resnet50',
            'width': 192,
            'keypoint_width': 128,
            'descriptor_dim': 128,
            'global_dim': 512,
        },
    ),
    'mtan': (Mtan, {}),
    'mtan-edge': (
        Mtan,
        {
            'encoder': 'mobilenet_v3_small',
            'width': 128,
            'spatial': False,
            'reduction': 16,
            'upsampling': 'nearest',
            'auxiliary': False,
        },
    ),
    'fastsegnet': (FastSegNet, {}),
    'kp2dtiny-n': (Kp2dTiny, _TINY_N),
    'kp2dtiny-n-a': (Kp2dTiny, {**_TINY_N, 'attention': True}),
    'kp2dtiny-s': (Kp2dTiny, _TINY_S),
    'kp2dtiny-s-a': (Kp2dTiny, {**_TINY_S, 'attention': True}),
    'kp2dtiny-mcu': (
        Kp2dTiny,
        {**_TINY_N, 'places': 'convap', 'upsampling': 'nearest', 'microcontroller': True},
    ),
    'mask2former': (Mask2Former, {}),
    'mask2former-light': (
        Mask2Former,
        {
            'encoder': 'mobilenet_v2',
            'width': 64,
            'queries': 30,
            'pixel_layers': 2,
            'decoder_layers': 3,
            'heads': 4,
            'feedforward': 256,
            'pixel_feedforward': 256,
        },
    ),
    'keypointformer': (Kp2dTiny, {**_TINY_S, 'transformer': True, 'attention': True}),
}


def available(architecture):
    """Tell whether the library that an architecture needs, if any, is installed."""
    library = NETWORKS[architecture][0].library
    return library is None or importlib.util.find_spec(library) is not None


def build_network(architecture, shapes=None, **model):
    """
    Make a network with random weights.

    :param architecture: one of ``NETWORKS``.
    :param shapes: layers of other widths, see :mod:`mt_training.models.shapes`.
    :param model: the ``model`` section of an experiment: parameters of the network's class that differ from
        what the architecture's name stands for.
    :raises MtError: an unknown architecture or parameter, or a value the network cannot have.
    """
    if architecture not in NETWORKS:
        raise MtError(f"there is no architecture '{architecture}'; known: {', '.join(sorted(NETWORKS))}")
    network, size = NETWORKS[architecture]
    known = list(inspect.signature(network).parameters)
    unknown = [name for name in model if name not in known]
    if unknown:
        raise MtError(
            f"{architecture} has no '{unknown[0]}' in its model section; it takes {', '.join(known)}"
        )
    net = network(**{**size, **model})
    if shapes:
        reshape(net, shapes)
    return net
