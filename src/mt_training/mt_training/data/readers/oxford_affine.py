"""
Oxford affine covariant regions (Mikolajczyk et al., IJCV 2005): graf, boat, leuven, bikes and others.

A scene is a folder with ``img1`` … ``img6`` (png, ppm, pgm) and ``H1to2p`` … ``H1to6p``.
"""

from mt_training.data.readers.planar import read_numbered_scenes


def read_scenes(root):
    """
    List the scenes below ``root``, which may also be a single scene.

    :return: list of :class:`mt_training.data.readers.planar.PlanarScene` in name order.
    :raises EvaluationError: no scene, or an incomplete one.
    """
    return read_numbered_scenes(root, 'Oxford affine', 'img{}', 'H1to{}p')
