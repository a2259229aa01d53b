"""Seeded noise: the raw material of every procedural texture."""

from functools import lru_cache

import cv2
import numpy as np

BANK = 1024  # texels: side of the ready-made noise fields
LARGEST = 128  # texels: largest cell of a ready-made field


def lattice_noise(rng, height, width, cell):
    """
    Smooth noise that repeats at the borders.

    :param rng: numpy random generator.
    :param cell: (rows, columns) of one lattice cell in texels.
    :return: [height, width] float32, zero mean, about unit deviation.
    """
    rows, columns = max(1, round(height / cell[0])), max(1, round(width / cell[1]))
    rows, columns = min(rows, height), min(columns, width)
    lattice = rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == (height, width):
        return lattice
    step_y, step_x = -(-height // rows), -(-width // columns)
    padded = np.pad(lattice, 2, mode='wrap')
    fine = cv2.resize(padded, ((columns + 4) * step_x, (rows + 4) * step_y), interpolation=cv2.INTER_CUBIC)[
        2 * step_y : (2 + rows) * step_y, 2 * step_x : (2 + columns) * step_x
    ]
    if fine.shape != (height, width):
        fine = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return fine * 1.3


@lru_cache(maxsize=64)
def _bank(cell_y, cell_x):
    """Return a ready-made field [BANK, BANK] for cells of these sizes; the same in every process."""
    return lattice_noise(
        np.random.default_rng([31, int(cell_y * 64), int(cell_x * 64)]), BANK, BANK, (cell_y, cell_x)
    )


def _quantized(cell):
    """Round a cell size to a power of the square root of two, at least one texel."""
    return float(2 ** (max(0, round(2 * np.log2(max(cell, 1)))) / 2))


def value_noise(rng, height, width, cell, wrap=False):
    """
    Smooth noise: a random window of a ready-made field, which is much quicker than making one.

    :param cell: size of one lattice cell in texels, a number or (rows, columns).
    :param wrap: make a field of its own that repeats at the borders.
    :return: [height, width] float32, zero mean, about unit deviation.
    """
    cell_y, cell_x = (cell, cell) if np.isscalar(cell) else cell
    if wrap:
        return lattice_noise(rng, height, width, (cell_y, cell_x))
    reduce_y, reduce_x = (max(1, int(np.ceil(c / LARGEST))) for c in (cell_y, cell_x))
    if reduce_y > 1 or reduce_x > 1:
        small = value_noise(
            rng, -(-height // reduce_y), -(-width // reduce_x), (cell_y / reduce_y, cell_x / reduce_x)
        )
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    field = _bank(_quantized(cell_y), _quantized(cell_x))
    y, x = rng.integers(0, BANK, 2)
    flip_y, flip_x = rng.integers(0, 2, 2) * 2 - 1
    field = field[::flip_y, ::flip_x]
    if y + height <= BANK and x + width <= BANK:
        return field[y : y + height, x : x + width]
    if height > BANK or width > BANK:
        rows = (y + np.arange(height)) % BANK
        columns = (x + np.arange(width)) % BANK
        return field[rows[:, None], columns]
    field = np.concatenate([field[y : y + height], field[: max(0, y + height - BANK)]])
    return np.concatenate([field[:, x : x + width], field[:, : max(0, x + width - BANK)]], axis=1)


def fractal_noise(rng, height, width, cells=(64, 16, 4, 1), weights=None, wrap=False):
    """
    Sum of value noises at several scales.

    :param cells: lattice cell of each octave in texels.
    :param weights: weight of each octave; equal by default.
    :return: [height, width] float32, zero mean, about unit deviation.
    """
    weights = np.ones(len(cells)) if weights is None else np.asarray(weights, float)
    total = np.zeros((height, width), np.float32)
    for cell, weight in zip(cells, weights / np.sqrt((weights**2).sum())):
        total += np.float32(weight) * value_noise(rng, height, width, cell, wrap)
    return total


def paint(color, modulation):
    """
    Colour a brightness field.

    :param color: (r, g, b) 0–255.
    :param modulation: [h,w] relative brightness change (0 = the colour itself).
    :return: [h,w,3] float32.
    """
    brightness = np.asarray(modulation, np.float32) + np.float32(1)
    return cv2.merge([brightness * np.float32(c) for c in color])


def shade(image, factor):
    """
    Multiply all channels by a field; numpy's broadcasting over a last axis of three is several times slower.

    :param image: [h,w,3] float32.
    :param factor: [h,w].
    :return: [h,w,3] float32.
    """
    factor = np.ascontiguousarray(factor, np.float32)
    return cv2.multiply(np.ascontiguousarray(image, np.float32), cv2.merge([factor] * 3))


def to_uint8(image):
    """Clip a float image to 0–255 and convert it to uint8."""
    return cv2.add(np.ascontiguousarray(image, np.float32), 0.0, dtype=cv2.CV_8U)
