"""
A map in one file: a NumPy archive (.npz) of plain arrays, read without pickle.

``header`` is JSON: what the file is, its version, the model of the descriptors, the cameras. All other arrays
have one row a keyframe or one row a keypoint; ``counts`` says how many keypoints each keyframe has. The
archive's checksums find damage, its directory at the end of the file finds truncation.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, MtError
from mt_perception.place_recognition.keyframe import Keyframe, View
from mt_perception.writing import whole_file

FORMAT = 'mt_perception map'
VERSION = 1
# per keyframe, then per keypoint: name: (element type, shape of a row); None = as in the header
KEYFRAME_ARRAYS = {
    'stamps': ('<f8', ()),
    'poses': ('<f8', (3, 4)),
    'camera': ('<i4', ()),
    'frame': ('<i4', ()),
    'counts': ('<i4', ()),
    'global_descriptors': ('<f2', ('global_descriptor_dim',)),
}
KEYPOINT_ARRAYS = {
    'xy': ('<f4', (2,)),
    'scores': ('<f2', ()),
    'descriptors': ('|i1', ('descriptor_dim',)),
    'depth': ('<f4', ()),
}


class MapError(MtError):
    """A saved map that is missing, damaged, or not one of this version."""


def save_map(path, keyframes):
    """
    Write keyframes to a file that is there whole or not at all.

    :param path: file; its folder must exist.
    :param keyframes: list of :class:`Keyframe` with a :class:`View`, all of one model; their poses are camera
        to ``map``.
    :raises MapError: nothing to write, or the file cannot be written.
    """
    if not keyframes:
        raise MapError(f"the map has no keyframes yet, so '{path}' was not written")
    views = [keyframe.view for keyframe in keyframes]
    cameras, camera_of = distinct([camera_values(view.camera) for view in views])
    frames, frame_of = distinct([view.frame_id for view in views])
    header = {
        'format': FORMAT,
        'version': VERSION,
        'model_id': views[0].model_id,
        'descriptor_dim': int(views[0].packed.shape[1]),
        'global_descriptor_dim': len(views[0].global_descriptor),
        'metric': all(keyframe.metric for keyframe in keyframes),
        'cameras': cameras,
        'frames': frames,
    }
    arrays = {
        'stamps': [keyframe.stamp for keyframe in keyframes],
        'poses': [keyframe.pose[:3] for keyframe in keyframes],
        'camera': camera_of,
        'frame': frame_of,
        'counts': [len(view) for view in views],
        'global_descriptors': [view.global_descriptor for view in views],
        'xy': np.concatenate([view.xy for view in views]),
        'scores': np.concatenate([view.scores for view in views]),
        'descriptors': np.concatenate([view.packed for view in views]),
        'depth': np.concatenate([view.depth for view in views]),
    }
    kinds = {**KEYFRAME_ARRAYS, **KEYPOINT_ARRAYS}
    arrays = {name: np.asarray(values, kinds[name][0]) for name, values in arrays.items()}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with whole_file(path, MapError) as beside, open(beside, 'wb') as file:
        np.savez(file, header=text, **arrays)


def load_map(path, model_id=None):
    """
    Read a map.

    :param model_id: refuse a map of another model than this; None = any.
    :return: list of :class:`Keyframe`, ``fixed``, their poses camera to ``map``.
    :raises MapError: missing, truncated, damaged, not a map, of another version or of another model.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = read_header(archive, path)
            if model_id is not None and header['model_id'] != model_id:
                raise MapError(
                    f"map '{path}' is made of descriptors of model '{header['model_id']}', not of "
                    f"'{model_id}': run the model that it was made with, or make a new map"
                )
            arrays = {name: archive[name] for name in (*KEYFRAME_ARRAYS, *KEYPOINT_ARRAYS)}
    except OSError as error:
        raise MapError(f"map '{path}' cannot be read: {error.strerror or 'it is no map file'}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise MapError(f"map '{path}' is damaged or truncated ({error}): save it again") from None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise MapError(f"'{path}' is not a map of mt_perception ({first_line(error)})") from None
    check_arrays(arrays, header, path)
    return keyframes_of(arrays, header, path)


def read_header(archive, path):
    """Return the header of an open archive; raises MapError for another format or version."""
    header = json.loads(archive['header'].tobytes().decode())
    if header['format'] != FORMAT:
        raise ValueError(f"it says that it is a '{header['format']}'")
    if header['version'] != VERSION:
        raise MapError(
            f"map '{path}' has version {header['version']}, this program reads version {VERSION}: "
            'save it again with this program, or use the one it was saved with'
        )
    for name, kind in (('model_id', str), ('descriptor_dim', int), ('global_descriptor_dim', int)):
        if not isinstance(header[name], kind):
            raise ValueError(f"'{name}' is {header[name]!r}")
    return header


def check_arrays(arrays, header, path):
    """Refuse arrays that do not fit the header or each other, or hold numbers that cannot be."""
    keyframes, keypoints = len(arrays['stamps']), int(arrays['counts'].sum())
    for table, rows in ((KEYFRAME_ARRAYS, keyframes), (KEYPOINT_ARRAYS, keypoints)):
        for name, (kind, shape) in table.items():
            expected = (rows, *(header[size] if isinstance(size, str) else size for size in shape))
            if arrays[name].shape != expected or arrays[name].dtype != np.dtype(kind):
                raise MapError(
                    f"map '{path}' is damaged: '{name}' is {arrays[name].dtype} of shape "
                    f'{list(arrays[name].shape)}, not {np.dtype(kind)} of shape {list(expected)}'
                )
    for name in ('stamps', 'poses', 'global_descriptors', 'xy'):
        if not np.isfinite(arrays[name]).all():
            raise MapError(f"map '{path}' is damaged: '{name}' holds numbers that are not finite")
    rotation = arrays['poses'][:, :, :3]
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(initial=0) > 1e-6:
        raise MapError(f"map '{path}' is damaged: 'poses' holds matrices that are not rotations")
    for name, count in (('camera', len(header['cameras'])), ('frame', len(header['frames']))):
        if keyframes and not (0 <= arrays[name].min() and arrays[name].max() < count):
            raise MapError(f"map '{path}' is damaged: '{name}' names entries that the header does not have")
    if keyframes == 0 or arrays['counts'].min() < 0:
        raise MapError(f"map '{path}' is damaged: it has no keyframes, or negative counts")


def keyframes_of(arrays, header, path):
    """Build the keyframes from checked arrays."""
    try:
        cameras = [
            Camera(
                int(values['width']),
                int(values['height']),
                np.array(values['matrix'], np.float64),
                np.array(values['distortion'], np.float64),
                values['model'],
            )
            for values in header['cameras']
        ]
    except (CameraError, KeyError, TypeError, ValueError) as error:
        raise MapError(f"map '{path}' is damaged: a camera cannot be read ({first_line(error)})") from None
    ends = np.cumsum(arrays['counts'])
    descriptors = arrays['global_descriptors'].astype(np.float32)
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
    out = []
    for k, (stamp, pose, end) in enumerate(zip(arrays['stamps'], arrays['poses'], ends)):
        part = slice(end - arrays['counts'][k], end)
        view = View(
            float(stamp),
            header['frames'][arrays['frame'][k]],
            cameras[arrays['camera'][k]],
            header['model_id'],
            descriptors[k],
            *(arrays[name][part] for name in KEYPOINT_ARRAYS),
        )
        whole = np.eye(4)
        whole[:3] = pose
        metric = bool(header.get('metric', False))
        out.append(Keyframe(float(stamp), whole, np.zeros((6, 6)), view, metric=metric, fixed=True))
    return out


def camera_values(camera):
    """Return a :class:`Camera` as what JSON knows."""
    return {
        'width': camera.width,
        'height': camera.height,
        'matrix': camera.matrix.tolist(),
        'distortion': camera.distortion.tolist(),
        'model': camera.model,
    }


def distinct(values):
    """Return (list of different values, index of each value in it)."""
    out, index = [], []
    for value in values:
        if value not in out:
            out.append(value)
        index.append(out.index(value))
    return out, index


def first_line(error):
    """Return an exception's text on one line."""
    return ' '.join(str(error).split()) or type(error).__name__
