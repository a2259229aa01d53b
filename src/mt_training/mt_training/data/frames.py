"""
Frames of a sequence, shrunk once and kept on disk.

Reading, registering or rendering a frame costs more than training on it, so every training set of
frames with depth is written to one archive the first time it is used.
"""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.camera import Camera
from mt_perception.errors import MtError
from mt_perception.writing import whole_file


def resize_depth(depth, size):
    """Shrink depth [H,W] to ``size`` = (width, height) by nearest neighbour, never mixing two surfaces."""
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)


def cached_frames(name, sequence_factory, indices, cache, width=512):
    """
    Load frames from the cache, making it first where it is missing.

    :param name: names the archive.
    :param sequence_factory: returns the :class:`mt_perception.sequences.base.Sequence` to read.
    :param indices: frames to keep.
    :param cache: folder.
    :param width: frames are shrunk to this width in pixels.
    :return: list of dicts as :class:`mt_training.data.pairs.RgbdPairs` takes them, ``keypoints`` None,
        ``index`` the place in ``indices``. Frames without depth, pose or camera are left out.
    :raises MtError: no frame is left.
    """
    indices = list(indices)
    key = hashlib.sha256(f'{name} {indices} {width}'.encode()).hexdigest()[:12]
    path = Path(cache) / f'frames-{key}.npz'
    if not path.is_file():
        sequence = sequence_factory()
        store = {'images': [], 'depth': [], 'labels': [], 'moving': [], 'poses': [], 'matrix': [], 'kept': []}
        for place, index in enumerate(tqdm(indices, desc=f'frames of {name}', unit='frame', leave=False)):
            frame = sequence[index]
            if frame.depth is None or frame.pose is None or frame.camera is None:
                continue
            store['kept'].append(place)
            camera = frame.camera
            size = (width, round(frame.image.shape[0] * width / frame.image.shape[1]))
            store['images'].append(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))
            store['depth'].append(resize_depth(frame.depth.astype(np.float32), size))
            if frame.labels is not None:
                store['labels'].append(cv2.resize(frame.labels, size, interpolation=cv2.INTER_NEAREST))
            if frame.moving is not None:
                moving = cv2.resize(frame.moving.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
                store['moving'].append(moving.astype(bool))
            store['poses'].append(frame.pose)
            store['matrix'].append(camera.scaled(*size).matrix)
        if not store['kept']:
            raise MtError(f'{name} has no frame with depth, pose and calibration')
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as beside, open(beside, 'wb') as file:
            np.savez(file, **{k: np.stack(v) for k, v in store.items() if v})
    with np.load(path) as data:
        data = {k: data[k] for k in data.files}
    height, width = data['images'].shape[1:3]
    return [
        {
            'image': data['images'][i],
            'depth': data['depth'][i],
            'labels': data['labels'][i] if 'labels' in data else None,
            'moving': data['moving'][i] if 'moving' in data else None,
            'pose': data['poses'][i],
            'camera': Camera(width, height, data['matrix'][i]),
            'keypoints': None,
            'group': name,
            'index': int(data['kept'][i]) if 'kept' in data else i,
        }
        for i in range(len(data['images']))
    ]
