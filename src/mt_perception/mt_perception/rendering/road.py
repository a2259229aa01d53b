"""Textures of the street's ground: the road with its markings, the pavement."""

from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering.facade import write
from mt_perception.rendering.noise import to_uint8, value_noise

TEXELS_PER_METRE = 64
SEGMENT = 12.0  # metres of road in one texture


@dataclass(frozen=True)
class RoadStyle:
    """
    What stays the same along a street.

    :param half_road: metres from the centre line to the kerb.
    :param pavement: width of each pavement in metres.
    :param asphalt: brightness of the road, 0–255.
    :param markings: of the middle: 'dashes', 'solid' or 'none'.
    :param edge: yellow lines along the kerbs: 'double', 'single' or 'none'.
    """

    half_road: float
    pavement: float
    asphalt: float
    markings: str
    edge: str

    @classmethod
    def random(cls, rng):
        """Choose a style."""
        return cls(
            rng.uniform(4.1, 5.6),
            rng.uniform(1.9, 3.6),
            rng.uniform(72, 118),
            ('dashes', 'dashes', 'solid', 'none')[rng.integers(4)],
            ('double', 'single', 'none')[rng.integers(3)],
        )


def pavement(rng, style):
    """Return 6 m of pavement, RGB uint8."""
    return to_uint8(
        materials.paving(
            rng, int(6 * TEXELS_PER_METRE), int(style.pavement * TEXELS_PER_METRE), TEXELS_PER_METRE
        )
    )


def road(rng, style, feature):
    """
    Return one segment of road, RGB uint8; columns from left to right, rows from far to near.

    :param feature: 'plain', 'arrow', 'word' or 'zebra'.
    """
    unit = TEXELS_PER_METRE
    rows, columns = int(SEGMENT * unit), int(2 * style.half_road * unit)
    tone = style.asphalt * rng.uniform(0.97, 1.03)
    gray = np.ascontiguousarray(materials.asphalt(rng, rows, columns, unit, tone), np.float32)
    paint = np.zeros((rows, columns), np.uint8)
    middle = columns // 2
    half = max(2, int(0.06 * unit))
    if style.markings == 'dashes':
        for y in range(0, rows, rows // 2):
            cv2.rectangle(paint, (middle - half, y), (middle + half, y + rows // 3), 255, -1)
    elif style.markings == 'solid':
        cv2.rectangle(paint, (middle - half, 0), (middle + half, rows), 255, -1)
    if feature == 'arrow':
        x = columns // 4
        cv2.rectangle(paint, (x - 5, rows // 2), (x + 5, rows - rows // 6), 255, -1)
        head = [(x, rows // 4), (x - 22, rows // 2), (x + 22, rows // 2)]
        cv2.fillPoly(paint, [np.array(head)], 255)
    elif feature == 'word':
        letters = np.zeros((64, columns // 2 - 60), np.uint8)
        text = ('SLOW', 'BUS', 'STOP', 'TAXI')[rng.integers(4)]
        write(letters, text, (4, 6, letters.shape[1] - 4, 58), 255, thickness=7)
        letters = cv2.resize(letters, (letters.shape[1], 150))  # stretched, as drivers see it
        paint[rows // 2 : rows // 2 + 150, 40 : 40 + letters.shape[1]] |= letters
    elif feature == 'zebra':
        paint[rows // 2 - 90 : rows // 2 + 120] = 0
        for x in range(10, columns - 30, 64):
            cv2.rectangle(paint, (x, rows // 2 - 80), (x + 32, rows // 2 + 110), 255, -1)
    fine, coarse = value_noise(rng, rows, columns, 3), value_noise(rng, rows, columns, 40)
    painted = np.nonzero(paint)
    wear = np.clip(0.82 + 0.35 * fine[painted] + 0.3 * coarse[painted], 0, 0.95)
    gray[painted] += (208 - gray[painted]) * wear
    gutter = np.minimum(np.arange(columns), np.arange(columns)[::-1])
    gray *= np.clip(0.72 + gutter / 40, 0, 1).astype(np.float32)[None, :]
    _covers(rng, gray)
    image = cv2.merge([gray, gray, gray * 1.02])
    if style.edge != 'none':
        lines = (14, columns - 20) if style.edge == 'single' else (12, 22, columns - 18, columns - 28)
        for x in lines:
            band = image[:, x : x + 5]
            wear = np.clip(0.82 + 0.35 * fine[:, x : x + 5] + 0.3 * coarse[:, x : x + 5], 0, 0.95)
            band += (np.array((186, 160, 70), np.float32) - band) * wear[..., None]
    return to_uint8(image)


def _covers(rng, gray):
    """Paint iron covers and grates."""
    rows, columns = gray.shape
    for _ in range(rng.integers(0, 3)):
        x, y = rng.integers(40, columns - 40), rng.integers(40, rows - 40)
        size = int(rng.uniform(0.2, 0.36) * TEXELS_PER_METRE)
        iron = np.full((2 * size, 2 * size), 60, np.float32)
        for d in range(4, 2 * size, 7):
            cv2.line(iron, (d, 5), (d, 2 * size - 5), 94, 2)
        shape = np.full((2 * size, 2 * size), 255, np.uint8)
        if rng.random() < 0.5:
            shape[:] = 0
            cv2.circle(shape, (size, size), size - 1, 255, -1)
        cv2.copyTo(iron, shape, gray[y - size : y + size, x - size : x + size])
