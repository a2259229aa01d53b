"""A scene: textured planar quadrilaterals in the world, and the builder that collects them."""

import copy
from dataclasses import dataclass, field, replace

import numpy as np

from mt_perception.rendering.texture import Texture, flat

NO_LABEL = 254  # surface class of decals (shadows): they change the colour, not class or depth

FAR = 600.0  # metres beyond which nothing is drawn

UP = np.array([0.0, 0.0, 1.0])


@dataclass
class Light:
    """
    Light and air of a world.

    :param sun: [3] unit vector towards the sun (world frame, z up).
    :param sun_color: (r, g, b) factor of a face that looks into the sun, on top of the ambient light.
    :param ambient: (r, g, b) factor of a face in shadow.
    :param fog_color: (r, g, b) 0–255.
    :param fog_distance: metres after which 63 % of the light is fog.
    """

    sun: np.ndarray
    sun_color: tuple = (0.5, 0.48, 0.42)
    ambient: tuple = (0.55, 0.57, 0.62)
    fog_color: tuple = (205, 210, 218)
    fog_distance: float = 700.0

    def shade(self, normals, two_sided):
        """
        Return [N,3] float32 colour factors for faces with these outward normals.

        Upward faces get the whole ambient light, vertical ones less, downward ones least.
        A two-sided face (a leaf card, a railing) is lit from both sides.
        """
        cosine = normals @ self.sun
        cosine = np.where(two_sided, 0.35 + 0.45 * np.abs(cosine), np.maximum(cosine, 0))
        sky = np.where(two_sided, 0.9, 0.85 + 0.15 * normals[:, 2])
        return (sky[:, None] * self.ambient + cosine[:, None] * self.sun_color).astype(np.float32)


@dataclass
class Mover:
    """Surfaces ``first`` to ``last`` (exclusive) that slide with a constant world velocity in m/s."""

    first: int
    last: int
    velocity: np.ndarray

    def motion(self, time, eye):
        """Return the [4,4] rigid motion from where the surfaces were built to where they are at ``time``."""
        pose = np.eye(4)
        pose[:3, 3] = time * np.asarray(self.velocity)
        return pose


@dataclass
class Follower:
    """
    Surfaces ``first`` to ``last`` (exclusive) that go any way.

    :param motion: function of time in seconds and the camera's place [3] that returns the [4,4] rigid motion
        from where the surfaces were built to where they are; cut-outs turn to the camera with it.
    """

    first: int
    last: int
    motion: object


@dataclass
class Scene:
    """
    N quadrilaterals as arrays; surface point = origin + u · axis_u + v · axis_v, u and v in metres.

    Seen from the front, u runs to the right and v down, like the pixels of the texture.

    :param origin: [N,3] metres, world frame (z up).
    :param axis_u: [N,3] unit vectors.
    :param axis_v: [N,3] unit vectors.
    :param corners: [N,4,2] (u, v) of the corners in order around the convex outline (a triangle repeats one).
    :param extent: [N,4] metres: width and height that one copy of the texture covers, and its offset in
        u and v.
    :param texture: [N] index into ``textures``.
    :param label: [N] uint8 class id.
    :param layer: [N] drawing order: ground before decals before things.
    :param two_sided: [N] bool, visible from behind too.
    :param gain: [N] extra brightness factor.
    :param reach: [N] metres along the viewing direction beyond which the surface is left out.
    :param sky: [h,w,3] uint8 panorama: columns are azimuth 0–360°, rows elevation +90° … −10°; None = black.
    :param movers: :class:`Mover` and :class:`Follower`; no surface belongs to two of them.
    :param path: function of arc length in metres to a [4,4] camera-to-world pose, or None.
    """

    origin: np.ndarray
    axis_u: np.ndarray
    axis_v: np.ndarray
    corners: np.ndarray
    extent: np.ndarray
    texture: np.ndarray
    label: np.ndarray
    layer: np.ndarray
    two_sided: np.ndarray
    gain: np.ndarray
    reach: np.ndarray
    textures: list
    light: Light
    sky: Texture | None = None
    movers: list = field(default_factory=list)
    path: object = None
    name: str = ''

    def __post_init__(self):
        """Derive what every frame needs."""
        outward = -np.cross(self.axis_u, self.axis_v)
        self.outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
        self.shade = self.light.shade(self.outward, self.two_sided) * self.gain[:, None]
        self.shade_tuple = [(*(float(c) for c in shade), 0.0) for shade in self.shade]

    def texture_of(self, index):
        """Return the :class:`Texture` of a surface."""
        return self.textures[self.texture[index]]

    def at(self, time, eye):
        """
        Return the scene ``time`` seconds after the start, with the movers moved and lit anew.

        :param eye: [3] place of the camera in the world.
        """
        if not self.movers:
            return self
        now = copy.copy(self)
        now.origin, now.axis_u, now.axis_v = self.origin.copy(), self.axis_u.copy(), self.axis_v.copy()
        now.shade_tuple = list(self.shade_tuple)
        for mover in self.movers:
            part = slice(mover.first, mover.last)
            motion = mover.motion(time, eye)
            rotation = motion[:3, :3]
            now.origin[part] = self.origin[part] @ rotation.T + motion[:3, 3]
            if np.array_equal(rotation, np.eye(3)):
                continue
            now.axis_u[part], now.axis_v[part] = (
                self.axis_u[part] @ rotation.T,
                self.axis_v[part] @ rotation.T,
            )
            shade = self.light.shade(self.outward[part] @ rotation.T, self.two_sided[part])
            shade *= self.gain[part, None]
            now.shade_tuple[part] = [(*(float(c) for c in one), 0.0) for one in shade]
        return now

    def moves(self):
        """Return [N] bool: which surfaces belong to a mover."""
        result = np.zeros(len(self.origin), bool)
        for mover in self.movers:
            result[mover.first : mover.last] = True
        return result

    def joined(self, builder):
        """Return this scene with what a :class:`SceneBuilder` has collected; its textures are shared."""
        added = builder.build(self.light)
        arrays = {
            name: np.concatenate([getattr(self, name), getattr(added, name)])
            for name in ('origin', 'axis_u', 'axis_v', 'corners', 'extent', 'label', 'layer', 'two_sided')
            + ('gain', 'reach')
        }
        shift = len(self.origin)
        movers = [replace(m, first=m.first + shift, last=m.last + shift) for m in added.movers]
        return replace(
            self,
            **arrays,
            texture=np.concatenate([self.texture, added.texture + len(self.textures)]),
            textures=self.textures + added.textures,
            movers=self.movers + movers,
        )

    def flattened(self, kept):
        """Return this scene with only the share ``kept`` of its textures' contrast; outlines stay."""
        return replace(self, textures=[flat(texture, kept) for texture in self.textures])


class SceneBuilder:
    """Collects textures and surfaces; every texture has a random generator of its own."""

    def __init__(self, seed):
        self.seed = seed
        self.offset = 0  # of the textures' random generators, where this adds to another scene
        self.textures = []
        self.rows = []
        self.movers = []

    def __len__(self):
        """Return the number of surfaces so far."""
        return len(self.rows)

    def texture(self, make, wrap=False):
        """Register a texture function (see :class:`Texture`) and return its index."""
        self.textures.append(Texture(make, [self.seed, 7919, self.offset + len(self.textures)], wrap))
        return len(self.textures) - 1

    def quad(
        self,
        origin,
        axis_u,
        axis_v,
        size,
        texture,
        label,
        corners=None,
        tile=None,
        offset=(0.0, 0.0),
        layer=2,
        two_sided=False,
        gain=1.0,
        reach=FAR,
    ):
        """
        Add a planar quadrilateral.

        :param size: (width, height) in metres of the rectangle, used unless ``corners`` is given.
        :param corners: up to four (u, v) in metres.
        :param tile: (width, height) in metres of one copy of the texture; default: ``size``.
        :param offset: (u, v) in metres of the texture's corner.
        """
        width, height = size
        if corners is None:
            corners = [(0, 0), (width, 0), (width, height), (0, height)]
        corners = list(corners) + [corners[-1]] * (4 - len(corners))
        tile = size if tile is None else tile
        axis_u, axis_v = np.asarray(axis_u, float), np.asarray(axis_v, float)
        self.rows.append(
            (
                np.asarray(origin, float),
                axis_u / np.linalg.norm(axis_u),
                axis_v / np.linalg.norm(axis_v),
                np.asarray(corners, float),
                (*tile, *offset),
                texture,
                label,
                layer,
                two_sided,
                gain,
                reach,
            )
        )

    def ground(self, points, texture, label, tile, height=0.0, heading=0.0, **options):
        """
        Add a horizontal convex polygon (up to four corners) facing up.

        :param points: [n,2] world x, y, clockwise or not.
        :param tile: (across, along) metres of one copy of the texture, rows running along −heading.
        :param heading: direction in radians of the texture's upward axis.
        """
        points = np.asarray(points, float)
        right = np.array([np.sin(heading), -np.cos(heading), 0.0])
        down = -np.array([np.cos(heading), np.sin(heading), 0.0])
        origin = np.array([*points[0], height])
        offsets = np.c_[points - points[0], np.zeros(len(points))]
        corners = np.c_[offsets @ right, offsets @ down]
        self.quad(origin, right, down, (1, 1), texture, label, corners=corners, tile=tile, **options)

    def wall(self, start, end, bottom, height, texture, label, **options):
        """Add an upright rectangle over the ground line start → end, seen with ``start`` on its left."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        along = np.r_[end - start, 0.0]
        width = np.linalg.norm(along)
        origin = np.r_[start, bottom + height]
        self.quad(origin, along, -UP, (width, height), texture, label, **options)

    def box(self, centre, yaw, size, bottom, textures, label, top=None, **options):
        """
        Add the four sides and the top of an upright box.

        :param centre: (x, y) of its footprint.
        :param size: (length along yaw, width, height) in metres.
        :param textures: index for all sides, or four (front = +yaw end, left, back, right).
        :param top: texture index of the top; default: that of the front.
        """
        length, width, height = size
        forward = np.array([np.cos(yaw), np.sin(yaw)])
        left = np.array([-forward[1], forward[0]])
        centre = np.asarray(centre, float)
        c = {
            (i, j): centre + i * forward * length / 2 + j * left * width / 2 for i in (-1, 1) for j in (-1, 1)
        }
        sides = [textures] * 4 if np.isscalar(textures) else textures
        edges = [((1, -1), (1, 1)), ((1, 1), (-1, 1)), ((-1, 1), (-1, -1)), ((-1, -1), (1, -1))]
        # Seen from outside, the left end of each side comes first.
        for side, (a, b) in zip(sides, edges):
            self.wall(c[a], c[b], bottom, height, side, label, **options)
        origin = np.r_[c[(1, 1)], bottom + height]
        down = np.r_[-forward, 0.0]
        right = np.r_[-left, 0.0]
        self.quad(origin, right, down, (width, length), sides[0] if top is None else top, label, **options)

    def build(self, light, sky=None, path=None, name=''):
        """Return the finished :class:`Scene`."""
        columns = list(zip(*self.rows))
        return Scene(
            *(np.array(columns[i], float) for i in range(5)),
            texture=np.array(columns[5], int),
            label=np.array(columns[6], np.uint8),
            layer=np.array(columns[7], int),
            two_sided=np.array(columns[8], bool),
            gain=np.array(columns[9], np.float32),
            reach=np.array(columns[10], float),
            textures=self.textures,
            light=light,
            sky=sky,
            movers=self.movers,
            path=path,
            name=name,
        )
