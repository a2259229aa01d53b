"""ALIKED (Zhao et al., 2023) through kornia, a peer to compare with; nothing else here needs torch."""

from pathlib import Path
from time import perf_counter

import numpy as np

from mt_perception.errors import EvaluationError
from mt_perception.types import Keypoints, Perception

VARIANTS = ('aliked-t16', 'aliked-n16', 'aliked-n16rot', 'aliked-n32')
DEFAULT_VARIANT = 'aliked-n16rot'
# buffers that kornia makes itself and the published weights do not have
MADE_BY_KORNIA = {'dkd.hw_grid'}


class AlikedFeatures:
    """
    The ``max_keypoints`` strongest keypoints of ALIKED, with the call of the project's other features.

    :param weights: published weights (``aliked-n16rot.pth``); the variant is taken from the file name.
    :param max_keypoints: k.
    :raises EvaluationError: torch or kornia is not installed, or the file is missing or not such weights.
    """

    name = 'aliked'

    def __init__(self, weights, max_keypoints):
        if weights is None:
            raise EvaluationError('--features aliked needs its weights: name them with --aliked-weights PATH')
        path = Path(weights).expanduser()
        if not path.is_file():
            raise EvaluationError(f"ALIKED weights '{path}' are missing")
        try:
            import torch
            from kornia.feature import ALIKED
        except ImportError as error:
            raise EvaluationError(
                f'--features aliked needs torch and kornia, and {error.name or error} cannot be imported: '
                'install the requirements of mt_training'
            ) from error
        self._torch = torch
        self.variant = path.stem if path.stem in VARIANTS else DEFAULT_VARIANT
        # a threshold of 0 or less takes the strongest max_num_keypoints maxima
        self._network = ALIKED(self.variant, max_num_keypoints=max_keypoints, detection_threshold=0).eval()
        try:
            missing, unexpected = self._network.load_state_dict(
                torch.load(path, map_location='cpu', weights_only=True), strict=False
            )
        except Exception as error:  # torch raises whatever the unpickler or the shapes raise
            raise EvaluationError(
                f"'{path}' does not hold weights of {self.variant}: {str(error).splitlines()[0]}"
            ) from error
        if unexpected or set(missing) - MADE_BY_KORNIA:
            raise EvaluationError(f"'{path}' does not hold weights of {self.variant}: names of layers differ")

    def process(self, image, camera=None, tasks=None):
        """
        Find keypoints in one image.

        :param image: [H,W,3] uint8 RGB.
        :return: :class:`mt_perception.types.Perception` with ``keypoints`` and ``timings_ms``.
        """
        torch = self._torch
        start = perf_counter()
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
        with torch.inference_mode():
            found = self._network(tensor)[0]
        xy, scores, descriptors = (
            getattr(found, name).numpy() for name in ('keypoints', 'keypoint_scores', 'descriptors')
        )
        order = np.argsort(-scores, kind='stable')
        size = (image.shape[1], image.shape[0])
        keypoints = Keypoints.create(
            xy[order], scores[order], descriptors[order], size, model_id=self.variant
        )
        return Perception(size, keypoints=keypoints, timings_ms={'inference': (perf_counter() - start) * 1e3})
