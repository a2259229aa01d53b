"""
Pairs of views of any set of frames, read from disk as they are drawn.

The second view is another one of the same image, or of a frame near it where the camera's poses are known. A
sample has the keys of :mod:`mt_training.data.pairs`; labels that the set lacks are ignored or unknown, so
that batches mix sets that each have only some.
"""

import copy

import cv2
import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import MtError
from mt_training.data.augment import (
    IGNORE,
    random_crop,
    random_homography,
    warp_depth,
    warp_image,
    warp_labels,
    warp_points,
)
from mt_training.data.light import photometric
from mt_training.data.pairs import (
    CELL,
    MAX_LABEL_ROLL,
    SKY_DEPTH,
    camera_keys,
    cell_targets,
    corners,
    inside,
    pad_points,
    roll,
)
from mt_training.data.segments import merge_segments

DEFAULTS = {
    'scale': [0.5, 2.0],  # zoom of the first view; 1 fills the view with the image
    'scale_of': 'view',  # 'view', or 'pixels': 1 is the image's own pixels
    'flip': True,
    'roll': 0.0,  # radians
    'photometric': 1.0,  # strength of colour jitter, blur, noise and shadow; 0 leaves the light alone
    'second': {'max_rotation': 0.15, 'scale': [0.8, 1.25], 'perspective': 0.0},  # see random_homography
    'gap': 0,  # frames; > 0: the second view is of another frame at most this far away
    'sky_depth': True,  # take the sky to be SKY_DEPTH metres away
    'assume_focal': None,  # image widths; focal length of images whose camera is not known
    'panoptic': False,  # tell objects apart: samples have ``segments`` too, see mt_training.data.segments
}


class LabelledViews:
    """
    Draws pairs of views.

    :param frames: :class:`mt_training.data.readers.sample.FrameSet`.
    :param size: (width, height) of the views.
    :param focal: canonical focal length in pixels.
    :param table: [256] uint8, class id of the set → of the experiment, or None when it has no classes.
    :param sky: class id of the sky in the experiment, or None.
    :param keypoints: function index → (xy, scores) of the teacher or None.
    :param options: see ``DEFAULTS``.
    """

    def __init__(self, frames, size, focal, table=None, sky=None, keypoints=None, **options):
        self.frames, self.size, self.focal = frames, tuple(size), focal
        self.table, self.sky, self.keypoints = table, sky, keypoints or (lambda index: None)
        unknown = [key for key in options if key not in DEFAULTS]
        if unknown:
            raise MtError(f"a set of frames has no key '{unknown[0]}'; it has {', '.join(DEFAULTS)}")
        self.options = {**DEFAULTS, **options}
        if self.options['scale_of'] not in ('view', 'pixels'):
            raise MtError(f"scale_of is 'view' or 'pixels', not '{self.options['scale_of']}'")
        low, high = self.options['scale']
        if not 0 < low <= high:
            raise MtError(f'scale [{low}, {high}] is no range of zooms above 0')
        if self.options['panoptic'] and (table is None or 'panoptic' not in frames.provides):
            raise MtError(
                f'panoptic: true needs a set with segments; this one has {", ".join(frames.provides)} '
                '(of mapillary with options: {panoptic: true})'
            )

    def __len__(self):
        """Return the number of images."""
        return len(self.frames)

    def sample(self, rng, geometry=False, size=None):
        """
        Draw one pair.

        :param rng: numpy Generator.
        :param geometry: also ``matrices``, image → view pixels.
        :param size: (width, height) of this pair instead of the usual one.
        """
        if size is not None and tuple(size) != self.size:
            other = copy.copy(self)
            other.size = tuple(size)
            return other.sample(rng, geometry)
        index = int(rng.integers(len(self.frames)))
        first = self.frames[index]
        indices, samples = [index, index], [first, first]
        if self.options['gap']:
            indices[1], samples[1] = self._near(rng, index, first)
        matrices = self._geometry(rng, samples)
        views = [self._view(rng, i, s, m) for i, s, m in zip(indices, samples, matrices, strict=True)]
        out = {key: np.stack([view[key] for view in views]) for key in views[0]}
        same = indices[0] == indices[1]
        pair = self._points(rng, index, first, matrices) if same else (np.zeros((0, 2)),) * 2
        out['points'], out['points_valid'] = pad_points(rng, *pair)
        relative = matrices[1] @ np.linalg.inv(matrices[0]) if same else np.full((3, 3), np.nan)
        out['homography'] = relative.astype(np.float32)
        out['place'] = np.int64(index)
        pose = np.eye(4)
        if not same:
            known = first.pose is not None and samples[1].pose is not None
            pose = np.linalg.inv(samples[1].pose) @ first.pose if known else None
        cameras = [self._camera(s) for s in samples]
        out.update(camera_keys(matrices, cameras, [zoom_of(m) for m in matrices], self.focal, pose))
        if geometry:
            out['matrices'] = matrices
        return out

    def _near(self, rng, index, first):
        """Return (index, sample) of another frame of the same group; the same one where there is none."""
        gap = self.options['gap']
        for _ in range(10):
            other = index + int(rng.integers(1, gap + 1)) * (1 if rng.random() < 0.5 else -1)
            if 0 <= other < len(self.frames):
                sample = self.frames[other]
                if sample.group == first.group:
                    return other, sample
        return index, first

    def _geometry(self, rng, samples):
        """Draw the matrices [3,3] of both views, image → view pixels."""
        options = self.options
        sources = [s.image.shape[1::-1] for s in samples]
        first, _ = random_crop(
            rng,
            sources[0],
            self.size,
            tuple(options['scale']),
            options['roll'],
            options['flip'],
            options['scale_of'] == 'pixels',
        )
        if samples[0] is samples[1]:
            return [first, random_homography(rng, self.size, self.size, **options['second']) @ first]
        # the same crop of the other frame, mirrored alike: what the views have in common stays in sight
        return [first, first]

    def _view(self, rng, index, sample, matrix):
        """Return one view: images [3,h,w], labels, depth, cells and, of panoptic sets, segments."""
        image = warp_image(sample.image, matrix, self.size)
        strength = self.options['photometric']
        if strength:
            image = photometric(rng, image, strength)
        shape = self.size[::-1]
        tilted = np.abs(matrix[2, :2]).max() > 1e-9
        labels = np.full(shape, IGNORE, np.uint8)
        if sample.labels is not None and self.table is not None and roll(matrix) <= MAX_LABEL_ROLL:
            labels = warp_labels(self.table[sample.labels], matrix, self.size)
        depth = np.full(shape, np.nan, np.float32)
        # a homography with perspective is no camera motion that leaves Z as it is
        if sample.depth is not None and not tilted:
            camera = self._camera(sample)
            if camera is None:
                raise MtError(
                    f"'{sample.name}' has depth but no calibration, so its focal length is not known: "
                    'give assume_focal in image widths'
                )
            view_focal = camera.fx * zoom_of(matrix)
            depth = warp_depth(sample.depth, matrix, self.size) * np.float32(self.focal / view_focal)
        if self.options['sky_depth'] and self.sky is not None:
            depth[labels == self.sky] = SKY_DEPTH
        view = {
            'images': image.transpose(2, 0, 1),
            'labels': labels,
            'depth': depth,
            'cells': self._cells(index, sample, matrix),
        }
        if self.options['panoptic']:
            view['segments'] = self._segments(sample, matrix)
        return view

    def _segments(self, sample, matrix):
        """Return the map of segments of a view, [h,w] int32."""
        if sample.segment_ids is None or roll(matrix) > MAX_LABEL_ROLL:
            return np.full(self.size[::-1], IGNORE, np.int32)
        merged = merge_segments(sample.segment_ids, sample.segments, self.table)
        return warp_labels(merged, matrix, self.size).astype(np.int32)

    def _cells(self, index, sample, matrix):
        """Return the keypoint cells of a view; ignored without a teacher and outside the image."""
        width, height = self.size
        keypoints = self.keypoints(index)
        if keypoints is None:
            return np.full((height // CELL, width // CELL), IGNORE, np.uint8)
        cells = cell_targets(warp_points(matrix, keypoints[0]), keypoints[1], self.size)
        covered = warp_labels(np.zeros(sample.image.shape[:2], np.uint8), matrix, self.size)
        cells[covered[CELL // 2 :: CELL, CELL // 2 :: CELL] == IGNORE] = IGNORE
        return cells

    def _points(self, rng, index, sample, matrices):
        """Return corresponding pixels [N,2] of two views of one image."""
        keypoints = self.keypoints(index)
        source = sample.image.shape[1::-1]
        if keypoints is None:
            shrink = min(1.0, 640 / source[0])
            small = cv2.resize(sample.image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            points = (corners(small) + 0.5) / shrink - 0.5
        else:
            points = keypoints[0]
        points = np.concatenate([points, rng.uniform(0, 1, (128, 2)) * np.array(source)])
        pair = [warp_points(matrix, points) for matrix in matrices]
        keep = inside(pair[0], self.size) & inside(pair[1], self.size) & inside(points, source)
        return pair[0][keep], pair[1][keep]

    def _camera(self, sample):
        """Return the sample's camera, or the assumed one, or None."""
        if sample.camera is not None or self.options['assume_focal'] is None:
            return sample.camera
        height, width = sample.image.shape[:2]
        return Camera.from_focal(width, height, self.options['assume_focal'] * width)


def zoom_of(matrix):
    """Return how much a similarity enlarges; of a homography, at the origin of the image."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
