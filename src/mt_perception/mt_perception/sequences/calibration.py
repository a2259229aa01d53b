"""Camera calibration files: ROS camera_info YAML, plain keys, KITTI's calib.txt."""

from pathlib import Path

import numpy as np
import yaml

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, SequenceError
from mt_perception.sequences.files import read_bytes, read_lines


def read_yaml(path):
    """Return the mapping in a YAML file; OpenCV's ``%YAML:1.0`` header is tolerated."""
    text = read_bytes(path).decode('utf-8', errors='replace')
    text = '\n'.join(line for line in text.splitlines() if not line.startswith('%'))
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, 'problem_mark', None)
        line = f' in line {where.line + 1}' if where else ''
        raise SequenceError(f"'{path}' is not valid YAML{line}; repair the file") from None
    if not isinstance(content, dict):
        raise SequenceError(f"'{path}' holds no keys and values; it should be a camera calibration")
    return content


def camera_from_yaml(path, size=None):
    """
    Read a camera from YAML.

    Either the format of ROS's camera_calibration (``image_width``, ``camera_matrix: {data: [...]}``,
    ``distortion_model``, ``distortion_coefficients: {data: [...]}``), or plain keys ``fx``, ``fy``, ``cx``,
    ``cy``, and optionally ``width``, ``height``, ``distortion`` (list) and ``distortion_model``.

    :param size: (width, height) of the images, used when the file does not say.
    :raises SequenceError: keys are missing or not numbers.
    """
    content = read_yaml(path)
    try:
        width = content.get('image_width', content.get('width', size[0] if size else None))
        height = content.get('image_height', content.get('height', size[1] if size else None))
        if width is None or height is None:
            raise SequenceError(f"'{path}' does not say the image size; add width and height")
        if 'camera_matrix' in content:
            matrix = content['camera_matrix']
            matrix = matrix['data'] if isinstance(matrix, dict) else matrix
            distortion = content.get('distortion_coefficients', [])
            distortion = distortion['data'] if isinstance(distortion, dict) else distortion
        else:
            fx, cx, cy = (float(content[k]) for k in ('fx', 'cx', 'cy'))
            matrix = [[fx, 0, cx], [0, float(content.get('fy', fx)), cy], [0, 0, 1]]
            distortion = content.get('distortion', [])
        model = content.get('distortion_model', 'plumb_bob')
        return Camera(
            int(width), int(height), np.array(matrix, float).reshape(3, 3), np.array(distortion, float), model
        )
    except KeyError as error:
        raise SequenceError(f"'{path}' lacks the key {error}; see camera_matrix or fx, fy, cx, cy") from None
    except (TypeError, ValueError):
        raise SequenceError(f"'{path}' has a value that is not a number where one is needed") from None
    except CameraError as error:
        raise SequenceError(f"'{path}' holds no usable calibration: {str(error).partition(';')[0]}") from None


def camera_to_yaml(camera, **extra):
    """Return the text of a ROS camera_info YAML, with extra keys appended."""
    return yaml.safe_dump(
        {
            'image_width': camera.width,
            'image_height': camera.height,
            'camera_matrix': {'rows': 3, 'cols': 3, 'data': [float(v) for v in camera.matrix.ravel()]},
            'distortion_model': camera.model,
            'distortion_coefficients': {
                'rows': 1,
                'cols': int(camera.distortion.size),
                'data': [float(v) for v in camera.distortion],
            },
            **extra,
        },
        sort_keys=False,
    )


def kitti_projections(path):
    """Return {name: [3,4]} of the projection matrices P0, P1, … in a KITTI calib.txt, named or not."""
    projections = {}
    for i, line in enumerate(read_lines(path)):
        name, _, values = line.rpartition(':')
        name = name or f'P{i}'
        words = values.split()
        if not name.startswith('P') or len(words) != 12:
            continue
        try:
            projections[name.strip()] = np.array([float(w) for w in words]).reshape(3, 4)
        except ValueError:
            raise SequenceError(f"'{path}' has a value that is not a number in the line of {name}") from None
    return projections


def camera_from_calib(path, size, name=None):
    """
    Read a camera from a ``calib.txt``: KITTI's projection matrices, or one line of fx fy cx cy.

    :param size: (width, height) of the images.
    :param name: 'P0' … 'P3'; default the first one there is.
    """
    projections = kitti_projections(path)
    try:
        if projections:
            chosen = projections.get(name) if name else next(iter(projections.values()))
            if chosen is None:
                raise SequenceError(f"'{path}' has no line '{name}:', the projection matrix of these images")
            return Camera(*size, chosen[:, :3])
        words = [float(w) for w in (read_lines(path) or [''])[0].replace(',', ' ').split()]
        fx, fy, cx, cy = words[:4]
        return Camera(*size, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
    except ValueError:
        raise SequenceError(
            f"'{path}' is no calibration; it needs lines 'P0: 12 numbers' or one line 'fx fy cx cy'"
        ) from None
    except CameraError as error:
        raise SequenceError(f"'{path}' holds no usable calibration: {str(error).partition(';')[0]}") from None


def folder_camera(folder, size):
    """Return the camera of a folder's ``camera.yaml`` or ``calib.txt``, or None when it has neither."""
    folder = Path(folder)
    if (folder / 'camera.yaml').is_file():
        return camera_from_yaml(folder / 'camera.yaml', size)
    if (folder / 'calib.txt').is_file():
        return camera_from_calib(folder / 'calib.txt', size)
    return None
