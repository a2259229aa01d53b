"""Building fronts: walls with windows, doors, shop fronts and signs."""

import cv2
import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering.noise import fractal_noise, paint, shade, to_uint8, value_noise

TEXELS_PER_METRE = 48
LETTERS = 'ABCDEFGHIKLMNOPRSTUVWY'
SIGN_COLORS = (
    (28, 60, 44), (120, 24, 30), (24, 34, 84), (20, 20, 22), (214, 200, 160), (70, 40, 86), (196, 90, 30),
    (40, 96, 110),
)  # fmt: skip
DOOR_COLORS = ((120, 24, 24), (20, 40, 80), (24, 64, 40), (30, 30, 32), (226, 224, 216), (88, 60, 36))


def word(rng, low=4, high=9):
    """Return a pronounceable nonsense word."""
    vowels, consonants = 'AEIOU', 'BCDFGHLMNPRSTVW'
    pick = [(consonants if i % 2 == 0 else vowels) for i in range(rng.integers(low, high))]
    return ''.join(p[rng.integers(len(p))] for p in pick)


def write(image, text, box, color, thickness=None, font=cv2.FONT_HERSHEY_DUPLEX):
    """Write a text so that it fills the box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    (w, h), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min((x1 - x0) / max(w, 1), (y1 - y0) / max(h, 1))
    if scale <= 0.05:
        return
    thickness = max(1, round(scale * 2)) if thickness is None else thickness
    x = int((x0 + x1 - w * scale) / 2)
    y = int((y0 + y1 + h * scale) / 2)
    mask = np.zeros(image.shape[:2], np.uint8)  # OpenCV 5 writes on 8-bit images only
    cv2.putText(mask, text, (x, y), font, scale, 255, thickness, cv2.LINE_AA)
    inked = mask > 0
    weight = mask[inked].astype(np.float32) / 255
    if image.ndim == 3:
        weight = weight[:, None]
    image[inked] = image[inked] * (1 - weight) + np.asarray(color, np.float32) * weight


def window(rng, image, box, frame):
    """Paint a sash or casement window into box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = (int(v) for v in box)
    height, width = y1 - y0, x1 - x0
    if height < 6 or width < 6:
        return
    dark = rng.uniform(22, 70)
    rows = np.linspace(1.5, 0.6, height, dtype=np.float32)[:, None]
    noise = value_noise(rng, height, width, max(6, width / 2))
    glass = paint(np.array((0.93, 1.0, 1.1)) * dark, rows + 0.28 * noise - 1)
    if rng.random() < 0.5:  # a sky reflection
        cut = rng.integers(height // 4, height)
        glass[:cut] += rng.uniform(10, 90) * np.clip(0.6 + 0.5 * noise[:cut, :, None], 0, 1)
    if rng.random() < 0.6:  # curtains or a blind
        tone = np.array((206, 200, 188)) * rng.uniform(0.4, 0.95) * rng.uniform(0.85, 1, 3)
        if rng.random() < 0.5:
            side = max(2, int(width * rng.uniform(0.1, 0.3)))
            folds = 1 + 0.18 * np.sin(np.arange(side) * 1.6)[None, :, None]
            glass[:, :side] = tone * folds
            glass[:, width - side :] = tone * folds
        else:
            drop = int(height * rng.uniform(0.15, 0.7))
            glass[:drop] = tone
            glass[:drop:3] *= 0.9
    image[y0:y1, x0:x1] = glass
    bar = max(2, round(0.05 * TEXELS_PER_METRE))
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), frame, bar)
    for i in range(1, rng.integers(1, 4)):
        x = x0 + width * i // rng.integers(i + 1, i + 3)
        cv2.line(image, (x, y0), (x, y1), frame, max(1, bar - 1))
    for i in range(1, rng.integers(2, 4)):
        y = y0 + height * i // 2
        cv2.line(image, (x0, y), (x1, y), frame, bar)


def _surround(rng, image, box, style, trim):
    """Lintel, sill and surround of an opening, with a cast shadow."""
    x0, y0, x1, y1 = (int(v) for v in box)
    unit = TEXELS_PER_METRE
    if style in (1, 2):
        cv2.rectangle(image, (x0 - unit // 8, y0 - unit // 4), (x1 + unit // 8, y0), trim, -1)
    if style == 2:
        cv2.rectangle(image, (x0 - unit // 8, y0), (x1 + unit // 8, y1), trim, -1)
    cv2.rectangle(image, (x0 - unit // 8, y1), (x1 + unit // 8, y1 + unit // 8), trim, -1)
    y = min(y1 + unit // 8, image.shape[0] - 1)
    image[y : y + 3, max(0, x0 - unit // 8) : x1 + unit // 8] *= 0.6


def _door(rng, image, box):
    """Paint a panelled door with a fanlight."""
    x0, y0, x1, y1 = (int(v) for v in box)
    color = np.array(DOOR_COLORS[rng.integers(len(DOOR_COLORS))], float) * rng.uniform(0.8, 1.1)
    cv2.rectangle(image, (x0 - 4, y0 - 4), (x1 + 4, y1), (222, 220, 212), -1)
    cv2.rectangle(image, (x0, y0), (x1, y1), tuple(color), -1)
    h, w = y1 - y0, x1 - x0
    cv2.rectangle(image, (x0 + 3, y0 + 3), (x1 - 3, y0 + h // 6), (50, 56, 64), -1)
    for i in range(2):
        for j in range(2):
            a = (x0 + w // 10 + i * w // 2, y0 + h // 4 + j * h * 3 // 8)
            b = (a[0] + w * 3 // 10, a[1] + h * 3 // 10)
            cv2.rectangle(image, a, b, tuple(color * 0.6), 2)
            cv2.line(image, (a[0], b[1]), b, tuple(np.minimum(color * 1.5 + 20, 255)), 1)
    cv2.circle(image, (x1 - w // 8, y0 + h * 5 // 8), 2, (210, 190, 110), -1)


def _shop(rng, image, height_m):
    """Paint a shop front over the ground floor: fascia with a name, display windows, door."""
    rows, columns = image.shape[:2]
    unit = TEXELS_PER_METRE
    top = rows - int(min(3.4, height_m) * unit)
    color = np.array(SIGN_COLORS[rng.integers(len(SIGN_COLORS))], float)
    ink = (240, 236, 220) if color.mean() < 120 else (40, 36, 30)
    image[top:] = color * 0.9
    image[top:] = shade(image[top:], 1 + 0.06 * fractal_noise(rng, rows - top, columns, (48, 8, 1)))
    fascia = top + int(0.75 * unit)
    cv2.rectangle(image, (0, top), (columns, fascia), tuple(color), -1)
    cv2.line(image, (0, fascia), (columns, fascia), tuple(color * 0.4), 3)
    cv2.line(image, (0, top), (columns, top), tuple(np.minimum(color * 1.4 + 30, 255)), 3)
    start = 0
    while start < columns - unit:
        end = min(columns, start + int(rng.uniform(3.5, 7) * unit))
        name = word(rng) + (' ' + word(rng, 3, 6) if rng.random() < 0.5 else '')
        write(image, name, (start + 10, top + 8, end - 10, fascia - 8), ink)
        start = end
    bay = columns / max(1, round(columns / (rng.uniform(1.6, 2.6) * unit)))
    door_at = rng.integers(0, max(1, int(columns / bay)))
    for i in range(int(round(columns / bay))):
        x0, x1 = int(i * bay) + 5, int((i + 1) * bay) - 5
        y0, y1 = fascia + 8, rows - (4 if i == door_at else int(0.5 * unit))
        h, w = y1 - y0, x1 - x0
        if h < 8 or w < 8:
            continue
        base = rng.uniform(35, 95)
        glass = paint(np.array((1.0, 0.98, 0.92)) * base, 0.45 * value_noise(rng, h, w, 22))
        image[y0:y1, x0:x1] = glass
        for _ in range(rng.integers(4, 14)):  # goods, posters
            gx, gy = x0 + rng.integers(0, w), y0 + rng.integers(h // 5, h)
            gw, gh = rng.integers(4, 26), rng.integers(5, 34)
            tone = tuple(float(v) for v in rng.uniform(30, 230, 3) * 0.8)
            cv2.rectangle(image, (gx, gy), (min(gx + gw, x1), min(gy + gh, y1)), tone, -1)
        sheen = np.clip(value_noise(rng, h, w, w), 0, 1)[..., None]
        image[y0:y1, x0:x1] += 45 * sheen
        cv2.rectangle(image, (x0, y0), (x1, y1), tuple(color * 1.2), 3)


def facade(rng, width, height, style, wall):
    """
    Return the front of a building.

    :param width: metres.
    :param height: metres.
    :param style: 'house', 'shop', 'office' or 'blank'.
    :param wall: material and colour from :func:`materials.choose_wall`.
    :return: [height, width] · 48 texels per metre, RGB uint8.
    """
    unit = TEXELS_PER_METRE
    rows, columns = int(height * unit), int(width * unit)
    kind, color = wall
    image = np.ascontiguousarray(materials.WALLS[kind](rng, rows, columns, unit, color), dtype=np.float32)
    trim = tuple(np.array((214, 206, 190)) * rng.uniform(0.6, 1.05))
    frame = [(232, 230, 224), (222, 220, 210), (50, 46, 44), (96, 70, 50)][
        rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])
    ]
    storey = rng.uniform(2.7, 3.3)
    ground = 3.5 if style == 'shop' else storey
    if style == 'office':
        _office(rng, image, storey, frame)
    elif style != 'blank':
        _house(rng, image, width, height, storey, ground, frame, trim, style)
    if style == 'shop':
        _shop(rng, image, min(3.5, height))
    if style != 'blank' and height > 4:  # cornice, gutter, pipe
        cv2.rectangle(image, (0, 0), (columns, unit // 4), trim, -1)
        image[unit // 4 : unit // 4 + 6] *= 0.6
        if rng.random() < 0.7:
            x = int(rng.choice([0.12, width - 0.2]) * unit)
            image[unit // 4 :, x : x + 4] = np.array((52, 52, 54)) * rng.uniform(0.6, 2.5)
            image[unit // 4 :, x + 4 : x + 7] *= 0.7
    damp = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 8
    dirt = 0.05 * fractal_noise(rng, rows, columns, (columns / 2, 40, 8)) - 0.2 * damp
    return to_uint8(shade(image, 1 + dirt))


def _house(rng, image, width, height, storey, ground, frame, trim, style):
    """Rows of windows over a ground floor with a door."""
    unit = TEXELS_PER_METRE
    rows = image.shape[0]
    bays = max(1, round(width / rng.uniform(2.0, 3.0)))
    bay = width / bays
    window_w, window_h = min(bay * 0.55, rng.uniform(0.9, 1.4)), rng.uniform(1.2, 1.75)
    surround = rng.integers(0, 3)
    door_bay = rng.integers(0, bays)
    level = 0
    floor = 0.0
    while floor + window_h + 0.7 < height:
        floor_height = ground if level == 0 else storey
        for i in range(bays):
            centre = (i + 0.5) * bay
            if level == 0 and style == 'shop':
                continue
            if level == 0 and i % max(2, bays // 2) == door_bay % max(2, bays // 2):
                box = ((centre - 0.47) * unit, rows - 2.15 * unit, (centre + 0.47) * unit, rows - 1)
                _door(rng, image, box)
                continue
            bottom = floor + 0.85
            box = (
                (centre - window_w / 2) * unit,
                rows - (bottom + window_h) * unit,
                (centre + window_w / 2) * unit,
                rows - bottom * unit,
            )
            if box[1] < unit * 0.3:
                continue
            _surround(rng, image, box, surround, trim)
            window(rng, image, box, frame)
        floor += floor_height
        level += 1


def _office(rng, image, storey, frame):
    """Bands of glass between spandrels."""
    unit = TEXELS_PER_METRE
    rows, columns = image.shape[:2]
    bay = rng.uniform(1.1, 2.2) * unit
    panel = np.array(((110, 120, 128), (170, 168, 160), (150, 110, 90), (70, 84, 96))[rng.integers(4)], float)
    y = rows
    while y - storey * unit > 0.3 * unit:
        top = int(y - storey * unit)
        cv2.rectangle(
            image, (0, top), (columns, int(top + 0.9 * unit)), tuple(panel * rng.uniform(0.92, 1.08)), -1
        )
        for x in np.arange(0, columns - 4, bay):
            window(rng, image, (x + 2, top + 0.9 * unit, min(x + bay - 2, columns - 1), y - 2), frame)
        y = top
