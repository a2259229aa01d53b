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
    Read a label image whose pixel values are class ids.

    :return: [H,W] uint8.
    :raises EvaluationError: the file is missing, no image, or a colour image.
    """
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim == 3 and labels.shape[2] >= 3 and (labels[..., :1] == labels[..., 1:3]).all():
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype != np.uint8:
        kind = 'colour' if labels.ndim == 3 else labels.dtype
        raise EvaluationError(f"label image '{path}' is {kind}, not one 8-bit class id per pixel")
    return labels


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
