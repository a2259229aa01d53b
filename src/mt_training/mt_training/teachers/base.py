"""What a teacher says about one image, and how the arrays of a plain model are understood."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.errors import ModelError

DEPTH_KINDS = ('metric', 'relative', 'inverse_relative')


@dataclass
class Prediction:
    """
    What a teacher says about one image, at the teacher's own size.

    :param probabilities: [C,h,w] float32, or None.
    :param ids: [h,w] uint8 class ids where there are no probabilities, or None.
    :param confidence: [h,w] float32 0–1 that belongs to ``ids``, or None.
    :param depth: [h,w] float32 metres (or up to scale), NaN = unknown, or None.
    """

    probabilities: np.ndarray | None = None
    ids: np.ndarray | None = None
    confidence: np.ndarray | None = None
    depth: np.ndarray | None = None


@dataclass
class PlainSettings:
    """
    How a model that is not under the model contract takes images, and what comes out.

    :param task: 'segmentation' or 'depth'.
    :param class_names: of the segmentation, by id.
    :param input_size: (width, height), None = the model's own, or the image's where it takes any.
    :param mean: [3] subtracted from RGB / ``scale``; of float inputs only.
    :param std: [3] divides after that.
    :param scale: what 255 is divided by first.
    :param depth_kind: out of ``DEPTH_KINDS``; inverse_relative is what MiDaS gives.
    :param output: name or number of the output; None = the first.
    """

    task: str
    class_names: tuple = ()
    input_size: tuple | None = None
    mean: tuple = (0.485, 0.456, 0.406)
    std: tuple = (0.229, 0.224, 0.225)
    scale: float = 255.0
    depth_kind: str = 'metric'
    output: str | None = None

    def __post_init__(self):
        """Check what would fail late."""
        if self.task == 'segmentation' and not self.class_names:
            raise ModelError('a plain segmentation model needs the names of its classes: --classes')
        if self.depth_kind not in DEPTH_KINDS:
            raise ModelError(f"depth kind '{self.depth_kind}' is not one of {', '.join(DEPTH_KINDS)}")


class PlainTeacher:
    """
    A model with one image in and class scores, class ids or depth out.

    Subclasses set ``shape`` (of the input, -1 where open) and ``dtype`` and implement ``_run``.

    :param path: the file.
    :param settings: :class:`PlainSettings`.
    """

    shape = (1, 3, -1, -1)
    dtype = np.float32

    def __init__(self, path, settings):
        self.path, self.settings = path, settings
        self.tasks = (settings.task,)
        self.class_names = tuple(settings.class_names) if settings.task == 'segmentation' else ()
        self.class_colors = None
        self.depth_kind = None
        if settings.task == 'depth':
            self.depth_kind = 'metric' if settings.depth_kind == 'metric' else 'relative'

    def _run(self, array):
        """Return the chosen output for an input array."""
        raise NotImplementedError

    @property
    def channels_last(self):
        """Whether the input is [1,H,W,3]."""
        return len(self.shape) == 4 and self.shape[3] == 3 and self.shape[1] != 3

    def size_for(self, image):
        """Return (width, height) of the input for an image."""
        own = self.shape[1:3] if self.channels_last else self.shape[2:4]
        fixed = tuple(int(v) if isinstance(v, (int, np.integer)) and v > 0 else None for v in own)[::-1]
        if self.settings.input_size:
            wanted = tuple(self.settings.input_size)
            if any(f is not None and f != w for f, w in zip(fixed, wanted)):
                raise ModelError(
                    f"'{self.path}' takes images of {fixed[0]} × {fixed[1]}, not {wanted[0]} × {wanted[1]}"
                )
            return wanted
        height, width = image.shape[:2]
        return tuple(f or max(32, round(v / 32) * 32) for f, v in zip(fixed, (width, height)))

    def prepare(self, image):
        """Resize, normalise and arrange an RGB image for the model."""
        width, height = self.size_for(image)
        shrinks = width * height < image.shape[0] * image.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        array = cv2.resize(image, (width, height), interpolation=method)
        if self.dtype == np.int8:
            array = (array.astype(np.int16) - 128).astype(np.int8)
        elif self.dtype != np.uint8:
            array = (array.astype(np.float32) / self.settings.scale - self.settings.mean) / self.settings.std
            array = array.astype(self.dtype)
        if not self.channels_last:
            array = array.transpose(2, 0, 1)
        return np.ascontiguousarray(array[None])

    def predict(self, image, camera=None):
        """
        Label one image.

        :param image: [H,W,3] uint8 RGB.
        :return: :class:`Prediction`.
        :raises ModelError: the output is not what the task needs.
        """
        out = np.asarray(self._run(self.prepare(image)))
        return self.understand(out)

    def understand(self, out):
        """Turn the model's output into a :class:`Prediction`."""
        if out.ndim > 2 and out.shape[0] == 1:
            out = out[0]
        if self.settings.task == 'depth':
            return Prediction(depth=self._depth(np.squeeze(out)))
        if not np.issubdtype(out.dtype, np.floating):
            return Prediction(ids=self._ids(np.squeeze(out)))
        count = len(self.class_names)
        if out.ndim == 3 and out.shape[0] == count:
            return Prediction(probabilities=softmax(out.astype(np.float32)))
        if out.ndim == 3 and out.shape[2] == count:
            return Prediction(probabilities=softmax(out.astype(np.float32).transpose(2, 0, 1)))
        if out.ndim == 2:
            return Prediction(ids=self._ids(out))
        raise ModelError(
            f"'{self.path}' gives an output of shape {list(out.shape)}, which fits neither scores of the "
            f'{count} classes nor class ids; name another with --output-name, or other --classes'
        )

    def _ids(self, out):
        if out.ndim != 2:
            raise ModelError(f"'{self.path}' gives class ids of shape {list(out.shape)}, not [height, width]")
        count = len(self.class_names)
        ids = np.rint(out).astype(np.int64)
        return np.where((ids >= 0) & (ids < count), ids, 255).astype(np.uint8)

    def _depth(self, out):
        if out.ndim != 2:
            raise ModelError(f"'{self.path}' gives depth of shape {list(out.shape)}, not [height, width]")
        depth = out.astype(np.float32)
        if self.settings.depth_kind == 'inverse_relative':
            floor = 1e-3 * max(float(np.nanmax(depth)), 1e-6)
            depth = np.where(depth > floor, 1 / np.maximum(depth, floor), np.nan)
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
        return depth.astype(np.float32)


def softmax(scores):
    """Turn [C,h,w] scores into probabilities; what already sums to one stays."""
    total = scores.sum(axis=0)
    if scores.min() >= 0 and np.abs(total - 1).max() < 1e-3:
        return scores
    scores = np.exp(scores - scores.max(axis=0))
    return scores / scores.sum(axis=0)
