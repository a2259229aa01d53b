"""Classical keypoints behind the same call as the network, so that both run in one pipeline."""

from mt_perception.errors import MtError
from mt_perception.features.classical import OrbFeatures, SiftFeatures

FEATURES = {'sift': SiftFeatures, 'orb': OrbFeatures}

__all__ = ['FEATURES', 'OrbFeatures', 'SiftFeatures', 'create_features']


def create_features(name, max_keypoints=1000):
    """
    Return the extractor called ``name``.

    :param name: one of ``FEATURES``.
    :param max_keypoints: keep at most this many of the strongest keypoints.
    :return: object with ``process(image, camera=None, tasks=None)`` that returns a
        :class:`mt_perception.types.Perception` with keypoints only, as the network's pipeline does.
    :raises MtError: unknown name.
    """
    if name not in FEATURES:
        raise MtError(f"features '{name}' are not one of {', '.join(FEATURES)}")
    return FEATURES[name](max_keypoints)
