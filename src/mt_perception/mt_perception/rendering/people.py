"""Pedestrians and cyclists as cut-out cards."""

import cv2
import numpy as np

from mt_perception.rendering.noise import shade, to_uint8, value_noise

SCALE = 220  # texels per metre while painting
KEPT = 110  # texels per metre of the finished card
SKINS = ((224, 180, 150), (198, 150, 118), (142, 98, 72), (92, 62, 48), (232, 194, 170))
CLOTHES = (
    (30, 32, 40), (48, 56, 84), (90, 30, 34), (120, 118, 112), (20, 22, 24), (64, 82, 62),
    (160, 140, 110), (196, 196, 194),
    (150, 40, 44), (44, 90, 140), (86, 70, 58), (200, 170, 60),
)  # fmt: skip


class _Card:
    """A canvas in metres: x from the middle, z up."""

    def __init__(self, width, height):
        self.width, self.rows, self.columns = width, int(height * SCALE), int(width * SCALE)
        self.image = np.zeros((self.rows, self.columns, 3), np.float32)
        self.alpha = np.zeros((self.rows, self.columns), np.uint8)

    def texel(self, points):
        points = np.atleast_2d(np.asarray(points, float))
        return np.c_[(points[:, 0] + self.width / 2) * SCALE, self.rows - points[:, 1] * SCALE].astype(
            np.int32
        )

    def limb(self, points, thickness, color):
        for canvas, value in ((self.image, tuple(float(c) for c in color)), (self.alpha, 255)):
            cv2.polylines(
                canvas, [self.texel(points)], False, value, max(1, int(thickness * SCALE)), cv2.LINE_8
            )

    def polygon(self, points, color):
        for canvas, value in ((self.image, tuple(float(c) for c in color)), (self.alpha, 255)):
            cv2.fillPoly(canvas, [self.texel(points)], value)

    def ellipse(self, centre, radii, color):
        x, y = self.texel(centre)[0].tolist()
        size = (int(radii[0] * SCALE), int(radii[1] * SCALE))
        for canvas, value in ((self.image, tuple(float(c) for c in color)), (self.alpha, 255)):
            cv2.ellipse(canvas, (x, y), size, 0, 0, 360, value, -1)

    def ring(self, centre, radius, thickness, color):
        x, y = self.texel(centre)[0].tolist()
        for canvas, value in ((self.image, tuple(float(c) for c in color)), (self.alpha, 255)):
            cv2.circle(canvas, (x, y), int(radius * SCALE), value, max(1, int(thickness * SCALE)))

    def finish(self, rng):
        folds = 0.14 * value_noise(rng, self.rows, self.columns, (40, 16)) + 0.08 * value_noise(
            rng, self.rows, self.columns, 7
        )
        x = np.linspace(-1, 1, self.columns, dtype=np.float32)
        side = 0.16 * rng.choice([-1, 1]) * np.clip(x * 2.5, -1, 1)
        image = shade(self.image, 1 + folds + side)
        kernel = np.ones((9, 9), np.uint8)
        spread = cv2.dilate(image, kernel)
        image = np.where(self.alpha[..., None] > 0, image, spread)
        size = (self.columns * KEPT // SCALE, self.rows * KEPT // SCALE)
        card = np.dstack([to_uint8(image), self.alpha])
        return cv2.resize(card, size, interpolation=cv2.INTER_AREA)


def _upper_body(card, rng, hip, coat, skin, arms='down'):
    """Torso, arms and head above a hip height."""
    shoulder = hip + rng.uniform(0.50, 0.56)
    w = rng.uniform(0.19, 0.24)
    half = [(-w * 0.8, hip - 0.08), (-w, shoulder - 0.06), (-w * 0.6, shoulder + 0.03)]
    card.polygon(half + [(-x, z) for x, z in half[::-1]], coat)
    for side in (-1, 1):
        elbow = (side * (w + rng.uniform(0.02, 0.08)), hip + 0.24)
        hand = (side * (w + rng.uniform(-0.05, 0.06)), hip - 0.02)
        if arms == 'bars':
            elbow, hand = (side * (w + 0.1), hip + 0.28), (side * 0.26, hip + 0.12)
        card.limb([(side * w * 0.9, shoulder - 0.05), elbow, hand], 0.085, np.asarray(coat) * 0.88)
        card.ellipse(hand, (0.04, 0.045), skin)
    head = shoulder + 0.19
    card.limb([(0, shoulder), (0, head)], 0.1, np.asarray(skin) * 0.85)
    card.ellipse((0, head), (0.082, 0.115), skin)
    hair = np.array(
        ((30, 24, 20), (70, 50, 34), (150, 120, 74), (120, 118, 116), (20, 18, 18))[rng.integers(5)]
    )
    back = rng.random() < 0.5
    card.ellipse((0, head + 0.035), (0.09, 0.10), hair)
    if not back:
        card.ellipse((0, head - 0.035), (0.07, 0.075), skin)
    return head


def pedestrian_card(rng):
    """Return a walking or standing person, 1.0 m wide and 1.9 m high, RGBA uint8."""
    card = _Card(1.0, 1.9)
    coat = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * rng.uniform(0.8, 1.2)
    trousers = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * rng.uniform(0.5, 1.0)
    skin = np.array(SKINS[rng.integers(len(SKINS))])
    hip = rng.uniform(0.82, 0.92)
    stride = rng.uniform(0.03, 0.22)
    for side in (-1, 1):
        foot = side * (0.06 + stride * rng.uniform(0.5, 1.0))
        knee = (side * 0.09 + foot * 0.4, hip * 0.52)
        card.limb([(side * 0.09, hip), knee, (foot, 0.09)], 0.145, trousers * (0.85 if side < 0 else 1))
        card.ellipse((foot + 0.03, 0.045), (0.11, 0.05), (26, 24, 24))
    if rng.random() < 0.25:  # skirt or long coat
        card.polygon([(-0.17, hip), (0.17, hip), (0.24, hip - 0.42), (-0.24, hip - 0.42)], coat * 0.92)
    _upper_body(card, rng, hip, coat, skin)
    if rng.random() < 0.4:  # bag
        side = rng.choice([-1, 1])
        bag = [(0.24, hip + 0.1), (0.42, hip + 0.08), (0.40, hip - 0.24), (0.25, hip - 0.22)]
        card.polygon([(side * x, z) for x, z in bag], rng.uniform(20, 190, 3))
    return card.finish(rng)


def cyclist_card(rng):
    """Return a cyclist seen from ahead or behind, 1.0 m wide and 1.9 m high, RGBA uint8."""
    card = _Card(1.0, 1.9)
    card.limb([(0, 0.02), (0, 0.68)], 0.06, (22, 22, 24))
    card.limb([(0, 0.5), (0, 1.0)], 0.05, rng.uniform(30, 200, 3))
    card.limb([(-0.3, 1.02), (0.3, 1.02)], 0.035, (40, 40, 42))
    coat = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * rng.uniform(0.8, 1.3)
    if rng.random() < 0.35:
        coat = np.array((206, 220, 40))
    trousers = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * 0.7
    skin = np.array(SKINS[rng.integers(len(SKINS))])
    lift = rng.uniform(-0.12, 0.12)
    for side in (-1, 1):
        card.limb(
            [(side * 0.1, 0.95), (side * 0.17, 0.62 + side * lift), (side * 0.12, 0.28 + side * lift)],
            0.13,
            trousers,
        )
        card.ellipse((side * 0.12, 0.24 + side * lift), (0.06, 0.05), (24, 24, 24))
    head = _upper_body(card, rng, 0.98, coat, skin, arms='bars')
    if rng.random() < 0.6:
        card.ellipse((0, head + 0.06), (0.11, 0.075), rng.uniform(20, 230, 3))
    return card.finish(rng)


def bicycle_card(rng, rider):
    """Return a bicycle from the side, 1.9 m wide and 1.9 m high, with or without a rider, RGBA uint8."""
    card = _Card(1.9, 1.9)
    frame = rng.uniform(20, 200, 3)
    for x in (-0.52, 0.52):
        card.ring((x, 0.35), 0.32, 0.04, (24, 24, 26))
        for angle in np.arange(8) * np.pi / 8:
            d = 0.31 * np.array([np.cos(angle), np.sin(angle)])
            card.limb([np.array((x, 0.35)) - d, np.array((x, 0.35)) + d], 0.006, (120, 122, 126))
    crank, seat, bar = (-0.05, 0.32), (-0.2, 0.88), (0.38, 0.9)
    for a, b in (
        (crank, (-0.52, 0.35)),
        (crank, seat),
        (crank, bar),
        (seat, bar),
        (bar, (0.52, 0.35)),
        (seat, (-0.52, 0.35)),
    ):
        card.limb([a, b], 0.035, frame)
    card.limb([(0.33, 1.0), (0.5, 1.0)], 0.035, (30, 30, 30))
    card.limb([(-0.32, 0.92), (-0.1, 0.94)], 0.06, (24, 22, 20))
    if rider:
        coat = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * rng.uniform(0.9, 1.3)
        trousers = np.array(CLOTHES[rng.integers(len(CLOTHES))]) * 0.7
        skin = np.array(SKINS[rng.integers(len(SKINS))])
        card.limb([(-0.18, 0.98), (0.14, 0.74), (0.0, 0.26)], 0.13, trousers * 0.85)
        card.limb([(-0.18, 0.98), (0.2, 0.84), (0.06, 0.44)], 0.14, trousers)
        card.limb([(-0.2, 0.98), (-0.02, 1.28), (0.08, 1.44)], 0.26, coat)
        card.limb([(0.06, 1.42), (0.2, 1.14), (0.42, 1.04)], 0.09, coat * 0.85)
        card.ellipse((0.16, 1.64), (0.09, 0.115), skin)
        card.ellipse((0.14, 1.70), (0.105, 0.08), rng.uniform(20, 220, 3))
    return card.finish(rng)
