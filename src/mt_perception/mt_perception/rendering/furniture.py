"""Street furniture: lamp posts, signs, traffic lights, bollards, fences."""

import cv2
import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering.facade import word, write
from mt_perception.rendering.noise import fractal_noise, paint, shade, to_uint8, value_noise
from mt_perception.rendering.scene import UP


def metal(rng, color=None):
    """Return weathered metal, 256 rows along the post."""
    color = (
        ((96, 100, 104), (60, 64, 68), (40, 52, 46), (120, 122, 124), (34, 34, 36))[rng.integers(5)]
        if color is None
        else color
    )
    image = paint(color, 0.12 * fractal_noise(rng, 256, 16, ((60, 8), (10, 4), (2, 2))))
    image *= np.linspace(1.25, 0.7, 16, dtype=np.float32)[None, :, None]
    return to_uint8(image)


def add_post(builder, texture, position, height, width, label, bottom=0.0):
    """Add a square post."""
    builder.box(position, builder_yaw(position), (width, width, height), bottom, texture, label)


def builder_yaw(position):
    """Return a fixed pseudo-random rotation for a post at this position, so that not all faces align."""
    return float(np.sin(position[0] * 12.9898 + position[1] * 78.233) * 0.6)


def sign_plate(rng, kind):
    """Return a traffic sign, RGBA uint8, 192 × 192 (or 192 × 256 for 'board')."""
    rows, columns = (192, 256) if kind == 'board' else (192, 192)
    image = np.zeros((rows, columns, 3), np.float32)
    alpha = np.zeros((rows, columns), np.uint8)
    red, blue, white, black = (186, 26, 32), (24, 62, 148), (236, 236, 232), (22, 22, 24)
    if kind in ('limit', 'ban', 'order'):
        cv2.circle(alpha, (96, 96), 92, 255, -1)
        image[:] = blue if kind == 'order' else red
        if kind == 'limit':
            cv2.circle(image, (96, 96), 70, white, -1)
            write(image, str(rng.choice([20, 30, 40, 50])), (44, 60, 148, 132), black)
        elif kind == 'ban':
            if rng.random() < 0.5:
                cv2.rectangle(image, (36, 76), (156, 116), white, -1)
            else:
                cv2.circle(image, (96, 96), 74, blue, -1)
                cv2.line(image, (44, 44), (148, 148), red, 18)
        else:
            angle = rng.uniform(0, 2 * np.pi)
            tip = (int(96 + 60 * np.cos(angle)), int(96 + 60 * np.sin(angle)))
            tail = (int(96 - 56 * np.cos(angle)), int(96 - 56 * np.sin(angle)))
            cv2.arrowedLine(image, tail, tip, white, 16, tipLength=0.45)
    elif kind == 'warning':
        triangle = np.array([(96, 8), (188, 176), (4, 176)])
        cv2.fillPoly(alpha, [triangle], 255)
        image[:] = red
        cv2.fillPoly(image, [np.array([(96, 44), (160, 160), (32, 160)])], white)
        for _ in range(rng.integers(2, 5)):
            points = np.array((96, 115)) + rng.normal(0, 17, (3, 2))
            cv2.polylines(image, [points.astype(int)], rng.random() < 0.5, black, 9)
    else:
        alpha[:] = 255
        color = ((24, 62, 148), (20, 92, 60), (236, 236, 232), (190, 120, 20))[rng.integers(4)]
        image[:] = color
        ink = white if np.mean(color) < 140 else black
        cv2.rectangle(image, (6, 6), (columns - 7, rows - 7), ink, 5)
        for i in range(3):
            if rng.random() < 0.85:
                write(
                    image,
                    word(rng, 4, 8),
                    (24, 22 + i * 54, columns - rng.integers(24, 90), 60 + i * 54),
                    ink,
                )
    image = shade(image, 0.95 + 0.05 * value_noise(rng, rows, columns, 40))
    return np.dstack([to_uint8(image), alpha])


def traffic_light(rng):
    """Return the face of a traffic light, one lamp lit."""
    image = np.full((240, 90, 3), 24, np.float32)
    cv2.rectangle(image, (0, 0), (89, 239), (60, 60, 58), 4)
    lit = rng.integers(3)
    for i, color in enumerate(((240, 40, 30), (250, 170, 30), (40, 230, 140))):
        tone = color if i == lit else tuple(0.22 * c for c in color)
        cv2.circle(image, (45, 45 + 75 * i), 29, tone, -1)
        cv2.ellipse(image, (45, 45 + 75 * i), (33, 33), 0, 180, 360, (10, 10, 10), 5)
    return to_uint8(image)


def railing(rng, kind):
    """
    Return 2 m × 1.1 m of fence that wraps along its columns.

    :param kind: 'bars', 'pickets', 'panel' or 'mesh'; RGBA uint8.
    """
    unit = 100
    rows, columns = int(1.1 * unit), 2 * unit
    alpha = np.zeros((rows, columns), np.uint8)
    if kind == 'bars':
        color = ((36, 38, 40), (44, 60, 50), (150, 152, 154), (20, 20, 22))[rng.integers(4)]
        image = paint(color, 0.12 * fractal_noise(rng, rows, columns, (20, 4, 1)))
        gap = rng.choice([10, 12.5, 20])
        for x in np.arange(gap / 2, columns, gap):
            cv2.rectangle(alpha, (int(x), 4), (int(x) + 2, rows), 255, -1)
        for y in (8, rows - 16):
            cv2.rectangle(alpha, (0, y), (columns, y + 4), 255, -1)
        cv2.rectangle(alpha, (0, 0), (5, rows), 255, -1)
    elif kind == 'mesh':
        image = paint((130, 134, 132), 0.1 * fractal_noise(rng, rows, columns, (20, 4, 1)))
        for x in range(-rows, columns + rows, 20):
            cv2.line(alpha, (x, 0), (x + rows, rows), 200, 1, cv2.LINE_AA)
            cv2.line(alpha, (x + rows, 0), (x, rows), 200, 1, cv2.LINE_AA)
        cv2.rectangle(alpha, (0, 0), (6, rows), 255, -1)
        cv2.rectangle(alpha, (0, 0), (columns, 4), 255, -1)
    else:
        color = np.array(((142, 112, 78), (116, 92, 68), (222, 220, 212), (96, 84, 70))[rng.integers(4)])
        image = np.ascontiguousarray(
            materials.wood(rng, rows, columns, 12, color, along_rows=False), np.float32
        )
        alpha[:] = 255
        if kind == 'pickets':
            alpha[:] = 0
            for x in range(2, columns, 14):
                cv2.fillPoly(
                    alpha, [np.array([(x, 12), (x + 4, 2), (x + 8, 12), (x + 8, rows), (x, rows)])], 255
                )
            for y in (26, rows - 30):
                cv2.rectangle(alpha, (0, y), (columns, y + 9), 255, -1)
                image[y + 10 : y + 13] *= 0.6
    return np.dstack([to_uint8(image), alpha])


def add_lamp_post(builder, rng, position, towards, height, label):
    """Add a street lamp with an arm that reaches over the road (unit vector ``towards``)."""
    texture = builder.texture(metal)
    add_post(builder, texture, position, height, rng.uniform(0.12, 0.18), label)
    reach = rng.uniform(1.0, 1.9)
    arm = np.asarray(position) + np.asarray(towards) * reach / 2
    yaw = float(np.arctan2(towards[1], towards[0]))
    builder.box(arm, yaw, (reach, 0.08, 0.08), height - 0.1, texture, label)
    builder.box(
        np.asarray(position) + np.asarray(towards) * reach,
        yaw,
        (0.6, 0.22, 0.12),
        height - 0.16,
        texture,
        label,
    )


def add_sign(builder, rng, position, facing, post_label, sign_label):
    """Add one or two plates on a post, facing along the unit vector ``facing``."""
    kinds = ('limit', 'ban', 'order', 'warning', 'board')
    texture = builder.texture(metal)
    top = rng.uniform(2.5, 3.1)
    add_post(builder, texture, position, top, 0.08, post_label)
    facing = np.asarray(facing, float)
    right = np.array([-facing[1], facing[0], 0.0])  # seen from the front
    grey = builder.texture(lambda r: to_uint8(paint((120, 122, 122), 0.06 * value_noise(r, 32, 32, 8))))
    z = top
    for _ in range(1 if rng.random() < 0.6 else 2):
        kind = kinds[rng.integers(len(kinds))]
        size = (0.9, 0.68) if kind == 'board' else (0.68, 0.68)
        plate = builder.texture(lambda r, kind=kind: sign_plate(r, kind))
        corner = np.r_[np.asarray(position) + facing * 0.06, z] - right * size[0] / 2
        builder.quad(corner, right, -UP, size, plate, sign_label)
        if kind == 'board':
            builder.quad(corner + right * size[0], -right, -UP, size, grey, sign_label)
        z -= size[1] + 0.06


def add_traffic_light(builder, rng, position, facing, post_label, sign_label):
    """Add a traffic light on a post."""
    texture = builder.texture(lambda r: metal(r, (30, 30, 32)))
    add_post(builder, texture, position, 2.4, 0.11, post_label)
    face, back = builder.texture(traffic_light), builder.texture(lambda r: metal(r, (26, 26, 28)))
    centre = np.asarray(position) + np.asarray(facing) * 0.12
    yaw = float(np.arctan2(facing[1], facing[0]))
    builder.box(centre, yaw, (0.22, 0.34, 0.92), 2.3, (face, back, back, back), sign_label, top=back)
