"""Read images and lists of images from disk."""

from pathlib import Path

import cv2
import numpy as np

from mt_perception.errors import EvaluationError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.pgm', '.bmp', '.tif', '.tiff', '.webp')


def existing_folder(folder, what):
    """
    Return ``folder`` as a path.

    :param what: what the folder should be, for the error: 'folder of a CamVid split'.
    :raises EvaluationError: it is not there.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise EvaluationError(f"{what} '{folder}' is {'not a folder' if folder.exists() else 'missing'}")
    return folder


def image_files(folder):
    """
    Images of a folder in name order.

    :raises EvaluationError: the folder is missing or holds no image.
    """
    folder = existing_folder(folder, 'image folder')
    files = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith('.')
    )
    if not files:
        raise EvaluationError(f"image folder '{folder}' holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return files


def read_rgb(path):
    """
    Read an image as RGB; gray images are repeated, 16-bit ones reduced to 8.

    :return: [H,W,3] uint8.
    :raises EvaluationError: the file is missing or no image.
    """
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_class_ids(path):
    """
    Read a label image whose pixel values are class ids; of a palette image these are its indices.

    :return: [H,W] uint8.
    :raises EvaluationError: the file is missing, no image, or a colour image.
    """
    if is_palette_png(path):
        return read_palette_indices(path)
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim == 3 and labels.shape[2] >= 3 and (labels[..., :1] == labels[..., 1:3]).all():
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype != np.uint8:
        kind = 'colour' if labels.ndim == 3 else labels.dtype
        raise EvaluationError(f"label image '{path}' is {kind}, not one 8-bit class id per pixel")
    return labels


def is_palette_png(path):
    """Tell whether a PNG stores indices into a palette; OpenCV would turn them into colours."""
    try:
        with open(path, 'rb') as file:
            header = file.read(26)
    except OSError:
        return False
    return header[:8] == b'\x89PNG\r\n\x1a\n' and len(header) == 26 and header[25] == 3


def read_palette_indices(path):
    """Read the indices of a palette PNG: [H,W] uint8; EvaluationError when it is damaged."""
    from PIL import Image  # comes with matplotlib; only palette images need it

    try:
        with Image.open(path) as image:
            return np.array(image, np.uint8)
    except (OSError, SyntaxError, ValueError):
        raise EvaluationError(f"image '{path}' cannot be decoded: it is damaged") from None


def read_uint16(path):
    """
    Read a 16-bit gray image, such as depth or instances.

    :return: [H,W] uint16.
    :raises EvaluationError: missing, damaged, or not 16-bit gray.
    """
    values = _decode(path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype != np.uint16:
        kind = 'colour' if values.ndim == 3 else f'{values.dtype.itemsize * 8}-bit'
        raise EvaluationError(f"'{path}' is {kind}, not a 16-bit gray PNG")
    return values


def read_depth(path, units_per_metre, invalid=(0,)):
    """
    Read depth from a 16-bit PNG.

    :param units_per_metre: 256 of KITTI's, 1000 of millimetres.
    :param invalid: values that mean unknown.
    :return: [H,W] float32 metres, NaN where unknown.
    """
    raw = read_uint16(path)
    depth = raw.astype(np.float32) / np.float32(units_per_metre)
    depth[np.isin(raw, invalid)] = np.nan
    return depth


def read_colors(path):
    """
    Read a label image that codes classes or segments by colour.

    :return: [H,W] int32, R + 256 G + 65536 B.
    :raises EvaluationError: the file is missing or no image.
    """
    bgr = _decode(path, cv2.IMREAD_COLOR).astype(np.int32)
    return bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]


def read_array(path):
    """Read a NumPy array (``.npy``); EvaluationError when it is missing, damaged or holds objects."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise EvaluationError(f"'{path}' cannot be read: it is missing, damaged or no NumPy array") from None


def _decode(path, flags):
    path = Path(path)
    if not path.is_file():
        raise EvaluationError(f"image '{path}' is missing")
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise EvaluationError(f"image '{path}' cannot be decoded: it is damaged or of an unknown kind")
    return image
