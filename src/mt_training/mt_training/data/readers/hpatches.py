"""
HPatches full sequences (Balntas et al., CVPR 2017): ``i_*`` changes the light, ``v_*`` the viewpoint.

A scene is a folder with ``1.ppm`` … ``6.ppm`` (or png, …) and ``H_1_2`` … ``H_1_6``.
"""

import re

from mt_training.data.readers.planar import PlanarScene, find_image, find_scenes, read_homography

HOMOGRAPHY = re.compile(r'H_1_(\d+)$')
# left out by D2-Net and its followers because of their size: 108 scenes, 540 pairs remain
LARGE_SCENES = (
    'i_contruction',
    'i_crownnight',
    'i_dc',
    'i_pencils',
    'i_whitebuilding',
    'v_artisans',
    'v_astronautis',
    'v_talent',
)


def read_scenes(root, skip_large=False):
    """
    List the scenes below ``root``, which may also be a single scene.

    :param skip_large: without ``LARGE_SCENES``.
    :return: list of :class:`PlanarScene` in name order.
    :raises EvaluationError: no scene, or an incomplete one.
    """
    out = []
    for folder in find_scenes(root, 'HPatches', _is_scene):
        if skip_large and folder.name in LARGE_SCENES:
            continue
        numbers = sorted(int(m[1]) for p in folder.iterdir() if (m := HOMOGRAPHY.match(p.name)))
        images = [find_image(folder, str(n)) for n in (1, *numbers)]
        out.append(PlanarScene(folder.name, images, [read_homography(folder / f'H_1_{n}') for n in numbers]))
    return out


def _is_scene(folder):
    return any(HOMOGRAPHY.match(p.name) for p in folder.iterdir())
