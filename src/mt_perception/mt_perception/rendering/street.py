"""Street worlds: a road with pavements, houses, gardens, parked cars, trees, people and signs."""

import numpy as np

from mt_perception.rendering import furniture, materials, people, vegetation, vehicles
from mt_perception.rendering.centreline import block, winding
from mt_perception.rendering.facade import facade
from mt_perception.rendering.noise import to_uint8
from mt_perception.rendering.paths import Drive
from mt_perception.rendering.road import SEGMENT, RoadStyle, pavement, road
from mt_perception.rendering.scene import FAR, UP, Light, Mover, SceneBuilder
from mt_perception.rendering.sky import sky

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
KERB = 0.12  # metres
PLAIN = 56.0  # metres: side of the squares of open ground, whole tiles of the grass texture
EDGE_ON = 35.0  # metres: reach of cards that an approaching camera sees edge-on
BEYOND = 140.0  # metres of street before the start and after the end of the drive


def street(seed, length=160.0, traffic=0):
    """
    Return a street world.

    :param seed: another seed, another world.
    :param length: metres the camera can drive (``scene.path`` takes 0 … length).
    :param traffic: number of moving cars and cyclists.
    """
    rng = np.random.default_rng([seed, 1])
    line = winding(rng, length + 2 * BEYOND)
    return _Street(seed, rng, line, BEYOND, length, traffic).build(f'street:{seed}')


def loop(seed, traffic=0):
    """Return a street around a block of houses; ``scene.path`` repeats after ``path.length`` metres."""
    rng = np.random.default_rng([seed, 2])
    return _Street(seed, rng, block(rng), 0.0, None, traffic).build(f'loop:{seed}')


class _Street:
    """Fills a :class:`SceneBuilder` along a centre line."""

    def __init__(self, seed, rng, line, start, length, traffic):
        self.builder = SceneBuilder(seed)
        self.rng = rng
        self.line = line
        self.start = start
        self.length = line.length if length is None else length
        self.traffic = traffic
        self.style = RoadStyle.random(rng)
        self.half_road, self.pavement = self.style.half_road, self.style.pavement
        self.front = self.half_road + self.pavement
        self.grass = self.builder.texture(materials.grass, wrap=True)
        self.dirt = self.builder.texture(materials.gravel, wrap=True)
        self.hedges = [self.builder.texture(materials.hedge, wrap=True) for _ in range(2)]
        self.roofs = [self.builder.texture(materials.roof_tiles, wrap=True) for _ in range(4)]
        self.bare_trees = rng.random() < 0.45
        self.trees = [self._tree_texture() for _ in range(5)]
        self.character = rng.choice(['terrace', 'shops', 'suburb', 'mixed', 'park'])
        self.parked = rng.uniform(0.1, 0.75, 2)

    def build(self, name):
        """Add everything and return the scene."""
        self._ground()
        self._lots(1)
        self._lots(-1)
        self._street_furniture()
        self._parked_cars()
        self._people()
        self._moving()
        self._horizon()
        path = Drive(self.rng, self.line, self.start, self.length, self.half_road)
        return self.builder.build(self._light(), self.sky, path, name)

    def _light(self):
        rng = self.rng
        kind = rng.choice(['clear', 'clouds', 'overcast'], p=[0.3, 0.4, 0.3])
        self.sky = self.builder.textures[self.builder.texture(lambda r: sky(r, kind))]
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 60))
        sun = np.array(
            [*(np.cos(elevation) * np.array([np.cos(azimuth), np.sin(azimuth)])), np.sin(elevation)]
        )
        strength = {'clear': rng.uniform(0.55, 0.8), 'clouds': rng.uniform(0.35, 0.6), 'overcast': 0.1}[kind]
        level = rng.uniform(0.85, 1.15)
        ambient = {'clear': 0.50, 'clouds': 0.62, 'overcast': 0.86}[kind] * level
        return Light(
            sun,
            tuple(strength * level * np.array((1.04, 1.0, 0.90))),
            tuple(ambient * np.array((0.96, 1.0, 1.06))),
            fog_color=(214, 218, 224),
            fog_distance=rng.uniform(350, 1200),
        )

    # Ground

    def _segments(self):
        """Yield (s0, s1) along the whole line, shorter where it bends."""
        s = 0.0
        while s < self.line.length - 0.3:
            bend = abs(self.line.heading(s + 3) - self.line.heading(s)) / 3
            step = SEGMENT if bend < 1 / 80 else 3.0
            yield s, min(s + step, self.line.length)
            s += step

    def _strip(self, s0, s1, left, right, texture, label, height, tile, layer=0):
        """Add a piece of ground between two offsets to the left of the centre line."""
        a, b = self.line.at(s1, left), self.line.at(s1, right)
        c, d = self.line.at(s0, right), self.line.at(s0, left)
        chord = self.line.at(s1) - self.line.at(s0)
        heading = np.arctan2(chord[1], chord[0])
        self.builder.ground([a, b, c, d], texture, label, tile, height, heading, layer=layer)

    def _ground(self):
        b, rng = self.builder, self.rng
        kerb = b.texture(lambda r: to_uint8(materials.stone(r, 16, 512, 16, (150, 146, 138))), wrap=True)
        w, front = self.half_road, self.front
        low, high = self.line.points.min(0) - 160, self.line.points.max(0) + 160
        for x in np.arange(low[0], high[0], PLAIN):
            for y in np.arange(low[1], high[1], PLAIN):
                corners = [(x + PLAIN, y), (x + PLAIN, y + PLAIN), (x, y + PLAIN), (x, y)]
                b.ground(corners, self.grass, TREE, (7, 7), height=-0.06, layer=-2)
        crossing = rng.uniform(30, 60) + self.start
        paves = {}
        for i, (s0, s1) in enumerate(self._segments()):
            feature = (
                'zebra' if s0 <= crossing < s1 else rng.choice(['plain', 'plain', 'plain', 'arrow', 'word'])
            )
            if s0 > crossing:
                crossing = s0 + rng.uniform(60, 140)
            surface = b.texture(lambda r, f=feature: road(r, self.style, f))
            self._strip(s0, s1, w, -w, surface, ROAD, 0.0, (2 * w, SEGMENT))
            for side in (1, -1):
                if i % 5 == 0 or side not in paves:
                    paves[side] = b.texture(lambda r: pavement(r, self.style), wrap=True)
                inner, outer = (front, w) if side > 0 else (-w, -front)
                self._strip(s0, s1, inner, outer, paves[side], PAVEMENT, KERB, (self.pavement, 6.0))
                start, end = self.line.at(s0, side * w), self.line.at(s1, side * w)
                # The kerb is seen from the road.
                start, end = (start, end) if side > 0 else (end, start)
                b.wall(start, end, 0.0, KERB, kerb, PAVEMENT, tile=(8.0, KERB), layer=1)

    # Lots beside the street

    def _lots(self, side):
        rng = self.rng
        odds = {
            'terrace': (0.75, 0.1, 0.1, 0.05),
            'shops': (0.2, 0.7, 0.0, 0.1),
            'suburb': (0.1, 0.0, 0.75, 0.15),
            'mixed': (0.35, 0.25, 0.25, 0.15),
            'park': (0.2, 0.05, 0.25, 0.5),
        }[self.character]
        s = 0.0
        while s < self.line.length - 4:
            turn = side * (self.line.heading(min(s + 8, self.line.length)) - self.line.heading(s))
            if turn > 0.15:  # the inside of a sharp corner has no room for a house
                s += 3.0
                continue
            kind = rng.choice(['terrace', 'shop', 'garden', 'park'], p=odds)
            width = {'terrace': rng.uniform(5, 13), 'shop': rng.uniform(6, 15), 'garden': rng.uniform(9, 16),
                     'park': rng.uniform(12, 30)}[kind]  # fmt: skip
            end = s + width
            if self.line.closed and end > self.line.length - 2:
                break
            if abs(self.line.heading(end) - self.line.heading(s)) > 0.35:
                kind = 'park' if side * (self.line.heading(end) - self.line.heading(s)) < 0 else 'none'
            if kind in ('terrace', 'shop'):
                style = 'shop' if kind == 'shop' else rng.choice(['house', 'house', 'office'])
                self._building(side, s, end, 0.0, rng.uniform(6.0, 13.5), style)
                if rng.random() < 0.18:
                    end += rng.uniform(2.5, 7)
            elif kind == 'garden':
                self._garden(side, s, end)
            elif kind == 'park':
                self._park(side, s, end)
            s = end

    def _frame(self, side, s0, s1, setback):
        """Return front corners [2], and the unit vectors along the street and away from it."""
        a = self.line.at(s0, side * (self.front + setback))
        b = self.line.at(s1, side * (self.front + setback))
        along = (b - a) / np.linalg.norm(b - a)
        return a, b, along, side * np.array([-along[1], along[0]])

    def _wall(self, side, start, end, bottom, height, texture, label, **options):
        """Add a wall that is seen from the street (start before end along it)."""
        start, end = (start, end) if side > 0 else (end, start)
        self.builder.wall(start, end, bottom, height, texture, label, **options)

    def _building(self, side, s0, s1, setback, height, style):
        b, rng = self.builder, self.rng
        a, c, along, away = self._frame(side, s0, s1, setback)
        width, depth = np.linalg.norm(c - a), rng.uniform(8, 12)
        wall = materials.choose_wall(rng)
        front = b.texture(lambda r: facade(r, width, height, style, wall))
        plain = b.texture(lambda r: facade(r, 8.0, height, 'blank' if depth < 9.5 else 'house', wall))
        self._wall(side, a, c, 0, height, front, BUILDING)
        self._wall(side, a + away * depth, a, 0, height, plain, BUILDING)
        self._wall(side, c, c + away * depth, 0, height, plain, BUILDING)
        if style == 'office' or rng.random() < 0.2:
            return
        roof = self.roofs[rng.integers(len(self.roofs))]
        rise, eave = rng.uniform(1.6, 3.2), 0.3
        slope = np.array([*(away * (depth / 2 + eave)), rise * (1 + 2 * eave / depth)])
        for sign in (1, -1):  # the slope to the street and the one behind it
            ridge0 = np.r_[a + away * depth / 2, height + rise]
            ridge1 = np.r_[c + away * depth / 2, height + rise]
            start, end = (ridge0, ridge1) if side * sign > 0 else (ridge1, ridge0)
            down = np.r_[-sign * slope[:2], -slope[2]]
            b.quad(start, end - start, down, (width, np.linalg.norm(slope)), roof, BUILDING, tile=(8, 5))
        for corner, start in ((a, True), (c, False)):
            near, far = (corner + away * depth, corner) if start else (corner, corner + away * depth)
            near, far = (near, far) if side > 0 else (far, near)
            b.quad(
                np.r_[near, height + rise], np.r_[far - near, 0], -UP, (depth, rise), plain, BUILDING,
                corners=[(0, rise), (depth / 2, 0), (depth, rise)], tile=(8.0, height),
            )  # fmt: skip
        if rng.random() < 0.7:
            at = a + along * rng.uniform(0.1, 0.9) * width + away * depth / 2
            b.box(
                at,
                np.arctan2(along[1], along[0]),
                (0.7, 1.1, 1.6),
                height + rise - 0.5,
                plain,
                BUILDING,
                reach=90.0,
            )

    def _garden(self, side, s0, s1):
        """A house behind a front garden with a fence, a wall or a hedge."""
        b, rng = self.builder, self.rng
        setback = rng.uniform(2.5, 6)
        gap = rng.uniform(0.8, 3)
        self._building(side, s0 + gap, s1, setback, rng.uniform(5, 8), 'house')
        a, c, along, away = self._frame(side, s0, s1, 0.02)
        ground = self.dirt if rng.random() < 0.4 else self.grass
        self._lot_ground(side, s0, s1, setback + 1.0, ground, TREE if ground == self.grass else PAVEMENT)
        self._front_fence(side, a, c, along, away)
        for _ in range(rng.integers(0, 4)):
            size = (rng.uniform(1.0, 2.4), rng.uniform(0.8, 1.9))
            at = a + along * rng.uniform(1, max(1.5, s1 - s0 - 1)) + away * rng.uniform(0.6, setback - 0.5)
            self._card(
                b.texture(lambda r, z=size: vegetation.bush_card(r, *z)), at, size, TREE, along, crossed=True
            )
        if rng.random() < 0.35:
            self._tree(
                a + along * rng.uniform(2, s1 - s0 - 1) + away * (setback * 0.5), rng.uniform(4, 8), along
            )

    def _park(self, side, s0, s1):
        """Grass with trees, perhaps behind railings."""
        rng = self.rng
        a, c, along, away = self._frame(side, s0, s1, 0.02)
        self._lot_ground(side, s0, s1, 18.0, self.grass, TREE)
        if rng.random() < 0.75:
            self._front_fence(side, a, c, along, away)
        for _ in range(max(2, int((s1 - s0) / 5))):
            at = a + along * rng.uniform(0, s1 - s0) + away * rng.uniform(1.5, 14)
            self._tree(at, rng.uniform(5, 12), along)
        hedge = self.hedges[0]
        back = away * rng.uniform(14, 18)
        self._wall(side, a + back, c + back, 0, rng.uniform(1.5, 3.5), hedge, TREE, tile=(5, 5))

    def _lot_ground(self, side, s0, s1, depth, texture, label):
        inner, outer = self.front, self.front + depth
        left, right = (outer, inner) if side > 0 else (-inner, -outer)
        self._strip(s0, s1, left, right, texture, label, KERB - 0.01, (5, 5), layer=0)

    def _front_fence(self, side, a, c, along, away):
        """Railings, a picket fence, a brick wall or a hedge along the front of a lot."""
        b, rng = self.builder, self.rng
        kind = rng.choice(
            ['bars', 'pickets', 'panel', 'mesh', 'wall', 'hedge'], p=[0.3, 0.15, 0.1, 0.1, 0.2, 0.15]
        )

        def box(offset, thickness, height, texture, label, tile):
            centre, yaw = (a + c) / 2 + away * offset, np.arctan2(along[1], along[0])
            b.box(centre, yaw, (np.linalg.norm(c - a), thickness, height), 0.0, texture, label, tile=tile)

        if kind == 'hedge':
            height = rng.uniform(0.9, 1.7)
            box(0.4, 0.8, height, self.hedges[rng.integers(2)], TREE, (5, 5))
        elif kind == 'wall':
            height = rng.uniform(0.6, 1.5)
            color = materials.BRICKS[rng.integers(len(materials.BRICKS))]
            texture = b.texture(lambda r: to_uint8(materials.bricks(r, 96, 480, 48, color)), wrap=True)
            box(0.15, 0.25, height, texture, BUILDING, (10, 2))
        else:
            height = rng.uniform(1.0, 1.3) if kind != 'panel' else 1.75
            texture = b.texture(lambda r: furniture.railing(r, kind), wrap=True)
            self._wall(side, a, c, KERB, height, texture, FENCE, tile=(2.0, height), two_sided=True)

    # Things

    def _card(self, texture, at, size, label, along, crossed=False, bottom=KERB, **options):
        """Add an upright cut-out across the street (and a second one along it)."""
        width, height = size
        across = np.array([along[1], -along[0]])
        for direction, reach in ((across, FAR), (along, EDGE_ON)) if crossed else ((across, FAR),):
            start = np.asarray(at) - direction * width / 2
            end = start + direction * width
            self.builder.wall(
                start, end, bottom, height, texture, label, two_sided=True, reach=reach, **options
            )

    def _tree_texture(self):
        bare = self.bare_trees if self.rng.random() < 0.8 else not self.bare_trees
        shape = self.rng.uniform(0.6, 0.85)
        return self.builder.texture(lambda r: vegetation.tree_card(r, 8.0 * shape, 8.0, bare)), shape

    def _tree(self, at, height, along):
        """Add a tree of crossed cards, turned by a random angle."""
        texture, shape = self.trees[self.rng.integers(len(self.trees))]
        angle = self.rng.uniform(-0.35, 0.35)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._card(texture, at, (shape * height, height), TREE, turn @ along, crossed=True, bottom=0.05)

    def _direction(self, s):
        heading = self.line.heading(s)
        return np.array([np.cos(heading), np.sin(heading)])

    def _street_furniture(self):
        rng, b, w = self.rng, self.builder, self.half_road
        end = self.line.length
        lamp_height, spacing = rng.uniform(5.5, 9), rng.uniform(22, 34)
        for i, s in enumerate(np.arange(rng.uniform(2, 10), end, spacing)):
            side = 1 if i % 2 else -1
            along = self._direction(s)
            inward = -side * np.array([-along[1], along[0]])
            furniture.add_lamp_post(b, rng, self.line.at(s, side * (w + 0.4)), inward, lamp_height, POLE)
        if rng.random() < 0.55 and self.pavement > 2.3:
            for side in (1, -1):
                for s in np.arange(rng.uniform(3, 10), end, rng.uniform(11, 22)):
                    self._tree(
                        self.line.at(s + rng.normal(0, 1), side * (w + 0.7)),
                        rng.uniform(5, 9),
                        self._direction(s),
                    )
        for s in np.arange(rng.uniform(0, 10), end, 11.0):
            s += rng.uniform(-4, 4)
            side = rng.choice([-1, 1])
            along = self._direction(s)
            at = self.line.at(s, side * (w + rng.uniform(0.3, 0.7)))
            kind = rng.random()
            if kind < 0.42:  # traffic on the left-hand side of the road sees its signs on the left
                furniture.add_sign(
                    b, rng, at, -along if side > 0 or rng.random() < 0.5 else along, POLE, SIGN
                )
            elif kind < 0.56:
                furniture.add_traffic_light(b, rng, at, -along if rng.random() < 0.7 else along, POLE, SIGN)
            elif kind < 0.8:
                texture = b.texture(furniture.metal)
                for i in range(rng.integers(2, 6)):
                    furniture.add_post(
                        b, texture, self.line.at(s + 1.6 * i, side * (w + 0.35)), 0.95, 0.13, POLE, KERB
                    )
            elif kind < 0.92:  # a guard rail at the kerb
                texture = b.texture(lambda r: furniture.railing(r, 'bars'), wrap=True)
                a, c = (
                    self.line.at(s, side * (w + 0.3)),
                    self.line.at(s + rng.uniform(4, 9), side * (w + 0.3)),
                )
                self._wall(side, a, c, KERB, 1.0, texture, FENCE, tile=(2.0, 1.0), two_sided=True)

    def _parked_cars(self):
        rng = self.rng
        for side in (1, -1):
            s = rng.uniform(0, 6)
            while s < self.line.length - 4:
                if rng.random() < self.parked[0 if side > 0 else 1]:
                    heading = self.line.heading(s) + (0 if side > 0 else np.pi) + rng.normal(0, 0.02)
                    at = self.line.at(s, side * (self.half_road - 1.0 + rng.normal(0, 0.05)))
                    vehicles.add_car(self.builder, rng, at, heading, CAR)
                    s += rng.uniform(5.4, 7.5)
                else:
                    s += rng.uniform(4, 16)

    def _people(self):
        rng = self.rng
        cards = [self.builder.texture(people.pedestrian_card) for _ in range(10)]
        for s in np.arange(0, self.line.length, rng.uniform(3, 9)):
            side = rng.choice([-1, 1])
            s += rng.uniform(-3, 3)
            at = self.line.at(s, side * (self.half_road + rng.uniform(0.7, max(0.9, self.pavement - 0.4))))
            self._person(cards[rng.integers(10)], at, s, side, PEDESTRIAN, (1.0, 1.9), KERB)
        for s in np.arange(rng.uniform(5, 20), self.line.length, rng.uniform(25, 60)):
            side = rng.choice([-1, 1])
            if rng.random() < 0.6:
                card = self.builder.texture(people.cyclist_card)
                self._person(
                    card, self.line.at(s, side * (self.half_road - 2.4)), s, side, BICYCLIST, (1.0, 1.9), 0
                )
            else:
                rider = rng.random() < 0.5
                card = self.builder.texture(lambda r, q=rider: people.bicycle_card(r, q))
                at = self.line.at(s, side * (self.half_road + self.pavement - 0.8))
                start = at - self._direction(s) * 0.95
                self._wall(
                    side, start, start + self._direction(s) * 1.9, KERB, 1.9, card, BICYCLIST, two_sided=True
                )

    def _person(self, texture, at, s, side, label, size, bottom):
        """A card that looks towards the approaching camera, turned a little to the road."""
        angle = self.line.heading(s) - side * self.rng.uniform(0.1, 0.6)
        along = np.array([np.cos(angle), np.sin(angle)])
        scale = self.rng.uniform(0.86, 1.04)
        self._card(texture, at, (size[0] * scale, size[1] * scale), label, along, bottom=bottom)

    def _moving(self):
        """Cars and cyclists that move with constant velocity along the street."""
        rng, b = self.rng, self.builder
        for i in range(self.traffic):
            onward = i % 3 == 0
            s = self.start + (rng.uniform(12, 30) if onward else rng.uniform(25, 60 + 40 * i))
            side = 1 if onward else -1
            heading = self.line.heading(s) + (0 if onward else np.pi)
            at = self.line.at(s, side * (self.half_road * 0.4))
            if i % 4 == 3:
                first = len(b)
                card = b.texture(people.cyclist_card)
                self._person(
                    card, self.line.at(s, side * (self.half_road - 1.6)), s, side, BICYCLIST, (1.0, 1.9), 0
                )
                last, speed = len(b), rng.uniform(3, 6)
            else:
                first, last = vehicles.add_car(b, rng, at, heading, CAR)
                speed = rng.uniform(6, 11)
            b.movers.append(Mover(first, last, speed * np.array([np.cos(heading), np.sin(heading), 0.0])))

    def _horizon(self):
        """A ring of distant trees and roofs."""
        centre = self.line.at(self.line.length / 2)
        radius = max(150.0, self.line.length / 2 + 10)
        cards = [self.builder.texture(lambda r: vegetation.treeline_card(r, 60.0, 14.0)) for _ in range(4)]
        count = 28
        angles = -np.arange(count + 1) * 2 * np.pi / count
        ring = centre + radius * np.c_[np.cos(angles), np.sin(angles)]
        for i in range(count):
            # Going round clockwise, the inside of the ring is seen.
            self.builder.wall(
                ring[i], ring[i + 1], -0.5, self.rng.uniform(8, 17), cards[i % 4], TREE, two_sided=True
            )
