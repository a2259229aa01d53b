"""
Training samples: two views of the same thing with the labels there are.

Every sample is a dict of arrays, the same keys for every set:

``images`` [2,3,h,w] uint8 RGB · ``labels`` [2,h,w] uint8, 255 = ignored · ``depth`` [2,h,w] float32
metres at the canonical focal length, NaN = unknown · ``cells`` [2,h/4,w/4] uint8, keypoint's pixel in its
4×4 cell, 16 = none, 255 = ignored · ``points`` [2,P,2] float32 corresponding pixels of the two views ·
``points_valid`` [P] bool · ``place`` int64, equal ids show the same place · ``intrinsics`` [2,3,3] float32,
camera to view pixels, NaN = unknown · ``depth_scale`` [2] float32, metres = ``depth`` × this, NaN = unknown ·
``relative_pose`` [4,4] float32, the first view's camera → the second's in metres, NaN = unknown ·
``homography`` [3,3] float32, pixels of the first view → the second, NaN where none relates them.
"""

import copy

import cv2
import numpy as np

from mt_training.data.augment import (
    IGNORE,
    mirror,
    random_crop,
    random_homography,
    view_intrinsics,
    warp_depth,
    warp_image,
    warp_labels,
    warp_points,
)
from mt_training.data.light import photometric
from mt_training.models.mtnet import CELL

POINTS = 256  # correspondences per pair, padded
SKY = 0  # class id
SKY_DEPTH = 100.0  # metres; what depth says where there is nothing to hit


MAX_LABEL_ROLL = 0.35  # radians; views rolled further only train keypoints and descriptors


def roll(matrix):
    """Return the angle in radians by which a homography or similarity turns the image, mirrors aside."""
    return abs(np.arctan2(matrix[1, 0], abs(matrix[0, 0])))


def inside(points, size, margin=1.0):
    """Return which [N,2] points are ``margin`` pixels inside an image of ``size`` = (width, height)."""
    return ((points >= margin) & (points <= np.array(size) - 1 - margin)).all(axis=1)


def cell_targets(points, scores, size):
    """
    Turn keypoints into cell classes.

    :param points: [N,2] pixels; those outside are dropped.
    :param scores: [N]; the strongest point of a cell wins.
    :param size: (width, height), multiples of 4.
    :return: [h/4,w/4] uint8, row-major pixel index within the cell, 16 = none.
    """
    width, height = size
    cells = np.full((height // CELL, width // CELL), CELL * CELL, np.uint8)
    pixel = np.floor(points + 0.5).astype(int)
    keep = (pixel >= 0).all(axis=1) & (pixel[:, 0] < width) & (pixel[:, 1] < height)
    order = np.argsort(scores[keep], kind='stable')
    x, y = pixel[keep][order].T
    cells[y // CELL, x // CELL] = (y % CELL) * CELL + x % CELL
    return cells


def corners(image, count=400):
    """Find Shi–Tomasi corners where there is no teacher: [N,2] float32 pixels."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = cv2.goodFeaturesToTrack(gray, count, 0.005, 4)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def pad_points(rng, first, second):
    """Draw at most POINTS pairs: ([2,POINTS,2] float32, [POINTS] bool)."""
    points, valid = np.zeros((2, POINTS, 2), np.float32), np.zeros(POINTS, bool)
    index = rng.permutation(len(first))[:POINTS]
    points[0, : len(index)], points[1, : len(index)] = first[index], second[index]
    valid[: len(index)] = True
    return points, valid


def camera_keys(matrices, cameras, zooms, focal, relative_pose=None):
    """
    Return the keys of a sample that say where its views look from.

    :param matrices: of each view, [3,3] image → view pixels.
    :param cameras: of each image, or None.
    :param zooms: of each view, what multiplies the focal length.
    :param focal: canonical focal length in pixels.
    :param relative_pose: [4,4] or None.
    """
    scale = [np.nan if c is None else c.fx * z / focal for c, z in zip(cameras, zooms, strict=True)]
    intrinsics = [view_intrinsics(m, c) for m, c in zip(matrices, cameras, strict=True)]
    pose = np.full((4, 4), np.nan) if relative_pose is None else relative_pose
    return {
        'intrinsics': np.stack(intrinsics).astype(np.float32),
        'depth_scale': np.array(scale, np.float32),
        'relative_pose': pose.astype(np.float32),
    }


class HomographyPairs:
    """
    Single images seen twice through random homographies.

    :param images: list of [H,W,3] uint8 RGB.
    :param labels: list of [H,W] uint8 class ids (or None entries), or None.
    :param keypoints: list of (xy, scores) from the teacher (or None entries).
    :param size: (width, height) of the views.
    :param sky: class id of the sky, which is taken to be far away, or None.
    :param blur: see :func:`mt_training.data.light.photometric`.
    """

    def __init__(self, images, labels, keypoints, size, scale=(0.8, 1.9), second=None, sky=SKY, blur=1.4):
        """Keep the images in memory; ``second``: how the other view is drawn, see random_homography."""
        self.blur = blur
        self.images, self.labels, self.keypoints = images, labels, keypoints
        self.second = second or {}
        self.size, self.scale, self.sky = size, scale, sky

    def sample(self, rng, geometry=False, size=None):
        """Draw one pair; with ``geometry`` also ``matrices``, image → view pixels; ``size``: of this pair."""
        if size is not None and tuple(size) != tuple(self.size):
            other = copy.copy(self)
            other.size = tuple(size)
            return other.sample(rng, geometry)
        index = int(rng.integers(len(self.images)))
        image = self.images[index]
        source = (image.shape[1], image.shape[0])
        first, _ = random_crop(rng, source, self.size, self.scale, max_rotation=0.05, flip=True)
        relative = random_homography(rng, self.size, self.size, **self.second)
        matrices = [first, relative @ first]
        keypoints = self.keypoints[index] if self.keypoints else None
        out = {'images': [], 'labels': [], 'cells': []}
        for matrix in matrices:
            out['images'].append(
                photometric(rng, warp_image(image, matrix, self.size), blur=self.blur).transpose(2, 0, 1)
            )
            unlabelled = self.labels is None or self.labels[index] is None
            if unlabelled or roll(matrix) > MAX_LABEL_ROLL:
                out['labels'].append(np.full(self.size[::-1], IGNORE, np.uint8))
            else:
                out['labels'].append(warp_labels(self.labels[index], matrix, self.size))
            if keypoints is None:
                out['cells'].append(np.full((self.size[1] // CELL, self.size[0] // CELL), IGNORE, np.uint8))
            else:
                cells = cell_targets(warp_points(matrix, keypoints[0]), keypoints[1], self.size)
                covered = warp_labels(np.zeros(image.shape[:2], np.uint8), matrix, self.size)
                cells[covered[CELL // 2 :: CELL, CELL // 2 :: CELL] == IGNORE] = IGNORE
                out['cells'].append(cells)
        points = corners(image) if keypoints is None else keypoints[0]
        extra = rng.uniform(0, 1, (128, 2)) * np.array(source)
        points = np.concatenate([points, extra])
        pair = [warp_points(matrix, points) for matrix in matrices]
        keep = inside(pair[0], self.size) & inside(pair[1], self.size) & inside(points, source)
        out['points'], out['points_valid'] = pad_points(rng, pair[0][keep], pair[1][keep])
        out = {key: np.stack(value) if isinstance(value, list) else value for key, value in out.items()}
        out['depth'] = np.where(out['labels'] == self.sky, np.float32(SKY_DEPTH), np.float32(np.nan))
        out['homography'] = relative.astype(np.float32)
        out['place'] = np.int64(index)
        out.update(camera_keys(matrices, (None, None), (1, 1), 1))
        if geometry:
            out['matrices'] = matrices
        return out


class RgbdPairs:
    """
    Two frames of a sequence with depth and poses, each through its own zoom, crop and roll.

    :param frames: list of dicts ``image`` [H,W,3] uint8, ``depth`` [H,W] float32 m (NaN unknown), ``labels``
        [H,W] uint8 or None, ``pose`` [4,4] camera-to-world, ``camera`` (mt_perception Camera), ``keypoints``
        (xy, scores) or None, ``group`` (frames of one group share a world), ``moving`` [H,W] bool, what moves
        by itself, or None.
    :param size: (width, height) of the views.
    :param focal: canonical focal length in pixels; labels are depth × focal / (view's focal length).
    :param gap: largest distance of the two frames in the list.
    :param flip: mirror half of the pairs, both views alike.
    """

    def __init__(self, frames, size, focal, gap=20, scale=(0.85, 1.5), roll=0.35, sky=SKY, flip=False):
        """Keep the frames in memory."""
        self.frames, self.size, self.focal = frames, size, focal
        self.gap, self.scale, self.roll, self.sky, self.flip = gap, scale, roll, sky, flip

    def _correspondences(self, rng, first, second):
        """Return pixels of both original images that show the same surface point."""
        image, depth = first['image'], first['depth']
        points = corners(image) if first['keypoints'] is None else first['keypoints'][0]
        extra = rng.uniform(0, 1, (128, 2)) * [image.shape[1] - 1, image.shape[0] - 1]
        points = np.concatenate([points, extra])
        pixel = np.clip(np.floor(points + 0.5).astype(int), 0, [image.shape[1] - 1, image.shape[0] - 1])
        z = depth[pixel[:, 1], pixel[:, 0]]
        keep = np.isfinite(z)
        if first.get('moving') is not None:
            keep &= ~first['moving'][pixel[:, 1], pixel[:, 0]]
        points, z = points[keep], z[keep]
        rays = np.column_stack([first['camera'].normalize(points), np.ones(len(points))])
        relative = np.linalg.inv(second['pose']) @ first['pose']
        other = (rays * z[:, None]) @ relative[:3, :3].T + relative[:3, 3]
        keep = other[:, 2] > 0.1
        points, other = points[keep], other[keep]
        target = second['camera'].project(other)
        keep = inside(target, (image.shape[1], image.shape[0]), 1)
        points, target, expected = points[keep], target[keep], other[keep, 2]
        pixel = np.floor(target + 0.5).astype(int)
        seen = second['depth'][pixel[:, 1], pixel[:, 0]]
        with np.errstate(invalid='ignore'):
            keep = np.abs(seen - expected) < 0.03 * expected
        if second.get('moving') is not None:
            keep &= ~second['moving'][pixel[:, 1], pixel[:, 0]]
        return points[keep], target[keep]

    def sample(self, rng, geometry=False, size=None):
        """
        Draw one pair of the same group that sees enough in common; ``size`` overrides the views' size.

        With ``geometry`` also ``frames`` (the two frames) and ``matrices``, image → view pixels.
        """
        if size is not None and tuple(size) != tuple(self.size):
            other = copy.copy(self)
            other.size = tuple(size)
            return other.sample(rng, geometry)
        for _ in range(20):
            i = int(rng.integers(len(self.frames)))
            j = int(np.clip(i + rng.integers(-self.gap, self.gap + 1), 0, len(self.frames) - 1))
            first, second = self.frames[i], self.frames[j]
            if first['group'] != second['group']:
                continue
            pair = self._correspondences(rng, first, second)
            if len(pair[0]) >= 40:
                break
        source = (first['image'].shape[1], first['image'].shape[0])
        out = {'images': [], 'labels': [], 'cells': [], 'depth': []}
        warped, matrices, zooms = [], [], []
        mirrored = self.flip and rng.random() < 0.5
        for frame, points in zip((first, second), pair, strict=True):
            matrix, zoom = random_crop(rng, source, self.size, self.scale, self.roll * (rng.random() < 0.5))
            if mirrored:
                matrix = mirror(self.size) @ matrix
            matrices.append(matrix)
            zooms.append(zoom)
            out['images'].append(
                photometric(rng, warp_image(frame['image'], matrix, self.size)).transpose(2, 0, 1)
            )
            if frame['labels'] is None:
                out['labels'].append(np.full(self.size[::-1], IGNORE, np.uint8))
            else:
                out['labels'].append(warp_labels(frame['labels'], matrix, self.size))
            view_focal = frame['camera'].fx * zoom
            out['depth'].append(
                warp_depth(frame['depth'], matrix, self.size) * np.float32(self.focal / view_focal)
            )
            out['depth'][-1][out['labels'][-1] == self.sky] = SKY_DEPTH
            if frame['keypoints'] is None:
                out['cells'].append(np.full((self.size[1] // CELL, self.size[0] // CELL), IGNORE, np.uint8))
            else:
                out['cells'].append(
                    cell_targets(warp_points(matrix, frame['keypoints'][0]), frame['keypoints'][1], self.size)
                )
            warped.append(warp_points(matrix, points))
        keep = inside(warped[0], self.size) & inside(warped[1], self.size)
        out['points'], out['points_valid'] = pad_points(rng, warped[0][keep], warped[1][keep])
        out = {key: np.stack(value) if isinstance(value, list) else value for key, value in out.items()}
        out['homography'] = np.full((3, 3), np.nan, np.float32)
        out['place'] = np.int64(i)
        cameras = (first['camera'], second['camera'])
        pose = np.linalg.inv(second['pose']) @ first['pose']
        out.update(camera_keys(matrices, cameras, zooms, self.focal, pose))
        if geometry:
            out['frames'], out['matrices'] = (first, second), matrices
        return out


class PlacePairs:
    """
    Two images of one place under different conditions; only the place descriptor learns from them.

    :param pairs: list of (anchor image list, positive image list): any anchor matches any positive.
    :param size: (width, height) of the views.
    :param neighbours: list indices this close may show the same place and are never negatives.
    """

    only_places = True

    def __init__(self, pairs, size, neighbours=3, crop=(1.0, 1.35), strength=1.3, positive_gap=0):
        """Keep the images in memory."""
        self.pairs, self.size, self.neighbours = pairs, size, neighbours
        self.crop, self.strength, self.positive_gap = crop, strength, positive_gap

    def sample(self, rng):
        """Draw one pair; ``place`` is the index in the list."""
        i = int(rng.integers(len(self.pairs)))
        j = int(np.clip(i + rng.integers(-self.positive_gap, self.positive_gap + 1), 0, len(self.pairs) - 1))
        views = []
        for images in (self.pairs[i][0], self.pairs[j][1]):
            image = images[int(rng.integers(len(images)))]
            if rng.random() < 0.3:
                small = (max(24, image.shape[1] // 3), max(16, image.shape[0] // 3))
                image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            matrix, _ = random_crop(rng, image.shape[1::-1], self.size, self.crop, max_rotation=0.08)
            views.append(
                photometric(rng, warp_image(image, matrix, self.size), self.strength).transpose(2, 0, 1)
            )
        return {'images': np.stack(views), 'place': np.int64(i)}
