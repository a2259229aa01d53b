"""Rooms: walls with posters, a floor, tables, shelves, boxes and screens, and a hand-held camera."""

import numpy as np

from mt_perception.rendering import materials
from mt_perception.rendering import room_textures as things
from mt_perception.rendering.noise import fractal_noise, paint, to_uint8, value_noise
from mt_perception.rendering.paths import Round, Walk
from mt_perception.rendering.scene import Light, SceneBuilder
from mt_perception.types import UNKNOWN_CLASS


def room(seed):
    """
    Return a room of about 5 m × 4 m.

    ``scene.path(t)`` is the camera pose [4,4] after t seconds of a hand-held walk around it.
    """
    rng = np.random.default_rng([seed, 3])
    one = _Room(seed, rng, (4.4, 6.0), (3.6, 4.8))
    return one.build(f'room:{seed}', lambda: Walk(rng, one.size, one.middle))


def room_loop(seed):
    """
    Return a room of about 8 m × 6 m, which a hand-held camera is carried round.

    ``scene.path`` takes metres and repeats after ``path.length`` of them.
    """
    rng = np.random.default_rng([seed, 4])
    one = _Room(seed, rng, (7.6, 8.6), (5.8, 6.6))
    return one.build(f'room_loop:{seed}', lambda: Round(rng, one.size))


class _Room:
    """
    Fills a :class:`SceneBuilder` with one room.

    :param length: least and greatest in metres.
    :param width: the same.
    """

    def __init__(self, seed, rng, length, width):
        self.builder = SceneBuilder(seed)
        self.rng = rng
        self.size = np.array([rng.uniform(*length), rng.uniform(*width)])
        self.height = rng.uniform(2.4, 2.8)

    def build(self, name, make_path):
        """Add everything and return the scene; ``make_path`` is called when all of it is in place."""
        self._shell()
        self._furnish_walls()
        self._table()
        self._clutter()
        light = Light(
            np.array((0.35, 0.5, 0.79)), (0.32, 0.31, 0.28), (0.74, 0.73, 0.72), fog_distance=np.inf
        )
        return self.builder.build(light, None, make_path(), name)

    def _add_box(self, centre, yaw, size, bottom, textures, **options):
        self.builder.box(centre, yaw, size, bottom, textures, UNKNOWN_CLASS, **options)

    def _walls(self):
        """Yield the four walls as (left end, right end) seen from inside."""
        x, y = self.size / 2
        corners = [np.array(c) for c in ((-x, y), (x, y), (x, -y), (-x, -y))]
        for i in range(4):
            yield corners[i], corners[(i + 1) % 4]

    def _shell(self):
        b, rng = self.builder, self.rng
        floor = b.texture(things.floor, wrap=True)
        x, y = self.size / 2
        corners = [(-x, -y), (x, -y), (x, y), (-x, y)]
        b.ground(corners, floor, UNKNOWN_CLASS, (3, 3), layer=0)
        ceiling = b.texture(
            lambda r: to_uint8(paint((222, 221, 217), 0.03 * fractal_noise(r, 512, 512, wrap=True))),
            wrap=True,
        )
        down = np.array((0.0, 1.0, 0.0))
        b.quad(
            (-x, -y, self.height),
            (1, 0, 0),
            down,
            (2 * x, 2 * y),
            ceiling,
            UNKNOWN_CLASS,
            tile=(2, 2),
            layer=0,
        )
        lamp = b.texture(lambda r: np.full((16, 64, 3), 250, np.uint8))
        for i in (-1, 1):
            self._add_box((i * x / 2, 0), 0.0, (1.2, 0.3, 0.06), self.height - 0.07, lamp, gain=1.4)
        kinds = rng.permutation(['tiles', 'pattern', 'plain', 'bricks', 'pattern'])
        for i, (left, right) in enumerate(self._walls()):
            paper = b.texture(lambda r, k=kinds[i]: things.wallpaper(r, k), wrap=True)
            b.wall(left, right, 0, self.height, paper, UNKNOWN_CLASS, tile=(2, 2), layer=0)
            skirting = b.texture(
                lambda r: to_uint8(materials.wood(r, 24, 480, 40, (214, 210, 200))), wrap=True
            )
            along = (right - left) / np.linalg.norm(right - left)
            inward = np.array([along[1], -along[0]])
            b.wall(
                left + 0.015 * inward,
                right + 0.015 * inward,
                0,
                0.1,
                skirting,
                UNKNOWN_CLASS,
                tile=(2, 0.1),
                layer=1,
            )

    def _furnish_walls(self):
        """Posters, a window or a door, shelves and cupboards along the walls."""
        b, rng = self.builder, self.rng
        for left, right in self._walls():
            length = np.linalg.norm(right - left)
            along = (right - left) / length
            inward = np.array([along[1], -along[0]])
            yaw = float(np.arctan2(inward[1], inward[0]))
            position = rng.uniform(0.1, 0.4)
            while position < length - 0.6:
                kind = rng.choice(['shelf', 'cupboard', 'free', 'counter'], p=[0.3, 0.2, 0.2, 0.3])
                width = min(rng.uniform(0.7, 1.6), length - position - 0.05)
                centre = left + along * (position + width / 2)
                if kind == 'shelf':
                    self._shelf(centre, inward, along, yaw, width)
                elif kind == 'cupboard':
                    front = b.texture(lambda r, w=width: things.cupboard(r, w, 1.9))
                    side = b.texture(lambda r: to_uint8(materials.wood(r, 400, 120, 200, (170, 130, 90))))
                    self._add_box(
                        centre + inward * 0.22, yaw, (0.42, width, 1.9), 0, (front, side, side, side)
                    )
                else:
                    if kind == 'counter':
                        self._counter(centre, inward, along, yaw, width)
                    count = rng.integers(1, 4)
                    for i in range(count):
                        w, h = rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.8)
                        x = position + (i + 0.5) * width / count
                        z = rng.uniform(1.2, 1.9 - h / 3) - (0 if kind == 'counter' else 0.1)
                        a = left + along * (x - w / 2) + inward * 0.012
                        poster = b.texture(lambda r, s=(w, h): things.poster(r, *s))
                        b.wall(
                            a,
                            a + along * w,
                            z,
                            min(h, self.height - z - 0.05),
                            poster,
                            UNKNOWN_CLASS,
                            layer=1,
                        )
                position += width + rng.uniform(0.0, 0.3)

    def _shelf(self, centre, inward, along, yaw, width):
        """A bookcase: boards as boxes, rows of books between them."""
        b, rng = self.builder, self.rng
        color = things.WOODS[rng.integers(len(things.WOODS))]
        wood = b.texture(lambda r: to_uint8(materials.wood(r, 64, 512, 90, color)))
        depth, levels, gap = 0.28, rng.integers(3, 6), rng.uniform(0.33, 0.42)
        middle = centre + inward * depth / 2
        for side in (-1, 1):
            self._add_box(
                middle + along * side * (width / 2 - 0.012), yaw, (depth, 0.024, levels * gap + 0.03), 0, wood
            )
        for level in range(levels + 1):
            self._add_box(middle, yaw, (depth, width - 0.05, 0.024), level * gap, wood)
        for level in range(levels):
            books = b.texture(lambda r, w=width, g=gap: things.books(r, w - 0.06, g - 0.03))
            plain = b.texture(
                lambda r: to_uint8(paint(r.uniform(40, 200, 3), 0.05 * value_noise(r, 64, 64, 3)))
            )
            deep = rng.uniform(0.17, 0.24)
            at = centre + inward * deep / 2
            self._add_box(
                at,
                yaw,
                (deep, width - 0.06, gap - 0.03),
                level * gap + 0.024,
                (books, plain, plain, plain),
                top=plain,
            )

    def _counter(self, centre, inward, along, yaw, width):
        """A low cupboard with a worktop and things on it."""
        b, rng = self.builder, self.rng
        height, depth = rng.uniform(0.75, 0.92), rng.uniform(0.5, 0.62)
        front = b.texture(lambda r: things.cupboard(r, width, height))
        top = b.texture(
            lambda r: to_uint8(
                paint(np.full(3, r.uniform(40, 200)), 0.2 * fractal_noise(r, 256, 384, (40, 6, 1)))
            )
        )
        self._add_box(centre + inward * depth / 2, yaw, (depth, width, height), 0, front, top=top)
        for _ in range(rng.integers(2, 6)):
            at = centre + along * rng.uniform(-0.45, 0.45) * width + inward * rng.uniform(0.15, depth - 0.12)
            self._thing(at, height)

    def _thing(self, at, bottom):
        """A carton, a screen, a pile of papers or a board with a picture."""
        b, rng = self.builder, self.rng
        yaw = rng.uniform(0, 2 * np.pi)
        kind = rng.integers(4)
        if kind == 0:
            faces = [b.texture(things.carton) for _ in range(4)]
            self._add_box(
                at, yaw, (*rng.uniform(0.08, 0.3, 2), rng.uniform(0.08, 0.32)), bottom, faces, top=faces[1]
            )
        elif kind == 1:
            back = b.texture(lambda r: np.full((32, 32, 3), 40, np.uint8))
            screen = b.texture(things.screen)
            self._add_box(at, yaw, (0.18, 0.22, 0.02), bottom, back)
            self._add_box(at, yaw, (0.04, 0.05, 0.2), bottom, back)
            self._add_box(at, yaw, (0.05, 0.5, 0.31), bottom + 0.12, (screen, back, back, back), top=back)
        elif kind == 2:
            white = b.texture(lambda r: np.full((16, 16, 3), 226, np.uint8))
            for _ in range(rng.integers(1, 4)):
                page = b.texture(things.paper)
                turn, thick = yaw + rng.normal(0, 0.5), rng.uniform(0.004, 0.02)
                self._add_box(
                    at + rng.normal(0, 0.08, 2), turn, (0.297, 0.21, thick), bottom, white, top=page
                )
                bottom += thick
        else:
            face = b.texture(lambda r: things.poster(r, 0.4, 0.4))
            back = b.texture(
                lambda r: to_uint8(materials.wood(r, 64, 64, 70, things.WOODS[r.integers(len(things.WOODS))]))
            )
            self._add_box(
                at,
                yaw,
                (0.03, rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.3)),
                bottom,
                (face, back, face, back),
            )

    def _table(self):
        """One or two tables with things and chairs."""
        b, rng = self.builder, self.rng
        color = things.WOODS[rng.integers(len(things.WOODS))]
        leg = b.texture(
            lambda r: to_uint8(materials.wood(r, 256, 32, 40, np.array(color) * 0.85, along_rows=False))
        )
        edge = b.texture(lambda r: to_uint8(materials.wood(r, 16, 512, 20, np.array(color) * 0.8)))
        for i in range(rng.integers(1, 3)):
            top = b.texture(lambda r: to_uint8(materials.wood(r, 512, 320, 64, color, along_rows=False)))
            at = np.array([(-1) ** i * rng.uniform(0.3, 0.25 * self.size[0]), rng.uniform(-0.3, 0.3)])
            if i == 0:
                self.middle = at
            yaw = rng.uniform(-0.5, 0.5)
            length, width, height = rng.uniform(0.9, 1.5), rng.uniform(0.7, 0.9), rng.uniform(0.68, 0.78)
            forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
            self._add_box(at, yaw, (length, width, 0.035), height - 0.035, edge, top=top)
            for u in (-1, 1):
                for v in (-1, 1):
                    foot = at + u * (length / 2 - 0.06) * forward + v * (width / 2 - 0.06) * left
                    self._add_box(foot, yaw, (0.06, 0.06, height - 0.035), 0, leg)
                self._chair(
                    at + u * (length / 2 + rng.uniform(0.1, 0.35)) * forward,
                    yaw + (np.pi if u > 0 else 0),
                    leg,
                    edge,
                )
            for _ in range(rng.integers(4, 9)):
                spot = (
                    at + forward * rng.uniform(-0.42, 0.42) * length + left * rng.uniform(-0.4, 0.4) * width
                )
                self._thing(spot, height)

    def _chair(self, at, yaw, leg, slat):
        """A chair whose sitter would look along ``yaw``."""
        yaw += self.rng.normal(0, 0.3)
        forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        self._add_box(at, yaw, (0.42, 0.42, 0.03), 0.43, slat)
        for v in (-1, 1):
            self._add_box(at + 0.18 * forward + v * 0.18 * left, yaw, (0.04, 0.04, 0.43), 0, leg)
            self._add_box(at - 0.18 * forward + v * 0.18 * left, yaw, (0.04, 0.04, 0.88), 0, leg)
        for z in (0.6, 0.7, 0.8):
            self._add_box(at - 0.18 * forward, yaw, (0.025, 0.34, 0.06), z, slat)

    def _clutter(self):
        """Cartons on the floor."""
        for _ in range(self.rng.integers(2, 6)):
            at = self.rng.uniform(-0.42, 0.42, 2) * self.size
            faces = [self.builder.texture(things.carton) for _ in range(4)]
            size = (*self.rng.uniform(0.2, 0.45, 2), self.rng.uniform(0.15, 0.4))
            self._add_box(at, self.rng.uniform(0, np.pi), size, 0, faces, top=faces[1])
