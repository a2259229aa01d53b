"""
Oxford affine covariant regions (Mikolajczyk et al., IJCV 2005): graf, boat, leuven, bikes and others.

A scene is a folder with ``img1`` … ``img6`` (png, ppm, pgm) and ``H1to2p`` … ``H1to6p``.
"""

import re

from mt_training.data.readers.planar import PlanarScene, find_image, find_scenes, read_homography

HOMOGRAPHY = re.compile(r'H1to(\d+)p$')


def read_scenes(root):
    """
    List the scenes below ``root``, which may also be a single scene.

    :return: list of :class:`PlanarScene` in name order.
    :raises EvaluationError: no scene, or an incomplete one.
    """
    out = []
    for folder in find_scenes(root, 'Oxford affine', _is_scene):
        numbers = sorted(int(m[1]) for p in folder.iterdir() if (m := HOMOGRAPHY.match(p.name)))
        images = [find_image(folder, f'img{n}') for n in (1, *numbers)]
        out.append(PlanarScene(folder.name, images, [read_homography(folder / f'H1to{n}p') for n in numbers]))
    return out


def _is_scene(folder):
    return any(HOMOGRAPHY.match(p.name) for p in folder.iterdir())
