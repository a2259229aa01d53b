"""Find which keypoints of two images show the same point of the scene."""

from mt_perception.errors import ModelError
from mt_perception.inference.factory import MAX_KEYPOINTS
from mt_perception.matching.base import Matcher, Matches
from mt_perception.matching.lightglue import LightGlueMatcher
from mt_perception.matching.nearest import NearestMatcher

MATCHERS = ('lightglue', 'nearest')

__all__ = ['MATCHERS', 'LightGlueMatcher', 'Matcher', 'Matches', 'NearestMatcher', 'create_matcher']


def create_matcher(
    name,
    model=None,
    *,
    min_score=0.0,
    ratio=None,
    max_keypoints=MAX_KEYPOINTS,
    engine='auto',
    precision='fp16',
    cache_dir=None,
    threads=0,
    logger=None,
):
    """
    Make a matcher by name.

    :param name: one of ``MATCHERS``.
    :param model: lightglue: matcher model file, None = the one shipped.
    :param min_score: smallest score of a match: LightGlue's confidence, or the cosine similarity for nearest.
    :param ratio: nearest: Lowe's ratio, None = no test.
    :param max_keypoints: and all that follow, lightglue: see :class:`LightGlueMatcher`.
    :raises ModelError: an unknown name, or a model that cannot be used.
    :raises EngineError: the engine cannot be used.
    """
    if name == 'lightglue':
        return LightGlueMatcher(
            model, engine, min_score, max_keypoints, precision, cache_dir, threads, logger
        )
    if name == 'nearest':
        return NearestMatcher(min_score, ratio)
    raise ModelError(f"matcher '{name}' is not one of {', '.join(MATCHERS)}")
