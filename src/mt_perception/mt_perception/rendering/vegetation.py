"""Trees and hedges as cut-out cards."""

import cv2
import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering.noise import paint, shade, to_uint8, value_noise

TEXELS_PER_METRE = 56


def _branches(rng, start, angle, length, thickness, spread, depth, out):
    """Grow a branching skeleton; appends (x0, y0, x1, y1, thickness) in texels."""
    x, y = start
    bends = 3
    for _ in range(bends):
        angle += rng.normal(0, 0.13)
        nx, ny = x + np.cos(angle) * length / bends, y - np.sin(angle) * length / bends
        out.append((x, y, nx, ny, thickness))
        x, y = nx, ny
        thickness *= 0.92
        if depth > 0 and rng.random() < 0.45:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2) * spread
            _branches(rng, (x, y), angle + side, length * 0.6, thickness * 0.5, spread, depth - 1, out)
    if depth > 0:
        for _ in range(rng.integers(2, 4)):
            _branches(
                rng,
                (x, y),
                angle + rng.normal(0, 0.5) * spread,
                length * rng.uniform(0.6, 0.8),
                thickness * 0.66,
                spread,
                depth - 1,
                out,
            )


def tree_card(rng, width, height, bare, texels_per_metre=TEXELS_PER_METRE):
    """
    Return a cut-out tree.

    :param width: metres.
    :param height: metres; the trunk stands at the middle of the lower edge.
    :param bare: a winter tree without leaves.
    :return: RGBA uint8.
    """
    rows, columns = int(height * texels_per_metre), int(width * texels_per_metre)
    bark = np.array(((74, 62, 52), (88, 80, 68), (60, 52, 46))[rng.integers(3)]) * rng.uniform(0.7, 1.2)
    texture = 1 + 0.22 * value_noise(rng, rows, columns, (14, 2)) + 0.1 * value_noise(rng, rows, columns, 1)
    color = paint(bark, texture - 1)
    alpha = np.zeros((rows, columns), np.uint8)
    skeleton = []
    trunk = rows * rng.uniform(0.2, 0.3)
    thickness = max(3.0, 0.032 * rows)
    base = (columns / 2, rows - 1.0)
    fork = (columns / 2 + rng.normal(0, 0.01 * rows), rows - trunk)
    skeleton.append((*base, *fork, thickness))
    depth = 5 if bare else 3
    for angle in np.linspace(np.pi * 0.86, np.pi * 0.14, rng.integers(3, 6)) + rng.normal(0, 0.1):
        reach = rows * 0.27 * (1 - 0.25 * abs(angle - np.pi / 2))
        _branches(rng, fork, angle, reach, thickness * 0.55, 0.75, depth, skeleton)
    skeleton = np.array(skeleton)
    # Fit the crown into the card.
    lift = min(1.0, 0.97 * rows / max(1.0, rows - skeleton[:, 1:4:2].min()))
    reach = min(1.0, 0.48 * columns / np.abs(skeleton[:, 0:3:2] - columns / 2).max())
    fit = min(lift, reach)
    skeleton[:, 1:4:2] = rows - (rows - skeleton[:, 1:4:2]) * fit
    skeleton[:, 0:3:2] = columns / 2 + (skeleton[:, 0:3:2] - columns / 2) * fit
    for x0, y0, x1, y1, t in skeleton:
        cv2.line(
            alpha,
            (int(x0 * 8), int(y0 * 8)),
            (int(x1 * 8), int(y1 * 8)),
            255,
            max(1, round(t)),
            cv2.LINE_AA,
            3,
        )
    if bare:
        return np.dstack([to_uint8(color), alpha])
    green = np.array(
        ((72, 92, 44), (86, 100, 50), (58, 78, 44), (104, 104, 52), (124, 92, 46))[rng.integers(5)],
        np.float32,
    )
    foliage = materials.leaves(rng, rows, columns, green * rng.uniform(0.8, 1.1), leaf=rng.integers(4, 7))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    centre_y, radius_y = rows * 0.40, rows * 0.40
    radius = np.hypot((x - columns / 2) / (columns * 0.47), (y - centre_y) / radius_y)
    ragged = value_noise(rng, rows, columns, rows / 7) * 0.16 + value_noise(rng, rows, columns, 14) * 0.12
    ragged += value_noise(rng, rows, columns, 4) * 0.09
    crown = radius + ragged
    holes = value_noise(rng, rows, columns, 16) + 0.8 * value_noise(rng, rows, columns, 5)
    leaf_alpha = np.clip((0.98 - crown) * 14, 0, 1) * np.clip((2.0 - holes - radius * 0.9) * 6, 0, 1)
    light = np.clip(1.22 - 0.5 * (y - centre_y + radius_y) / (2 * radius_y), 0.55, 1.2)
    foliage = shade(foliage, light)
    color = cv2.blendLinear(color, foliage, 1 - leaf_alpha, leaf_alpha)
    alpha = np.maximum(alpha, leaf_alpha * 255)
    # Transparent texels get foliage colour, so that filtering does not darken the outline.
    color = np.where(alpha[..., None] < 8, foliage, color)
    return np.dstack([to_uint8(color), alpha.astype(np.uint8)])


def bush_card(rng, width, height, texels_per_metre=48):
    """Return a cut-out shrub, RGBA uint8."""
    rows, columns = int(height * texels_per_metre), int(width * texels_per_metre)
    color = np.array(((70, 88, 44), (58, 74, 42), (92, 96, 52), (96, 80, 56))[rng.integers(4)], np.float32)
    foliage = materials.leaves(rng, rows, columns, color, leaf=4)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    outline = rows * (
        0.28 + 0.1 * value_noise(rng, 1, columns, columns / 5)[0] + 0.05 * value_noise(rng, 1, columns, 5)[0]
    )
    edge = np.clip(np.minimum(x, columns - x) / (0.12 * columns), 0, 1) ** 0.5
    alpha = np.clip(
        (y - rows + (rows - outline) * edge[:1] + 6 * value_noise(rng, rows, columns, 4)) / 3, 0, 1
    )
    return np.dstack([to_uint8(foliage), (alpha * 255).astype(np.uint8)])


def treeline_card(rng, width, height, texels_per_metre=6):
    """Return a distant row of trees and roofs, RGBA uint8."""
    rows, columns = int(height * texels_per_metre), int(width * texels_per_metre)
    foliage = materials.leaves(rng, rows, columns, (78, 84, 66), leaf=2)
    top = rows * (
        0.45 + 0.16 * value_noise(rng, 1, columns, columns / 8)[0] + 0.1 * value_noise(rng, 1, columns, 12)[0]
    )
    y = np.arange(rows)[:, None]
    alpha = np.clip(y - top[None, :] + 2 * value_noise(rng, rows, columns, 3), 0, 1)
    return np.dstack([to_uint8(foliage), (alpha * 255).astype(np.uint8)])
