"""What data sets of planar scenes have in common: images of one plane and homographies between them."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import IMAGE_SUFFIXES, existing_folder


@dataclass
class PlanarScene:
    """
    Images of one plane.

    :param name: such as 'graf'.
    :param images: paths, the first is the reference.
    :param homographies: [3,3] of every further image: pixels of the first image to pixels of that one.
    """

    name: str
    images: list
    homographies: list

    @property
    def pairs(self):
        """List of (index of the image, its homography) to compare with image 0."""
        return list(enumerate(self.homographies, 1))


def read_numbered_scenes(root, what, image, homography, without=()):
    """
    List the scenes below ``root``, which may also be a single scene.

    :param what: name of the data set for errors.
    :param image: name of image N without suffix, 'img{}'.
    :param homography: name of the file with the homography from image 1 to image N, 'H1to{}p'.
    :param without: names of scenes to leave out.
    :return: list of :class:`PlanarScene` in name order.
    :raises EvaluationError: no scene, or an incomplete one.
    """
    pattern = re.compile(homography.format(r'(\d+)'))

    def numbers(folder):
        return sorted(int(m[1]) for p in folder.iterdir() if (m := pattern.fullmatch(p.name)))

    return [
        PlanarScene(
            folder.name,
            [find_image(folder, image.format(n)) for n in (1, *numbers(folder))],
            [read_homography(folder / homography.format(n)) for n in numbers(folder)],
        )
        for folder in find_scenes(root, what, numbers)
        if folder.name not in without
    ]


def find_scenes(root, what, is_scene):
    """
    Folders of scenes below ``root`` in name order, or ``root`` itself when it is one.

    :param what: name of the data set for the error.
    :param is_scene: tells whether a folder is a scene.
    :raises EvaluationError: none.
    """
    root = existing_folder(root, f'{what} folder')
    folders = [root] if is_scene(root) else sorted(p for p in root.iterdir() if p.is_dir() and is_scene(p))
    if not folders:
        raise EvaluationError(
            f"'{root}' holds no {what} scene: no folder with images and homographies to image 1"
        )
    return folders


def find_image(folder, stem):
    """Path of the image ``stem`` with any suffix; EvaluationError when it is missing."""
    for suffix in IMAGE_SUFFIXES:
        if (folder / f'{stem}{suffix}').is_file():
            return folder / f'{stem}{suffix}'
    raise EvaluationError(f"'{folder}' has a homography for image '{stem}' but no such image")


def read_homography(path):
    """
    Read a homography from a text file of nine numbers.

    :return: [3,3] float64.
    :raises EvaluationError: not nine numbers, or no homography.
    """
    try:
        matrix = np.array(Path(path).read_text().split(), np.float64)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"homography '{path}' cannot be read: {error}") from error
    if matrix.size != 9 or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix.reshape(3, 3))) < 1e-12:
        raise EvaluationError(f"'{path}' is not an invertible 3 × 3 homography")
    return matrix.reshape(3, 3)
