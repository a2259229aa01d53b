"""EuRoC MAV folders (Burri et al. 2016)."""

from pathlib import Path

import numpy as np

from mt_perception.camera import Camera
from mt_perception.errors import CameraError, SequenceError
from mt_perception.sequences.calibration import read_yaml
from mt_perception.sequences.files import check_stamps, read_lines, read_numbers, read_rgb
from mt_perception.sequences.stored import StoredSequence
from mt_perception.sequences.trajectory_io import interpolate_poses

NANOSECOND = 1e-9
POSE_MAX_GAP = 0.1  # seconds; the estimate comes at 200 Hz
DISTORTION_MODELS = {'radial-tangential': 'plumb_bob', 'radtan': 'plumb_bob', 'equidistant': 'equidistant'}
GROUND_TRUTH = ('state_groundtruth_estimate0', 'mocap0')  # the second one is TUM-VI's


class EurocSequence(StoredSequence):
    """
    A folder with ``mav0/cam0/data.csv``, ``mav0/cam0/sensor.yaml`` and optionally ground truth.

    The ground truth is the pose of the body (the IMU) in the world; ``T_BS`` of the camera's sensor.yaml
    turns it into that of the camera's optical frame.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.name = folder.resolve().name
        root = folder / 'mav0' if (folder / 'mav0').is_dir() else folder
        self.stamps, self._files = _images(root / 'cam0')
        sensor = root / 'cam0' / 'sensor.yaml'
        content = read_yaml(sensor)
        self.camera = _camera(content, sensor)
        truth = next(
            (root / name / 'data.csv' for name in GROUND_TRUTH if (root / name / 'data.csv').is_file()), None
        )
        if truth is not None:
            table = _table(truth)
            body = interpolate_poses(
                self.stamps, table[:, 0], table[:, 1:4], table[:, [5, 6, 7, 4]], POSE_MAX_GAP
            )
            body_to_camera = _extrinsics(content, sensor)
            self.poses = [None if pose is None else pose @ body_to_camera for pose in body]

    def read_image(self, i):
        """Return image ``i``."""
        return read_rgb(self._files[i])


def _seconds(nanoseconds, path):
    """Turn a nanosecond stamp (a string) into seconds without losing microseconds."""
    try:
        value = int(nanoseconds)
    except ValueError:
        raise SequenceError(
            f"'{path}' has a stamp that is no integer of nanoseconds: '{nanoseconds[:30]}'"
        ) from None
    return value // 10**9 + (value % 10**9) * NANOSECOND


def _images(folder):
    path = folder / 'data.csv'
    stamps, files = [], []
    for line in read_lines(path):
        words = [word.strip() for word in line.split(',')]
        if len(words) < 2 or not words[1]:
            raise SequenceError(f"'{path}' has a line that is not 'nanoseconds,file': '{line[:60]}'")
        stamps.append(_seconds(words[0], path))
        files.append(folder / 'data' / words[1])
    if not files:
        raise SequenceError(f"'{path}' names no images")
    stamps = np.array(stamps)
    check_stamps(stamps, path)
    return stamps, files


def _table(path):
    """Read ground truth: [N,8] seconds, position, quaternion (w, x, y, z)."""
    table = read_numbers(path, tuple(range(8, 20)), separator=',')
    if len(table) == 0:
        raise SequenceError(f"'{path}' holds no poses; remove the folder if there is no ground truth")
    seconds = np.array([_seconds(line.split(',')[0], path) for line in read_lines(path)])
    check_stamps(seconds, path)
    return np.c_[seconds, table[:, 1:8]]


def _camera(content, path):
    try:
        fu, fv, cu, cv = (float(v) for v in content['intrinsics'])
        width, height = (int(v) for v in content['resolution'])
        distortion = np.array(content.get('distortion_coefficients', []), float)
        model = content.get('distortion_model', 'radial-tangential')
    except (KeyError, TypeError, ValueError):
        raise SequenceError(
            f"'{path}' lacks intrinsics [fu, fv, cu, cv] or resolution [width, height]"
        ) from None
    if model not in DISTORTION_MODELS:
        raise SequenceError(
            f"'{path}' has the distortion model '{model}', not one of {', '.join(DISTORTION_MODELS)}"
        )
    try:
        return Camera(
            width,
            height,
            np.array([[fu, 0, cu], [0, fv, cv], [0, 0, 1]]),
            distortion,
            DISTORTION_MODELS[model],
        )
    except CameraError as error:
        raise SequenceError(f"'{path}': {error}") from None


def _extrinsics(content, path):
    """Return T_BS [4,4], the camera in the body frame."""
    try:
        matrix = np.array(content['T_BS']['data'], float).reshape(4, 4)
    except (KeyError, TypeError, ValueError):
        raise SequenceError(f"'{path}' lacks T_BS, the 4×4 pose of the camera in the body frame") from None
    return matrix
