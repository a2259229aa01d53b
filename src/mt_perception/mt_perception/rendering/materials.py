"""Ground and wall materials: asphalt, paving, brick, render, roof tiles, grass, foliage."""

from functools import lru_cache

import cv2
import numpy as np

from mt_perception.rendering.noise import fractal_noise, paint, shade, to_uint8, value_noise

SHEET = 1024  # texels: side of a sheet of masonry
BRICKS = ((142, 84, 66), (160, 112, 84), (186, 164, 122), (196, 178, 140), (120, 76, 64), (150, 130, 104))
RENDERS = (
    (214, 208, 194),
    (226, 222, 214),
    (198, 190, 172),
    (180, 196, 206),
    (214, 190, 170),
    (170, 172, 170),
)


def asphalt(rng, height, width, texels_per_metre, tone):
    """Road surface [h,w] float32, rows along the road: grain, stains, wheel tracks, patches, cracks."""
    grain = fractal_noise(rng, height, width, (128, 32, 8, 2, 1), (0.5, 0.5, 0.7, 1.1, 1.3))
    image = tone * (1 + 0.085 * grain)
    lateral = np.linspace(-1, 1, width, dtype=np.float32)
    tracks = np.cos(lateral * np.pi * 2 * 2)  # two lanes, two wheels each
    image *= (1 + 0.05 * tracks)[None, :]
    for _ in range(rng.integers(0, 3)):  # utility patches
        w, h = (rng.uniform(0.5, 2.0, 2) * texels_per_metre).astype(int)
        x, y = rng.integers(0, max(1, width - w)), rng.integers(0, max(1, height - h))
        image[y : y + h, x : x + w] *= rng.uniform(0.72, 1.18)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), tone * 0.55, 2)
    for _ in range(rng.integers(5, 12)):  # cracks
        points = [rng.uniform(0, 1, 2) * (width, height)]
        direction = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(6, 24)):
            direction += rng.normal(0, 0.5)
            points.append(
                points[-1] + 0.2 * texels_per_metre * np.array([np.cos(direction), np.sin(direction)])
            )
        cv2.polylines(image, [np.array(points, int)], False, tone * rng.uniform(0.4, 0.65), 1, cv2.LINE_AA)
    for _ in range(rng.integers(8, 25)):  # oil, gum, leaves
        x, y = rng.uniform(0, 1, 2) * (width, height)
        radius = int(rng.uniform(0.02, 0.12) * texels_per_metre) + 1
        shade = tone * rng.choice([0.5, 0.65, 1.35])
        cv2.ellipse(image, (int(x), int(y)), (radius, max(1, radius * 2 // 3)), 0, 0, 360, shade, -1)
    return image


def paving(rng, height, width, texels_per_metre):
    """Pavement slabs with joints, stains, some replaced ones."""
    slab_w = rng.choice([0.45, 0.6, 0.9]) * texels_per_metre
    slab_h = rng.choice([0.45, 0.6, 0.75]) * texels_per_metre
    rows, columns = max(1, round(height / slab_h)), max(1, round(width / slab_w))
    base = rng.uniform(120, 165)
    tint = np.array([1.0, rng.uniform(0.95, 0.99), rng.uniform(0.86, 0.97)]) * base
    cells = 1 + 0.09 * rng.standard_normal((rows, columns)).astype(np.float32)
    cells[rng.random((rows, columns)) < 0.04] *= 0.7
    y = (np.arange(height) * rows / height).astype(int)
    x = np.arange(width) * columns / width
    shift = 0.5 * (np.arange(rows) % 2) if rng.random() < 0.6 else np.zeros(rows)
    column = (x[None, :] + shift[y][:, None]) % columns
    tone = cells[y[:, None], column.astype(int)]
    grain = fractal_noise(rng, height, width, (96, 24, 4, 1), (0.8, 0.6, 0.7, 0.9))
    image = paint(tint, tone * (1 + 0.07 * grain) - 1)
    line_x = (column % 1) < 1.3 / slab_w
    line_y = ((np.arange(height) * rows / height) % 1 < 1.3 / slab_h)[:, None]
    image[line_x | line_y] *= 0.62
    for _ in range(rng.integers(10, 40)):
        x0, y0 = rng.uniform(0, 1, 2) * (width, height)
        cv2.circle(
            image, (int(x0), int(y0)), int(rng.integers(1, 4)), tuple(tint * rng.choice([0.6, 1.25])), -1
        )
    return image


@lru_cache(maxsize=8)
def _courses(block_w, block_h, bond, spread, joint):
    """
    Return a sheet of masonry that repeats nowhere inside: the blocks' tints and how much of a texel is joint.

    Walls show random windows of it, which is much quicker than laying every wall anew.

    :param block_w: texels.
    :param block_h: texels.
    :param bond: shift of every other course in blocks, or None for random shifts.
    :param spread: deviation of the tints.
    :param joint: width of a joint in texels.
    """
    rng = np.random.default_rng([17, round(block_w * 64), round(block_h * 64)])
    y, x = np.arange(SHEET) / block_h, np.arange(SHEET) / block_w
    row = y.astype(int)
    courses = row.max() + 1
    shifts = np.arange(courses) % 2 * bond if bond is not None else rng.random(courses)
    column = x[None, :] + shifts[row][:, None]
    tints = 1 + spread * rng.standard_normal((courses, int(x.max()) + 3)).astype(np.float32)
    tint = tints[row[:, None], column.astype(int)]
    joint_x = np.clip(joint - (column % 1) * block_w, 0, 1)
    joint_y = np.clip(joint - (y % 1) * block_h, 0, 1)
    return tint, np.maximum(joint_x, joint_y[:, None]).astype(np.float32)


def _masonry(rng, height, width, sheet):
    """Return a random window [height,width] of a sheet: tints and joints."""
    if height > SHEET or width > SHEET:
        sheet = [np.tile(s, (-(-height // SHEET), -(-width // SHEET))) for s in sheet]
    y, x = rng.integers(0, sheet[0].shape[0] - height + 1), rng.integers(0, sheet[0].shape[1] - width + 1)
    window = (slice(y, y + height), slice(x, x + width))
    flip = 1 if rng.random() < 0.5 else -1
    return [s[window][:, ::flip] for s in sheet]


def bricks(rng, height, width, texels_per_metre, color):
    """Brickwork in running bond; each brick has its own tint."""
    color = np.asarray(color, np.float32)
    mortar = color * 0.4 + 0.6 * rng.uniform(110, 180)
    sheet = _courses(0.225 * texels_per_metre, 0.075 * texels_per_metre, 0.5, 0.16, 1.0)
    tint, joint = _masonry(rng, height, width, sheet)
    weathered = 1 + 0.07 * fractal_noise(rng, height, width, (128, 32, 8, 1), (1.2, 1, 0.6, 0.5))
    joint = 0.7 * joint * weathered
    brick = tint * (weathered - joint)
    return cv2.merge([float(c) * brick + float(m) * joint for c, m in zip(color, mortar)])


def stucco(rng, height, width, texels_per_metre, color):
    """Painted render with rain streaks and stains."""
    grain = fractal_noise(rng, height, width, (160, 48, 12, 3, 1), (0.8, 0.7, 0.5, 0.5, 0.5))
    streaks = value_noise(rng, height, width, (height / 2, 4))
    return paint(color, 0.04 * grain + 0.025 * streaks)


def stone(rng, height, width, texels_per_metre, color):
    """Ashlar blocks."""
    sizes = ((0.55, 0.28), (0.75, 0.34), (0.9, 0.4))[rng.integers(3)]
    sheet = _courses(sizes[0] * texels_per_metre, sizes[1] * texels_per_metre, None, 0.1, 1.2)
    tint, joint = _masonry(rng, height, width, sheet)
    weathered = 1 + 0.08 * fractal_noise(rng, height, width, (96, 24, 6, 1))
    return paint(color, tint * (1 - 0.28 * joint) * weathered - 1)


WALLS = {'bricks': bricks, 'stucco': stucco, 'stone': stone}


def choose_wall(rng):
    """Return a wall material and its colour, for all sides of one building: (name, [3] float)."""
    kind = ('bricks', 'bricks', 'stucco', 'stone')[rng.integers(4)]
    if kind == 'bricks':
        return kind, np.array(BRICKS[rng.integers(len(BRICKS))]) * rng.uniform(0.75, 1.1)
    if kind == 'stucco':
        return kind, np.array(RENDERS[rng.integers(len(RENDERS))]) * rng.uniform(0.8, 1.05)
    return kind, np.array((1.0, 0.95, 0.84)) * rng.uniform(130, 190)


def roof_tiles(rng, texels_per_metre=32, width=8.0, height=5.0):
    """Return a roof slope of slates or clay tiles."""
    w, h = int(width * texels_per_metre), int(height * texels_per_metre)
    color = np.array(
        [(96, 98, 106), (84, 84, 90), (138, 84, 66), (116, 78, 64), (108, 102, 96)][rng.integers(5)]
    )
    tile_w, tile_h = 0.25 * texels_per_metre, 0.22 * texels_per_metre
    y, x = np.arange(h) / tile_h, np.arange(w) / tile_w
    row = y.astype(int)
    column = x[None, :] + 0.5 * (row % 2)[:, None]
    tints = 1 + 0.13 * rng.standard_normal((row.max() + 1, int(x.max()) + 3))
    image = paint(color, tints[row[:, None], column.astype(int)] - 1)
    image *= (0.7 + 0.45 * (1 - (y % 1)))[:, None, None]
    image[(column % 1) < 0.12] *= 0.75
    image = shade(image, 1 + 0.1 * fractal_noise(rng, h, w, (64, 16, 2, 1)))
    moss = np.clip(value_noise(rng, h, w, 40) - 1.1, 0, 0.5)[..., None]
    return to_uint8(image * (1 - moss) + moss * np.array((86, 96, 60)))


def grass(rng, size=512):
    """Return a wrapping patch of grass."""
    noise = fractal_noise(rng, size, size, (128, 32, 8, 2, 1), (0.8, 0.7, 0.6, 1.0, 1.0), wrap=True)
    hue = value_noise(rng, size, size, 48, wrap=True)
    color = cv2.merge([c + d * hue for c, d in zip((84, 104, 52), (12, 4, 5))])
    return to_uint8(shade(color, 1 + 0.22 * noise))


def gravel(rng, size=512):
    """Return a wrapping patch of dirt and gravel."""
    noise = fractal_noise(rng, size, size, (128, 32, 6, 2, 1), (0.7, 0.6, 0.8, 1.0, 0.8), wrap=True)
    return to_uint8(paint((128, 118, 104), 0.17 * noise))


def leaves(rng, height, width, color=None, leaf=5, wrap=False):
    """Dense foliage seen from outside: clumps lit from above, dark gaps, single leaves."""
    color = np.array((70, 92, 44) if color is None else color, np.float32)
    clumps = value_noise(rng, height, width, leaf * 9, wrap)
    twigs = value_noise(rng, height, width, leaf * 3, wrap)
    fine = fractal_noise(rng, height, width, (leaf, leaf / 2, 1), (1.0, 0.9, 0.5), wrap)
    lit = clumps - np.roll(clumps, leaf * 2, axis=0)
    brightness = 0.80 + 0.16 * lit + 0.13 * twigs + 0.26 * fine
    hue = value_noise(rng, height, width, leaf * 6, wrap)
    brightness = np.clip(brightness, 0.12, 1.9)
    return cv2.merge([(c + d * hue) * brightness for c, d in zip(color, (9, 4, -3))])


def hedge(rng, size=384):
    """Return a wrapping patch of clipped hedge."""
    color = np.array(((62, 80, 40), (74, 92, 46), (52, 70, 40), (96, 92, 52))[rng.integers(4)])
    return to_uint8(leaves(rng, size, size, color, leaf=4, wrap=True))


def wood(rng, height, width, plank, color, along_rows=True):
    """Planks with grain, in texels; planks run along the rows (or columns)."""
    if not along_rows:
        return np.swapaxes(wood(rng, width, height, plank, color), 0, 1)
    rows = -(-height // plank)
    grain = value_noise(rng, height, width, (1.2, 90)) + 0.7 * value_noise(rng, height, width, (3, 200))
    tints = 1 + 0.1 * rng.standard_normal(rows).astype(np.float32)
    row = np.arange(height) // plank
    image = paint(color, tints[row][:, None] * (1 + 0.07 * grain) - 1)
    image[np.arange(height) % plank == 0] *= 0.5
    for r in range(rows):
        for x in np.arange(rng.uniform(0, 1) * 400, width, 400):
            image[r * plank : (r + 1) * plank, int(x) : int(x) + 1] *= 0.5
        if rng.random() < 0.5:
            x, y = int(rng.uniform(0, width)), int((r + 0.5) * plank)
            cv2.ellipse(image, (x, y), (5, 2), 0, 0, 360, tuple(np.array(color) * 0.5), -1)
    return image
