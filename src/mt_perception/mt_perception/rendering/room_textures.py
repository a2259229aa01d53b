"""Textures of things in a room: posters, wallpaper, floors, books, boxes, screens, paper."""

import cv2
import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering.facade import word, write
from mt_perception.rendering.noise import fractal_noise, paint, shade, to_uint8, value_noise

WOODS = ((176, 132, 84), (148, 100, 62), (110, 76, 50), (196, 164, 116), (206, 196, 176), (90, 66, 50))
FRONTS = ((178, 26, 34), (214, 212, 206), (40, 62, 96), (120, 140, 110), (60, 60, 64), (196, 160, 70))


def ink_color(rng, low=20, high=235):
    """Return a random colour as printed things have: seldom fully saturated."""
    gray = rng.uniform(low, high)
    color = gray + (rng.uniform(low, high, 3) - gray) * rng.beta(1.6, 2.2)
    return tuple(float(c) for c in color)


def poster(rng, width, height):
    """Return a poster: a picture of shapes over gradients, with a title and small print."""
    rows, columns = int(height * 400), int(width * 400)
    top, bottom = np.array(ink_color(rng)), np.array(ink_color(rng))
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    image = np.ascontiguousarray(
        np.broadcast_to(top * (1 - ramp) + bottom * ramp, (rows, columns, 3)), np.float32
    )
    for _ in range(rng.integers(8, 30)):
        x, y = rng.uniform(0, 1, 2) * (columns, rows)
        color = ink_color(rng, 20, 245)
        size = rng.uniform(0.03, 0.25) * columns
        shape = rng.integers(4)
        if shape == 0:
            cv2.circle(image, (int(x), int(y)), int(size), color, rng.choice([-1, 3, 8]))
        elif shape == 1:
            cv2.rectangle(
                image, (int(x), int(y)), (int(x + size), int(y + size * rng.uniform(0.3, 2))), color, -1
            )
        elif shape == 2:
            points = np.array((x, y)) + rng.normal(0, size, (3, 2))
            cv2.fillPoly(image, [points.astype(np.int32)], color)
        else:
            cv2.line(
                image,
                (int(x), int(y)),
                (int(x + rng.normal(0, 2 * size)), int(y + rng.normal(0, size))),
                color,
                4,
            )
    ink = (20, 20, 22) if bottom.mean() > 120 else (240, 240, 236)
    write(image, word(rng, 4, 9), (columns // 12, rows // 24, columns * 11 // 12, rows // 6), ink)
    _text(rng, image, (columns // 10, rows * 3 // 4, columns * 9 // 10, rows * 23 // 24), ink)
    cv2.rectangle(image, (0, 0), (columns - 1, rows - 1), ink_color(rng), 8)
    return to_uint8(shade(image, 1 + 0.03 * value_noise(rng, rows, columns, 2)))


def _text(rng, image, box, ink):
    """Fill a box with lines of words."""
    x0, y0, x1, y1 = box
    line = max(10, (y1 - y0) // rng.integers(3, 9))
    for y in range(y0, y1 - line + 1, line):
        x = x0
        while x < x1 - 2 * line:
            end = min(x1, x + int(line * rng.uniform(1.5, 4.5)))
            write(image, word(rng, 2, 8), (x, y + line // 6, end, y + line * 3 // 4), ink)
            x = end + line // 2


def wallpaper(rng, kind):
    """Return 2 m × 2 m of wall that wraps."""
    size = 600
    color = np.array(
        ((196, 190, 176), (178, 190, 194), (206, 196, 186), (150, 166, 150), (200, 180, 160))[rng.integers(5)]
    )
    image = np.ascontiguousarray(
        paint(color, 0.03 * fractal_noise(rng, size, size, (100, 25, 5, 1), wrap=True)), np.float32
    )
    if kind == 'tiles':
        step = int(rng.choice([40, 50, 60, 75]))
        tints = 1 + 0.06 * rng.standard_normal((size // step + 1, size // step + 1)).astype(np.float32)
        index = np.arange(size) // step
        image = shade(image, tints[index[:, None], index[None, :]])
        image[np.arange(size) % step < 3] *= 0.72
        image[:, np.arange(size) % step < 3] *= 0.72
    elif kind == 'pattern':
        step = int(rng.choice([50, 60, 75, 100]))
        motif = np.zeros((step, step), np.float32)
        for _ in range(rng.integers(2, 5)):
            points = (rng.uniform(0.1, 0.9, (rng.integers(2, 5), 2)) * step).astype(np.int32)
            cv2.polylines(motif, [points], rng.random() < 0.5, 1.0, int(rng.integers(1, 4)), cv2.LINE_AA)
            cv2.circle(
                motif, tuple(points[0].tolist()), int(step * rng.uniform(0.05, 0.2)), 1.0, rng.choice([-1, 2])
            )
        ink = color * rng.uniform(0.55, 0.85)
        mask = np.tile(motif, (size // step, size // step))[..., None] * 0.8
        image = image * (1 - mask) + ink * mask
    elif kind == 'bricks':
        image = np.ascontiguousarray(
            materials.bricks(rng, size, size, 300, materials.choose_wall(rng)[1]), np.float32
        )
    return to_uint8(image)


def floor(rng):
    """Return 3 m × 3 m of floor that wraps: boards, tiles or carpet."""
    size, kind = 768, rng.integers(3)
    if kind == 0:
        image = materials.wood(rng, size, size, 32, WOODS[rng.integers(len(WOODS))])
    elif kind == 1:
        step = 96
        tints = 1 + 0.08 * rng.standard_normal((size // step, size // step))
        index = np.arange(size) // step
        tone = rng.uniform(110, 190)
        image = paint(
            (tone, tone * 0.97, tone * 0.92),
            tints[index[:, None], index] - 1 + 0.09 * fractal_noise(rng, size, size),
        )
        image[np.arange(size) % step < 3] *= 0.6
        image[:, np.arange(size) % step < 3] *= 0.6
    else:
        stripes = value_noise(rng, size, size, (60, 3)) + 0.6 * value_noise(rng, size, size, 1)
        image = paint(np.array((120, 122, 128)) * rng.uniform(0.6, 1.3), 0.09 * stripes)
    return to_uint8(np.asarray(image))


def books(rng, width, height):
    """Return a row of book spines on a shelf."""
    unit = 420
    rows, columns = int(height * unit), int(width * unit)
    image = np.full((rows, columns, 3), 28, np.float32)
    x = 0
    while x < columns - 4:
        w = int(rng.uniform(0.012, 0.055) * unit)
        if rng.random() < 0.06:
            x += w
            continue
        h = int(rows * rng.uniform(0.6, 0.95))
        color = np.array(ink_color(rng, 20, 230))
        end = min(x + w, columns)
        curve = 1 - 0.35 * np.abs(np.linspace(-1, 1, end - x)) ** 2
        image[rows - h :, x:end] = color * curve[None, :, None]
        ink = color * 0.3 if color.mean() > 120 else np.minimum(color * 1.5 + 110, 255)
        for y in rows - h + rng.integers(6, h - 6, rng.integers(1, 4)):
            image[y : y + rng.integers(2, 10), x + 1 : end - 1] = ink
        label = np.zeros((max(6, w - 4), h // 2, 3), np.float32)
        label[:] = -1
        write(label, word(rng, 4, 9), (2, 1, h // 2 - 2, w - 5), ink)
        label = cv2.rotate(label, cv2.ROTATE_90_CLOCKWISE)
        y0 = rows - h + h // 4
        part = image[y0 : y0 + label.shape[0], x + 2 : x + 2 + label.shape[1]]
        label = label[: part.shape[0], : part.shape[1]]
        part[label >= 0] = label[label >= 0]
        x = end + rng.integers(0, 3)
    return to_uint8(shade(image, 1 + 0.05 * value_noise(rng, rows, columns, 3)))


def carton(rng):
    """Return one face of a product or cardboard box."""
    image = np.empty((256, 256, 3), np.float32)
    color = np.array(ink_color(rng, 30, 235)) if rng.random() < 0.65 else np.array((178, 140, 96))
    image[:] = color
    for _ in range(rng.integers(1, 5)):
        x, y, w, h = rng.integers(0, 200, 4)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h // 2)), ink_color(rng), -1)
    ink = (20, 20, 20) if color.mean() > 110 else (238, 238, 232)
    write(image, word(rng, 4, 9), (14, 20, 242, 96), ink)
    _text(rng, image, (20, 150, 236, 240), ink)
    return to_uint8(shade(image, 1 + 0.05 * fractal_noise(rng, 256, 256, (60, 8, 1))))


def screen(rng):
    """Return a computer screen with windows and text."""
    image = np.empty((300, 480, 3), np.float32)
    image[:] = rng.uniform(30, 150, 3)
    for _ in range(rng.integers(2, 5)):
        x, y = rng.integers(10, 260), rng.integers(10, 150)
        w, h = rng.integers(150, 300), rng.integers(90, 200)
        x1, y1 = min(x + w, 470), min(y + h, 290)
        paper = (245, 246, 248) if rng.random() < 0.6 else (32, 34, 40)
        cv2.rectangle(image, (int(x), int(y)), (int(x1), int(y1)), paper, -1)
        cv2.rectangle(image, (int(x), int(y)), (int(x1), int(y + 14)), ink_color(rng, 40, 220), -1)
        ink = (30, 30, 34) if paper[0] > 100 else tuple(rng.uniform(120, 250, 3))
        _text(rng, image, (int(x) + 8, int(y) + 22, int(x1) - 8, int(y1) - 6), ink)
    cv2.rectangle(image, (0, 0), (479, 299), (18, 18, 20), 14)
    return to_uint8(image)


def paper(rng):
    """Return a printed page or magazine."""
    if rng.random() < 0.5:
        return poster(rng, 0.5, 0.7)
    image = np.full((280, 200, 3), 236, np.float32)
    write(image, word(rng, 5, 9), (16, 14, 180, 44), (24, 24, 28))
    _text(rng, image, (16, 60, 184, 270), (50, 50, 54))
    if rng.random() < 0.6:
        image[90:170, 20:110] = poster(rng, 0.25, 0.2)[:80, :90]
    return to_uint8(image)


def cupboard(rng, width, height):
    """Return the front of a cupboard: doors or drawers with handles."""
    rows, columns = int(height * 256), int(width * 256)
    color = np.array(
        FRONTS[rng.integers(len(FRONTS))] if rng.random() < 0.5 else WOODS[rng.integers(len(WOODS))]
    )
    image = np.ascontiguousarray(materials.wood(rng, rows, columns, rows, color), np.float32)
    doors, drawers = max(1, round(width / 0.45)), rng.integers(1, 4)
    for i in range(doors):
        for j in range(drawers):
            x0, x1 = i * columns // doors, (i + 1) * columns // doors
            y0, y1 = j * rows // drawers, (j + 1) * rows // drawers
            cv2.rectangle(image, (x0 + 3, y0 + 3), (x1 - 4, y1 - 4), tuple(color * 0.35), 3)
            cv2.rectangle(image, (x0 + 22, y0 + 22), (x1 - 22, y1 - 22), tuple(color * 0.75), 2)
            hx = (x0 + x1) // 2 if drawers > 1 else x1 - 24
            hy = y0 + 26 if drawers > 1 else (y0 + y1) // 2
            cv2.rectangle(image, (hx - 26, hy), (hx + 26, hy + 7), (206, 206, 204), -1)
            cv2.rectangle(image, (hx - 26, hy + 7), (hx + 26, hy + 10), (40, 40, 40), -1)
    return to_uint8(image)
