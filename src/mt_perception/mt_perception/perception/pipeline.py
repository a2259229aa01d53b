"""From a camera image to everything the network says about it."""

import time

import numpy as np

from mt_perception.errors import CameraError, ImageError, ModelError
from mt_perception.inference.contract import TASK_OUTPUTS
from mt_perception.inference.factory import create_engine
from mt_perception.inference.input_size import choose_input_size
from mt_perception.inference.models import default_model
from mt_perception.perception.images import resize
from mt_perception.perception.sampling import sample_classes, sample_depth
from mt_perception.types import Keypoints, Perception

SQUEEZE_WARNING = 1.1  # change of the aspect ratio worth a warning


class PerceptionPipeline:
    """
    Image → network → :class:`mt_perception.types.Perception`.

    Keypoints come with the depth and the class at their place where the model has these tasks, so both are
    computed along with keypoints even when they are not asked for themselves.

    :param model: path of a perception model, None = the one shipped.
    :param engine: 'auto', 'tensorrt' or 'onnxruntime'.
    :param input_size: (width, height) the network sees; 0 = chosen from the camera's aspect ratio and the
        model's own size (an engine built for one size takes the model's own).
    :param max_keypoints: keep at most as many, the strongest.
    :param min_score: keep keypoints with at least this score.
    :param precision: 'fp16' or 'fp32', see :func:`mt_perception.inference.create_engine`, as all further
        arguments.
    :raises ModelError, EngineError: as ``create_engine``.
    """

    def __init__(
        self,
        model=None,
        engine='auto',
        input_size=(0, 0),
        max_keypoints=512,
        min_score=0.0,
        precision='fp16',
        cache_dir=None,
        threads=0,
        logger=None,
    ):
        path = default_model() if model is None else model
        self._requested = tuple(input_size or (0, 0))
        self._sizes = {}
        self._logger = logger
        self.max_keypoints = max_keypoints
        self.min_score = min_score
        self.engine = create_engine(
            path, engine, self._requested, precision, cache_dir, threads, logger, kind='perception'
        )

    @property
    def metadata(self):
        """:class:`mt_perception.inference.contract.ModelMetadata` of the model."""
        return self.engine.metadata

    @property
    def tasks(self):
        """Tasks of the model, in the order of the contract."""
        return tuple(task for task in TASK_OUTPUTS if task in self.metadata.tasks)

    @property
    def warnings(self):
        """Sentences a user should read."""
        return self.engine.warnings

    def network_size(self, image_size):
        """Return the (width, height) the network sees for images of ``image_size``."""
        if image_size not in self._sizes:
            size = choose_input_size(self.engine.model, image_size, self._requested)
            if not self.engine.any_size:
                self._warn_when_squeezed(image_size, size)
                size = self.engine.input_size
            self._sizes[image_size] = size
        return self._sizes[image_size]

    def warm_up(self, image_size=None, tasks=None):
        """Run once on a black image, so that the first real one is not slower than the others."""
        width, height = image_size or self.engine.input_size
        self.process(np.zeros((height, width, 3), np.uint8), tasks=tasks)

    def process(self, image, camera=None, tasks=None):
        """
        Process one image.

        :param image: [H,W,3] uint8 RGB.
        :param camera: :class:`mt_perception.camera.Camera` of ``image``: makes depth metric for a model whose
            depth depends on the focal length; None = the focal length the model was trained for is assumed.
        :param tasks: which tasks are wanted, None = all the model has.
        :return: :class:`mt_perception.types.Perception`.
        :raises ImageError: not an RGB image.
        :raises CameraError: the camera is of another image size.
        :raises ModelError: a task the model does not have.
        """
        start = time.perf_counter()
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ImageError(f'an RGB image is [H,W,3] uint8, not {list(image.shape)} {image.dtype}')
        wanted = set(self.tasks if tasks is None else tasks)
        if wanted - set(self.tasks):
            raise ModelError(
                f"model '{self.engine.model.path}' has no task "
                f'{", ".join(sorted(wanted - set(self.tasks)))}; it has {", ".join(self.tasks)}'
            )
        image_size = (image.shape[1], image.shape[0])
        if camera is not None and (camera.width, camera.height) != image_size:
            raise CameraError(
                f'the camera is calibrated for {camera.width} × {camera.height} images, '
                f'but the image is {image_size[0]} × {image_size[1]}'
            )
        size = self.network_size(image_size)
        network_image = np.ascontiguousarray(resize(image, size))[None]
        preprocessed = time.perf_counter()

        arrays = self.engine.run({'image': network_image}, self._outputs(wanted)) if wanted else {}
        inferred = time.perf_counter()

        out = Perception(image_size)
        segmentation, depth = self._map(arrays, 'segmentation', size), self._map(arrays, 'depth', size)
        depth = self._metric(depth, camera, size)
        if 'segmentation' in wanted:
            out.segmentation = segmentation
            if 'segmentation_confidence' in arrays:
                out.segmentation_confidence = self._map(arrays, 'segmentation_confidence', size)
        if 'depth' in wanted:
            out.depth = depth
        if 'keypoints' in wanted:
            out.keypoints = self._keypoints(arrays, depth, segmentation, size, image_size)
        if 'global_descriptor' in wanted:
            out.global_descriptor = arrays['global_descriptor'][0]
        done = time.perf_counter()
        out.timings_ms = {
            'preprocess': (preprocessed - start) * 1e3,
            'inference': (inferred - preprocessed) * 1e3,
            'postprocess': (done - inferred) * 1e3,
        }
        return out

    def close(self):
        """Free the engine."""
        self.engine.close()

    def _warn_when_squeezed(self, image_size, better):
        """Say that the engine's one size does not suit the camera, when it could have been another."""
        width, height = self.engine.input_size
        squeeze = width / height * image_size[1] / image_size[0]
        if better != (width, height) and max(squeeze, 1 / squeeze) > SQUEEZE_WARNING:
            self.warnings.append(
                f'{image_size[0]} × {image_size[1]} images are squeezed into {width} × {height}, the size '
                f'the engine is built for: set input_width to {better[0]} and input_height to {better[1]}'
            )
            if self._logger is not None:
                self._logger.warning(self.warnings[-1])

    def _outputs(self, tasks):
        """Names of the outputs needed for ``tasks``."""
        needed = set(tasks)
        if 'keypoints' in needed:
            needed |= {'segmentation', 'depth'} & set(self.tasks)
        names = [name for task in TASK_OUTPUTS if task in needed for name in TASK_OUTPUTS[task]]
        if 'segmentation' in tasks and 'segmentation_confidence' in self.engine.model.outputs:
            names.append('segmentation_confidence')
        return names

    def _map(self, arrays, name, size):
        """Return the [h,w] map ``name``, None when it was not computed."""
        if name not in arrays:
            return None
        array = arrays[name][0]
        if array.shape != (size[1], size[0]):
            raise ModelError(
                f"model '{self.engine.model.path}' gives {name} of {array.shape[1]} × {array.shape[0]} "
                f'pixels for an image of {size[0]} × {size[1]}: it breaks the model contract, export it again'
            )
        return array

    def _metric(self, depth, camera, size):
        """Scale depth [h,w] from the focal length it was trained for to the camera's."""
        focal = self.metadata.depth_focal
        if depth is None or camera is None or focal is None:
            return depth
        return depth * np.float32(camera.scaled(*size).fx / focal)

    def _keypoints(self, arrays, depth, segmentation, size, image_size):
        """Select, locate and annotate the keypoints of the network's arrays."""
        scores = arrays['scores'][0]
        keep = np.flatnonzero((scores > 0) & (scores >= self.min_score))[: self.max_keypoints]
        xy = arrays['keypoints'][0][keep]
        scale = np.array(image_size, np.float32) / np.array(size, np.float32)
        if self.metadata.depth_kind != 'metric':
            depth = None  # keypoints carry metres or nothing
        return Keypoints.create(
            (xy + np.float32(0.5)) * scale - np.float32(0.5),
            scores[keep],
            arrays['descriptors'][0][keep],
            image_size,
            depth=None if depth is None else sample_depth(depth, xy),
            class_id=None if segmentation is None else sample_classes(segmentation, xy),
            model_id=self.metadata.model_id,
        )
