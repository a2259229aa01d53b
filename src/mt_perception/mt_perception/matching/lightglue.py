"""LightGlue as an ONNX model under the matcher contract."""

import numpy as np

from mt_perception.errors import ModelError
from mt_perception.inference.factory import MAX_KEYPOINTS, create_engine
from mt_perception.inference.models import default_matcher
from mt_perception.matching.base import Matcher, Matches
from mt_perception.matching.nearest import check_same_model


class LightGlueMatcher(Matcher):
    """
    LightGlue (Lindenberger et al., ICCV 2023): attention over both sets of keypoints, then an assignment.

    :param model: path of a matcher model, None = the one shipped.
    :param engine: 'auto', 'tensorrt' or 'onnxruntime'.
    :param min_score: smallest score of a match, beside the threshold inside the model.
    :param max_keypoints: number of keypoints per image an engine of fixed size is built for; of more, the
        strongest are matched there.
    :param precision: see :func:`mt_perception.inference.create_engine`, as all further arguments.
    :raises ModelError, EngineError: as ``create_engine``.
    """

    name = 'lightglue'

    def __init__(
        self,
        model=None,
        engine='auto',
        min_score=0.0,
        max_keypoints=MAX_KEYPOINTS,
        precision='fp16',
        cache_dir=None,
        threads=0,
        logger=None,
    ):
        path = default_matcher() if model is None else model
        self.min_score = min_score
        self.engine = create_engine(
            path, engine, None, precision, cache_dir, threads, logger, max_keypoints, kind='matcher'
        )

    @property
    def warnings(self):
        """Sentences a user should read."""
        return self.engine.warnings

    def match(self, first, second):
        """
        Match two sets of keypoints; see :meth:`mt_perception.matching.base.Matcher.match`.

        :raises ModelError: keypoints of another model than the matcher was trained for.
        """
        check_same_model(first, second)
        metadata = self.engine.metadata
        if first.model_id != metadata.matches_model:
            raise ModelError(
                f"matcher '{self.engine.model.path}' matches keypoints of model '{metadata.matches_model}', "
                f"not of '{first.model_id}': name the matcher of that model, or use the matcher nearest"
            )
        if len(first) == 0 or len(second) == 0:
            return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
        inputs = {**self._inputs(first, '0'), **self._inputs(second, '1')}
        out = self.engine.run(inputs)
        return _one_to_one(
            out['matches0'][0], out['matching_scores0'][0], len(first), len(second), self.min_score
        )

    def close(self):
        """Free the engine."""
        self.engine.close()

    def _inputs(self, keypoints, suffix):
        """Return the four input arrays of one image, zero-padded where the engine needs a fixed number."""
        n = self.engine.padded_keypoints or len(keypoints)
        arrays = {
            'keypoints': keypoints.xy,
            'descriptors': keypoints.descriptors,
            'scores': keypoints.scores,
        }
        out = {'size' + suffix: np.array([keypoints.image_size], np.float32)}
        for name, array in arrays.items():
            array = np.asarray(array[:n], np.float32)
            padding = [(0, n - len(array))] + [(0, 0)] * (array.ndim - 1)
            out[name + suffix] = (
                np.pad(array, padding)[None] if n > len(array) else np.ascontiguousarray(array)[None]
            )
        return out


def _one_to_one(matches, scores, n_first, n_second, min_score):
    """
    Turn the arrays of the network into pairs.

    Pairs with padding are dropped; of several pairs with the same second keypoint the surest one stays.

    :param matches: [N] int32 index into the second set, -1 = none.
    :param scores: [N] float32.
    :return: :class:`Matches`, by index of the first set.
    """
    matches, scores = matches[:n_first], scores[:n_first]
    rows = np.flatnonzero((matches >= 0) & (matches < n_second) & (scores >= min_score))
    rows = rows[np.argsort(-scores[rows], kind='stable')]
    _, surest = np.unique(matches[rows], return_index=True)
    rows = np.sort(rows[surest])
    index = np.stack([rows, matches[rows]], 1).astype(np.int64)
    return Matches(index, scores[rows].astype(np.float32))
