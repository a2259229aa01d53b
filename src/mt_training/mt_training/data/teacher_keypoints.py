"""
Keypoints of a teacher (ALIKED) on training images, computed once and kept on disk.

The student learns where the teacher finds points; homographies move the labels with the image, so one
pass per image is enough. Source of the teacher: Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor
Extraction Network via Deformable Transformation", 2023, as implemented in kornia.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.errors import MtError
from mt_perception.writing import whole_file


def load_teacher(weights, max_keypoints=1500, threshold=0.1):
    """
    Load ALIKED-n16rot from a local file.

    :param weights: path of the state dict (``aliked-n16rot.pth``).
    :raises MtError: the file is missing.
    """
    import torch
    from kornia.feature import ALIKED

    if not Path(weights).is_file():
        raise MtError(f"the keypoint teacher's weights are not at {weights}; pass --teacher FILE")
    teacher = ALIKED('aliked-n16rot', max_num_keypoints=max_keypoints, detection_threshold=threshold)
    teacher.load_state_dict(torch.load(weights, map_location='cpu', weights_only=True), strict=False)
    return teacher.eval()


def cache_path(cache, image_path):
    """Return where the keypoints of ``image_path`` are kept under the folder ``cache``."""
    path = Path(image_path)
    key = hashlib.sha256('/'.join(path.parts[-4:]).encode()).hexdigest()[:16]
    return Path(cache) / f'{path.stem}-{key}.npz'


def label_images(images, weights, cache, max_size=640):
    """
    Write teacher keypoints for every image that has none yet; an interrupted run goes on where it stopped.

    Each file holds ``xy`` [N,2] float32 pixels of the original image and ``scores`` [N] float32 in 0–1.

    :param images: paths.
    :param weights: the teacher's state dict.
    :param cache: folder.
    :param max_size: longer images are shrunk to this width before the teacher sees them, in pixels.
    """
    missing = [p for p in images if not cache_path(cache, p).is_file()]
    if not missing:
        return
    teacher = load_teacher(weights)
    for path in tqdm(missing, desc='teacher keypoints', unit='image'):
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise MtError(f'cannot read the image {path}')
        xy, scores = detect(teacher, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), max_size)
        _write(cache_path(cache, path), xy=xy, scores=scores)


def label_frames(name, frames, weights, cache):
    """
    Set ``keypoints`` of frames in memory to the teacher's, computed once and kept on disk.

    :param name: names the frames; other frames need another name.
    :param frames: list of dicts with ``image`` [H,W,3] uint8 RGB.
    :param weights: the teacher's state dict.
    :param cache: folder.
    """
    digest = hashlib.sha256(name.encode())
    for frame in frames:
        digest.update(frame['image'].tobytes())
    path = Path(cache) / f'frames-{digest.hexdigest()[:16]}.npz'
    if not path.is_file():
        teacher = load_teacher(weights)
        found = [
            detect(teacher, frame['image'])
            for frame in tqdm(frames, desc=f'teacher keypoints of {name}', unit='image', leave=False)
        ]
        _write(
            path,
            counts=np.array([len(xy) for xy, _ in found]),
            xy=np.concatenate([xy for xy, _ in found]),
            scores=np.concatenate([scores for _, scores in found]),
        )
    with np.load(path) as data:
        ends = np.cumsum(data['counts'])[:-1]
        for frame, xy, scores in zip(
            frames, np.split(data['xy'], ends), np.split(data['scores'], ends), strict=True
        ):
            frame['keypoints'] = (xy, scores)


def detect(teacher, rgb, max_size=640):
    """
    Run the teacher on one image.

    :param rgb: [H,W,3] uint8.
    :param max_size: longer images are shrunk to this width first, in pixels.
    :return: (xy [N,2] float32 pixels of ``rgb``, scores [N] float32).
    """
    import torch

    height, width = rgb.shape[:2]
    scale = min(1.0, max_size / width)
    if scale < 1:
        rgb = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        found = teacher(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)[0]
    ratio = np.array([width / rgb.shape[1], height / rgb.shape[0]])
    xy = (found.keypoints.numpy() + 0.5) * ratio - 0.5
    return xy.astype(np.float32), found.keypoint_scores.numpy().astype(np.float32)


def _write(path, **arrays):
    """Write a NumPy archive; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as beside, open(beside, 'wb') as file:
        np.savez(file, **arrays)


def load_keypoints(cache, image_path):
    """Return (xy [N,2], scores [N]) of an image labelled by :func:`label_images`."""
    with np.load(cache_path(cache, image_path)) as data:
        return data['xy'], data['scores']
