"""
HPatches full sequences (Balntas et al., CVPR 2017): ``i_*`` changes the light, ``v_*`` the viewpoint.

A scene is a folder with ``1.ppm`` … ``6.ppm`` (or png, …) and ``H_1_2`` … ``H_1_6``.
"""

from mt_training.data.readers.planar import read_numbered_scenes

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
    :return: list of :class:`mt_training.data.readers.planar.PlanarScene` in name order.
    :raises EvaluationError: no scene, or an incomplete one.
    """
    return read_numbered_scenes(root, 'HPatches', '{}', 'H_1_{}', LARGE_SCENES if skip_large else ())
