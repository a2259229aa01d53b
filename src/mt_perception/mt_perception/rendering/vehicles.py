"""Cars and vans: an extruded side profile with painted sides, glass and lamps."""

import cv2
import numpy as np

from mt_perception.rendering.facade import word, write
from mt_perception.rendering.noise import paint, shade, to_uint8, value_noise

TEXELS_PER_METRE = 90
PAINTS = (
    (150, 152, 156), (92, 96, 102), (28, 30, 34), (212, 214, 216), (134, 24, 28), (30, 48, 104), (40, 72, 56),
    (176, 180, 184), (60, 74, 92), (180, 150, 60), (100, 40, 52), (20, 60, 130),
)  # fmt: skip
# Side profiles from the front bumper over the roof to the rear bumper, metres (x back, z up), and the index
# of the segment (from point i to i + 1) that is glass.
PROFILES = {
    'hatchback': (
        [(0.0, 0.28), (0.0, 0.62), (0.12, 0.76), (0.95, 0.98), (1.65, 1.42),
         (2.95, 1.46), (3.70, 1.02), (3.84, 0.70), (3.84, 0.3)],
        (3, 5), 1.68, (0.72, 3.12)),
    'saloon': (
        [(0.0, 0.28), (0.0, 0.60), (0.14, 0.74), (1.15, 0.95), (1.85, 1.38),
         (2.95, 1.40), (3.62, 1.04), (4.42, 0.98), (4.50, 0.3)],
        (3, 5), 1.76, (0.85, 3.60)),
    'estate': (
        [(0.0, 0.28), (0.0, 0.62), (0.14, 0.76), (1.10, 0.98), (1.80, 1.44),
         (3.80, 1.46), (4.36, 1.04), (4.50, 0.76), (4.50, 0.3)],
        (3, 5), 1.76, (0.82, 3.55)),
    'suv': (
        [(0.0, 0.36), (0.0, 0.80), (0.12, 0.98), (1.05, 1.12), (1.70, 1.70),
         (3.90, 1.74), (4.30, 1.18), (4.40, 0.86), (4.40, 0.36)],
        (3, 5), 1.85, (0.85, 3.50)),
    'van': (
        [(0.0, 0.30), (0.0, 0.90), (0.10, 1.08), (0.75, 1.20), (1.35, 1.92),
         (4.75, 2.05), (4.90, 1.20), (4.95, 0.80), (4.95, 0.32)],
        (3,), 1.95, (0.85, 3.95)),
}  # fmt: skip


def _side(rng, profile, glass, color, axles):
    """Return the left side (front at the left), RGBA; covers the profile's length by 'height + 0'."""
    unit = TEXELS_PER_METRE * 2  # painted at double size, then reduced
    points = np.array(profile)
    length, height = points[:, 0].max(), points[:, 1].max()
    rows, columns = int(height * unit), int(length * unit)

    def texel(xz):
        xz = np.atleast_2d(xz)
        return np.c_[xz[:, 0] * unit, rows - xz[:, 1] * unit].astype(np.int32)

    image = np.empty((rows, columns, 3), np.float32)
    vertical = np.linspace(1.18, 0.72, rows, dtype=np.float32)[:, None, None]
    image[:] = np.array(color, np.float32) * vertical
    belt = points[3, 1] + 0.02
    y_belt = int(rows - belt * unit)
    image[y_belt + 6 : y_belt + 12] *= 1.25
    image[y_belt + int(0.25 * unit) : y_belt + int(0.25 * unit) + 4] *= 0.7
    image[int(rows - 0.42 * unit) :] *= 0.6
    # windows
    roof_front, roof_back = points[4], points[5]
    back_low = points[6] if len(glass) > 1 else points[5] * (1, 0) + (0, belt)
    pane = np.array(
        [
            points[3] + (0.18, 0.05),
            roof_front + (0.12, -0.08),
            roof_back + (-0.10, -0.08),
            back_low + (-0.16, 0.06),
        ]
    )
    if len(glass) == 1:  # van: only the cab has side windows
        pane[2:] = [(roof_front[0] + 0.75, roof_front[1] - 0.12), (roof_front[0] + 0.75, belt + 0.06)]
    mask = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(mask, [texel(pane)], 255)
    reflection = 34 + 26 * value_noise(rng, rows, columns, unit * 0.5)
    gradient = np.linspace(1.8, 0.5, rows, dtype=np.float32)[:, None]
    window = paint((0.95, 1.0, 1.06), reflection * gradient - 1)
    image[mask > 0] = window[mask > 0]
    cv2.polylines(image, [texel(pane)], True, (24, 24, 26), 5)
    span = pane[:, 0].max() - pane[:, 0].min()
    for share in (0.40, 0.74) if span > 1.4 else ():
        x = pane[:, 0].min() + share * span
        top = np.interp(x, points[3:6, 0], points[3:6, 1])
        cv2.line(
            image,
            tuple(texel((x, belt))[0].tolist()),
            tuple(texel((x + 0.06, top))[0].tolist()),
            (22, 22, 24),
            12,
        )
    # doors, handles, mirror, lamps
    for x in (pane[0, 0] - 0.1, pane[:, 0].min() + 0.42 * span, pane[:, 0].min() + 0.80 * span):
        a, b = texel((x, belt))[0], texel((x + 0.02, 0.36))[0]
        cv2.line(image, tuple(a.tolist()), tuple(b.tolist()), tuple(np.array(color) * 0.45), 3)
        handle = texel((x + 0.62, belt - 0.12))[0]
        cv2.rectangle(
            image,
            tuple(handle.tolist()),
            tuple((handle + (24, 7)).tolist()),
            tuple(np.array(color) * 0.5),
            -1,
        )
    lamp = texel(
        [(0.0, points[2, 1] - 0.02), (0.40, points[2, 1] + 0.08), (0.36, points[2, 1] - 0.08), (0, 0.56)]
    )
    cv2.fillPoly(image, [lamp], (214, 218, 222))
    rear = texel([(length, belt - 0.02), (length - 0.26, belt - 0.04), (length - 0.22, 0.72), (length, 0.66)])
    cv2.fillPoly(image, [rear], (150, 20, 22))
    # outline and wheels
    alpha = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(alpha, [texel(points)], 255)
    radius = 0.31 if height < 1.6 else 0.35
    for axle in axles:
        centre = tuple(texel((axle, radius))[0].tolist())
        cv2.circle(image, centre, int((radius + 0.06) * unit), (14, 14, 15), -1)
        cv2.circle(image, centre, int(radius * unit), (34, 34, 36), -1)
        cv2.circle(alpha, centre, int(radius * unit), 255, -1)
        rim = int(radius * 0.68 * unit)
        cv2.circle(image, centre, rim, (150, 152, 156), -1)
        spokes = rng.integers(5, 9)
        for angle in np.arange(spokes) * 2 * np.pi / spokes:
            tip = (centre[0] + int(0.62 * rim * np.cos(angle)), centre[1] + int(0.62 * rim * np.sin(angle)))
            cv2.circle(image, tip, rim // 5, (50, 50, 54), -1)
        cv2.circle(image, centre, rim // 5, (190, 192, 196), -1)
    image = shade(image, 1 + 0.03 * value_noise(rng, rows, columns, unit / 3))
    rgba = np.dstack([to_uint8(image), alpha])
    return cv2.resize(rgba, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)


def _end(rng, color, width, height, front):
    """Return the lower front or rear: grille or boot lid, lamps, number plate."""
    unit = 160
    rows, columns = int(height * unit), int(width * unit)
    image = np.empty((rows, columns, 3), np.float32)
    image[:] = np.array(color, np.float32) * np.linspace(1.1, 0.7, rows, dtype=np.float32)[:, None, None]
    image[int(rows * 0.86) :] = (34, 34, 36)
    lamp_w, lamp_h = int(columns * 0.2), max(6, int(rows * 0.3))
    for x in (4, columns - lamp_w - 4):
        lamp = (216, 220, 224) if front else (158, 22, 24)
        cv2.rectangle(image, (x, 4), (x + lamp_w, 4 + lamp_h), lamp, -1)
        cv2.rectangle(image, (x, 4), (x + lamp_w, 4 + lamp_h), (40, 40, 42), 3)
        cv2.circle(
            image,
            (x + lamp_w // 2, 4 + lamp_h // 2),
            lamp_h // 3,
            (250, 250, 244) if front else (214, 90, 30),
            -1,
        )
    if front:
        x0, x1 = int(columns * 0.26), int(columns * 0.74)
        cv2.rectangle(image, (x0, int(rows * 0.1)), (x1, int(rows * 0.42)), (22, 22, 24), -1)
        for y in range(int(rows * 0.12), int(rows * 0.42), 7):
            cv2.line(image, (x0, y), (x1, y), (120, 122, 126), 2)
    plate_w, plate_h = int(0.52 * unit), int(0.12 * unit)
    x, y = (columns - plate_w) // 2, int(rows * 0.52)
    cv2.rectangle(image, (x, y), (x + plate_w, y + plate_h), (236, 236, 232) if front else (232, 190, 40), -1)
    text = word(rng, 2, 3) + str(rng.integers(10, 99)) + ' ' + word(rng, 3, 4)
    write(image, text, (x + 3, y + 3, x + plate_w - 3, y + plate_h - 3), (18, 18, 18))
    return to_uint8(image)


def _panel(rng, color):
    """Return bonnet, roof or boot metal with a soft reflection."""
    noise = value_noise(rng, 96, 96, 40)
    image = paint(color, 0.08 + 0.10 * noise)
    image[:, 3:5] *= 0.6
    image[:, -5:-3] *= 0.6
    return to_uint8(image)


def _screen(rng, color):
    """Return a wind screen with a pillar frame, reflections and dark seats."""
    image = np.empty((96, 192, 3), np.float32)
    image[:] = np.array((50, 56, 62)) * np.linspace(1.9, 0.7, 96, dtype=np.float32)[:, None, None]
    image = shade(image, 1 + 0.3 * value_noise(rng, 96, 192, 40))
    for x in (52, 140):
        cv2.ellipse(image, (x, 84), (18, 34), 0, 0, 360, (22, 22, 24), -1)
        cv2.circle(image, (x, 50), 10, (26, 25, 26), -1)
    cv2.rectangle(image, (84, 8), (108, 16), (18, 18, 18), -1)
    cv2.rectangle(image, (0, 0), (191, 95), tuple(np.array(color) * 0.55), 8)
    return to_uint8(image)


def add_car(builder, rng, position, yaw, label, height=0.0, kind=None, grow=1.0, livery=False):
    """
    Add a car to a scene, with its shadow on the ground.

    :param position: (x, y) of its centre in metres.
    :param yaw: driving direction in radians.
    :param kind: one of ``PROFILES``; None: any.
    :param grow: factor on its size.
    :param livery: a van with a firm's name on its sides and windows in its rear doors.
    :return: (first, last) surface index.
    """
    first = len(builder)
    kind = rng.choice(list(PROFILES), p=[0.36, 0.24, 0.16, 0.14, 0.10]) if kind is None else kind
    profile, glass, width, axles = PROFILES[kind]
    points = np.array(profile)
    length, top = points[:, 0].max(), points[:, 1].max()
    color = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.85, 1.1)
    if kind == 'van' and rng.random() < 0.6:
        color = np.array((222, 222, 220))
    paint_width, paint_axles = width, axles
    side = builder.texture(lambda r: _side(r, profile, glass, color, paint_axles))
    other = builder.texture(
        lambda r: np.ascontiguousarray(_side(r, profile, glass, color, paint_axles)[:, ::-1])
    )
    doors = None
    if livery:
        firm = _Livery(rng)
        side = builder.texture(lambda r: firm.on_side(_side(r, profile, glass, color, paint_axles), False))
        other = builder.texture(
            lambda r: firm.on_side(
                np.ascontiguousarray(_side(r, profile, glass, color, paint_axles)[:, ::-1]), True
            )
        )
        doors = builder.texture(lambda r: firm.doors(r, color))
    screen = builder.texture(lambda r: _screen(r, color))
    panel = builder.texture(lambda r: _panel(r, color))
    front = builder.texture(lambda r: _end(r, color, paint_width, 0.45, True))
    rear = builder.texture(lambda r: _end(r, color, paint_width, 0.55, False))
    shadow = builder.texture(_shadow)
    points, width, axles, length, top = (
        points * grow,
        width * grow,
        np.array(axles) * grow,
        length * grow,
        top * grow,
    )

    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    left = np.array([-forward[1], forward[0], 0.0])
    nose = np.r_[np.asarray(position, float), height] + forward * length / 2

    def place(x, z, across):
        return nose - forward * x + left * (across * width / 2) + np.array([0, 0, z])

    origin = place(-0.25, 0.006, 1.15)
    builder.quad(origin, -left, -forward, (width * 1.15, length + 0.5), shadow, 254, layer=1)
    for i in range(len(points) - 1):
        (x0, z0), (x1, z1) = points[i], points[i + 1]
        upper, lower = ((x1, z1), (x0, z0)) if i < 5 else ((x0, z0), (x1, z1))
        slope = np.hypot(x1 - x0, z1 - z0)
        texture = screen if i in glass else front if i == 0 else rear if i == len(points) - 2 else panel
        if doors is not None and i == len(points) - 4:
            texture = doors
        # The front half is seen from ahead (its right-hand end is the car's left), the rear from behind.
        if i < 5:
            start, axis_u = place(*upper, -1), left
        else:
            start, axis_u = place(*upper, 1), -left
        axis_v = place(*lower, 0) - place(*upper, 0)
        builder.quad(start, axis_u, axis_v, (width, slope), texture, label, gain=0.95)
    builder.quad(place(0, top, 1), -forward, (0, 0, -1), (length, top), side, label)
    builder.quad(place(length, top, -1), forward, (0, 0, -1), (length, top), other, label)
    tyres = builder.texture(_tyres)
    for axle in axles:
        builder.quad(
            place(axle, 0.42 * grow, 0.96),
            -left,
            (0, 0, -1),
            (width * 0.96, 0.42 * grow),
            tyres,
            label,
            two_sided=True,
        )
    return first, len(builder)


class _Livery:
    """A firm's name and colours on the body of a van."""

    def __init__(self, rng):
        self.name = word(rng, 4, 8)
        self.below = word(rng, 3, 6) + ' ' + word(rng, 4, 8)
        self.color = np.array(PAINTS[rng.integers(len(PAINTS))], np.float32)
        self.ink = (30, 30, 34) if self.color.mean() > 110 else (226, 222, 214)
        self.stripe = rng.uniform(0.9, 1.2)  # metres above the ground

    def on_side(self, image, mirrored):
        """Paint the name on the cargo space of a side, RGBA uint8 (front at the left unless mirrored)."""
        rows, columns = image.shape[:2]
        paint_on = image[..., :3].astype(np.float32)
        x0, x1 = int(2.35 * TEXELS_PER_METRE), int(4.7 * TEXELS_PER_METRE)
        if mirrored:
            x0, x1 = columns - x1, columns - x0
        top, middle, low = (
            int(rows - z * TEXELS_PER_METRE) for z in (1.8, self.stripe + 0.2, self.stripe - 0.1)
        )
        paint_on[middle:low] = 0.25 * paint_on[middle:low] + 0.75 * self.color
        write(paint_on, self.name, (x0, top, x1, middle - 4), self.color * 0.8)
        write(paint_on, self.below, (x0, middle + 3, x1, low - 3), self.ink)
        return np.dstack([to_uint8(paint_on), image[..., 3]])

    def doors(self, rng, color):
        """Return the upper half of the rear doors: a seam, two windows, the name, RGB uint8."""
        rows, columns = 170, 380
        image = paint(color, 0.06 + 0.08 * value_noise(rng, rows, columns, 50))
        for x in (columns // 2, 6, columns - 7):
            cv2.line(image, (x, 0), (x, rows), tuple(np.array(color) * 0.4), 3)
        for x in (34, columns // 2 + 22):
            glass = paint((44, 50, 56), 0.4 * value_noise(rng, 76, 134, 40))
            glass[:24] += 50 * np.clip(value_noise(rng, 24, 134, 30), 0, 1)[..., None]
            image[12:88, x : x + 134] = glass
            cv2.rectangle(image, (x, 12), (x + 134, 88), (20, 20, 22), 4)
        cv2.rectangle(image, (columns // 2 - 30, 96), (columns // 2 - 12, 108), (24, 24, 26), -1)
        write(image, self.name, (30, 100, columns // 2 - 34, 160), self.color * 0.8)
        write(image, self.below, (columns // 2 + 14, 112, columns - 20, 150), self.color * 0.8)
        return to_uint8(image)


def _tyres(rng):
    """Return the tyres of one axle and the dark between them, seen from ahead or behind, RGBA."""
    image = np.full((84, 340, 3), 12, np.float32) + 5 * value_noise(rng, 84, 340, 5)[..., None]
    alpha = np.zeros((84, 340), np.uint8)
    alpha[:50] = 255
    alpha[:, :40] = alpha[:, -40:] = 255
    image[:, :40] += 18
    image[:, -40:] += 18
    return np.dstack([to_uint8(image), alpha])


def _shadow(rng):
    """Return a soft dark blob, RGBA."""
    y, x = np.mgrid[-1:1:64j, -1:1:48j]
    alpha = np.clip((1 - np.maximum(np.abs(x) ** 3, np.abs(y) ** 4)) * 2.2, 0, 1) * 170
    return np.dstack([np.full((64, 48, 3), 16, np.uint8), alpha.astype(np.uint8)])
