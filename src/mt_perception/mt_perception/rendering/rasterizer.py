"""
Renders a scene into colour, depth and class ids with OpenCV's homography warps.

Every surface is planar, so its image is a homography of its texture and its inverse depth is linear
in pixel coordinates (Hartley and Zisserman, 2nd ed., chapter 13): both are exact, without a
triangle mesh or a GPU.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from mt_perception.rendering.projection import project
from mt_perception.rendering.scene import FAR, NO_LABEL
from mt_perception.types import UNKNOWN_CLASS

STEPS = 32  # places along a surface at which its texture level is computed
EVEN = ((300, 2.5), (1500, 1.5), (np.inf, 0.8))  # surfaces of up to so many pixels whose texture
# level varies by less than so many octaves use one level
TINY = 13  # pixels: smaller surfaces are filled with their mean colour
TINY_CUTOUT = 10  # pixels: the same for those with transparent parts
SMALL = 3000  # pixels of bounding box: up to here one matrix product and mixing all pixels is quicker
FLAT = 0.005  # relative difference of depth
FAINT = 0.12  # mean opacity: fainter cut-outs are left out when tiny
LOWEST_SKY = -2.0  # degrees of elevation
LEVEL_BIAS = -0.25  # octaves towards the sharper level
WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass
class View:
    """
    What a camera sees.

    :param image: [H,W,3] uint8 RGB.
    :param depth: [H,W] float32 metres along Z, NaN in the sky.
    :param labels: [H,W] uint8 class ids.
    :param moving: [H,W] bool: shows something that moves by itself; None in a scene without such things.
    """

    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    moving: np.ndarray | None


def render(scene, camera, pose, time=0.0):
    """Render one view like :func:`render_view`; return its image, depth and labels."""
    view = render_view(scene, camera, pose, time)
    return view.image, view.depth, view.labels


def render_view(scene, camera, pose, time=0.0):
    """
    Render one view.

    :param scene: :class:`mt_perception.rendering.scene.Scene`.
    :param camera: :class:`mt_perception.camera.Camera`; its distortion is not applied.
    :param pose: [4,4] camera-to-world, optical frame (x right, y down, z forward), metres.
    :param time: seconds since the start, for objects that move.
    :return: :class:`View`.
    """
    rotation, centre = np.asarray(pose)[:3, :3], np.asarray(pose)[:3, 3]
    sky = _sky(scene.sky, camera, rotation)
    target = _Target(camera.width, camera.height, sky, bool(scene.movers))
    scene = scene.at(time, centre)

    def opaque(index):
        return scene.label[index] != NO_LABEL and not scene.texture_of(index).has_alpha

    target.draw_all(scene, project(scene, camera, rotation, centre, opaque))
    return target.finish(scene)


def _sky(texture, camera, rotation):
    """Return the background [H,W,3] uint8 seen by a camera with this rotation."""
    width, height = camera.width, camera.height
    if texture is None:
        return np.zeros((height, width, 3), np.uint8)
    step = 16
    xs, ys = np.arange(0, width + step, step), np.arange(0, height + step, step)
    rays = np.empty((len(ys), len(xs), 3))
    rays[..., 0] = (xs - camera.cx) / camera.fx
    rays[..., 1] = ((ys - camera.cy) / camera.fy)[:, None]
    rays[..., 2] = 1
    world = rays @ rotation.T
    ahead = np.arctan2(rotation[1, 2], rotation[0, 2])
    azimuth = np.arctan2(world[..., 1], world[..., 0]) - ahead
    azimuth = ahead + (azimuth + np.pi) % (2 * np.pi) - np.pi
    elevation = np.degrees(np.arctan2(world[..., 2], np.hypot(world[..., 0], world[..., 1])))
    above = np.flatnonzero((elevation > LOWEST_SKY).any(1))
    image = np.empty((height, width, 3), np.uint8)
    bottom = 0 if len(above) == 0 else min(height, int(above[-1] + 1) * step)
    image[bottom:] = 128
    if bottom == 0:
        return image
    rows, columns = texture.shape
    coarse_x = (-azimuth / (2 * np.pi) * columns).astype(np.float32)
    coarse_y = np.clip((90 - elevation) / 100 * rows, 0, rows - 1).astype(np.float32)
    # Enlarge the coarse maps exactly: pixel x lies at x / step of the coarse grid.
    to_fine = np.array([[1 / step, 0, 0], [0, 1 / step, 0]])
    map_x = cv2.warpAffine(coarse_x, to_fine, (width, bottom), flags=WARP, borderMode=cv2.BORDER_REPLICATE)
    map_y = cv2.warpAffine(coarse_y, to_fine, (width, bottom), flags=WARP, borderMode=cv2.BORDER_REPLICATE)
    image[:bottom] = cv2.remap(texture.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return image


@dataclass(slots=True)
class _Surface:
    """
    One surface, ready to draw.

    :param label: class id.
    :param shade: (r, g, b, 0) colour factors.
    :param box: x0, y0, x1, y1 in pixels.
    :param forms: [6,3] float32 linear forms (a, b, c) of pixels counted from the box's corner: five distances
        inside the edges (plus 0.5 + GROW), and the inverse depth.
    :param outline: [5,2] corner pixels.
    :param limits: least and greatest inverse depth, or None where the plane keeps to them by itself.
    :param flat: one depth does for the whole surface (less than ``FLAT`` relative difference).
    :param matrix: [3,3] pixel -> homogeneous texel.
    :param at_centre: texture level at its centre, and [3,3] pixel of the box -> texel of that level; None
        when one level does not do.
    :param strips: see :func:`_strips`, where one level does not do.
    :param sideways: the strips stand side by side.
    :param moves: it belongs to something that moves by itself.
    """

    texture: object
    label: int
    shade: tuple
    box: list
    forms: np.ndarray
    outline: np.ndarray
    limits: tuple | None
    flat: bool
    matrix: np.ndarray
    at_centre: tuple | None
    strips: list | None
    sideways: bool
    moves: bool

    def inverse_depth(self, width, height):
        """Return [h,w] float32 inverse depth in the box."""
        a, b, c = self.forms[5]
        result = (b * _COUNT[:height] + c)[:, None] + a * _COUNT[:width]
        return result if self.limits is None else np.clip(result, *self.limits, out=result)

    def coverage(self, width, height):
        """Return [h,w] float32 how much of each pixel of the box the outline covers."""
        result = np.ones((height, width), np.float32)
        for a, b, c in self.forms[:5]:
            if min(a * (width - 1), 0) + min(b * (height - 1), 0) + c < 1:
                cv2.min(result, (b * _COUNT[:height] + c)[:, None] + a * _COUNT[:width], result)
        return cv2.max(result, 0)

    def both(self, width, height):
        """Return coverage and inverse depth of a small box by one matrix product."""
        values = self.forms @ _grid(width, height)
        coverage = values[:5].min(0)
        np.minimum(coverage, 1, out=coverage)
        np.maximum(coverage, 0, out=coverage)
        inverse_depth = values[5]
        if self.limits is not None:
            np.clip(inverse_depth, *self.limits, out=inverse_depth)
        return coverage.reshape(height, width), inverse_depth.reshape(height, width)


_COUNT = np.arange(16384, dtype=np.float32)


@lru_cache(maxsize=4096)
def _grid(width, height):
    """Return [3, height · width] float32 homogeneous pixels of a box."""
    return np.stack(
        [
            np.tile(_COUNT[:width], height),
            np.repeat(_COUNT[:height], width),
            np.ones(width * height, np.float32),
        ]
    )


class _Target:
    """Colour, inverse depth and class buffers of one view, and one of what moves where something does."""

    def __init__(self, width, height, background, with_movers):
        self.width, self.height = width, height
        self.image = background
        self.inverse_depth = np.zeros((height, width), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.moving = np.zeros((height, width), np.uint8) if with_movers else None

    def draw_all(self, scene, view):
        """Draw the surfaces of a view in its order."""
        for surface, tiny in _prepare(scene, view):
            if not tiny:
                self._draw(surface)
            elif surface.label != NO_LABEL:
                self._fill(surface)

    def _draw(self, surface):
        """Draw one surface with its texture."""
        x0, y0, x1, y1 = surface.box
        width, height = x1 - x0, y1 - y0
        small = width * height < SMALL
        window = (slice(y0, y1), slice(x0, x1))
        buffer, target = self.inverse_depth[window], self.image[window]
        if small:
            coverage, inverse_depth = surface.both(width, height)
        else:
            coverage, inverse_depth = surface.coverage(width, height), surface.inverse_depth(width, height)
        coverage *= inverse_depth > buffer
        if not coverage.any():
            return
        texture, label = surface.texture, surface.label
        if surface.at_centre is not None:
            color = cv2.warpPerspective(
                *surface.at_centre, (width, height), flags=WARP, borderMode=texture.border
            )
        else:
            color = _sample(surface)
        if texture.has_alpha:
            coverage *= color[..., 3] * np.float32(1 / 255)
            color = np.ascontiguousarray(color[..., :3])
        if label != NO_LABEL:
            color = cv2.multiply(color, surface.shade)
        if small or texture.has_alpha:
            target[:] = cv2.blendLinear(color, target, coverage, 1 - coverage)
        else:
            _blend_rims(target, color, coverage)
        if label != NO_LABEL:
            solid = coverage > 0.5
            cv2.copyTo(inverse_depth, solid.view(np.uint8), buffer)
            np.copyto(self.labels[window], np.uint8(label), where=solid)
            if self.moving is not None:
                np.copyto(self.moving[window], np.uint8(surface.moves), where=solid)

    def _fill(self, surface):
        """Fill a surface of a few pixels with its mean colour, if its centre is visible."""
        mean, opacity = surface.texture.mean
        if opacity < FAINT:
            return
        x0, y0, x1, y1 = surface.box
        outline = surface.outline
        x, y = outline.mean(0).tolist()
        column, row = min(max(round(x), x0), x1 - 1), min(max(round(y), y0), y1 - 1)
        a, b, c = surface.forms[5].tolist()
        at_centre = a * (column - x0) + b * (row - y0) + c
        if at_centre <= self.inverse_depth[row, column]:
            return
        if opacity < 1:  # a cut-out fills part of its outline
            outline = (x, y) + (outline - (x, y)) * opacity**0.5
        color = [min(m * s, 255.0) for m, s in zip(mean, surface.shade)]
        points = np.rint(outline * 16).astype(np.int32)
        cv2.fillConvexPoly(self.image, points, color, cv2.LINE_AA, 4)
        if surface.flat:
            cv2.fillConvexPoly(self.labels, points, surface.label, cv2.LINE_8, 4)
            cv2.fillConvexPoly(self.inverse_depth, points, at_centre, cv2.LINE_8, 4)
            if self.moving is not None:
                cv2.fillConvexPoly(self.moving, points, int(surface.moves), cv2.LINE_8, 4)
            return
        solid = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(solid, points - np.array((16 * x0, 16 * y0), np.int32), 255, cv2.LINE_8, 4)
        window = (slice(y0, y1), slice(x0, x1))
        cv2.copyTo(surface.inverse_depth(x1 - x0, y1 - y0), solid, self.inverse_depth[window])
        np.copyto(self.labels[window], np.uint8(surface.label), where=solid.view(bool))
        if self.moving is not None:
            np.copyto(self.moving[window], np.uint8(surface.moves), where=solid.view(bool))

    def finish(self, scene):
        """Return the :class:`View`."""
        nothing = self.inverse_depth == 0
        with np.errstate(divide='ignore'):
            depth = 1 / self.inverse_depth
        if np.isfinite(scene.light.fog_distance):
            thickness = cv2.multiply(depth, -1 / scene.light.fog_distance)
            thickness[nothing] = 0
            clear = cv2.exp(thickness)
            fog = np.empty_like(self.image)
            fog[:] = np.asarray(scene.light.fog_color, np.uint8)
            self.image = cv2.blendLinear(self.image, fog, clear, 1 - clear)
        depth[nothing] = np.nan
        if scene.sky is None:
            self.labels[nothing] = UNKNOWN_CLASS
        moving = None if self.moving is None else self.moving.view(bool)
        return View(self.image, depth, self.labels, moving)


def _prepare(scene, view):
    """Yield every surface of a view, ready to draw, and whether it is tiny."""
    if len(view.index) == 0:
        return
    index = view.index.tolist()
    textures = [scene.texture_of(i) for i in index]
    shapes = np.array([t.shape for t in textures], float)
    matrices = _to_texels(view.inverse, scene.extent[view.index], shapes)
    across = _octaves(matrices.transpose(1, 2, 0), *view.outline.transpose(2, 1, 0))
    spread = np.maximum(np.ptp(across[0], axis=0), np.ptp(across[1], axis=0))
    area = view.spread.prod(1)
    even = spread < np.select([area < limit for limit, _ in EVEN], [octaves for _, octaves in EVEN])
    levels = [_to_integer(o.mean(0), size) for o, size in zip(across, (shapes[:, 1], shapes[:, 0]))]
    warps = _to_level(matrices, levels, shapes, view.box)
    levels = list(zip(*(level.tolist() for level in levels)))
    forms = np.concatenate([view.edges, view.inverse[:, 2:]], 1)
    forms[:, :, 2] += forms[:, :, 0] * view.box[:, :1] + forms[:, :, 1] * view.box[:, 1:2]
    forms = forms.astype(np.float32)
    flat = (view.limits[:, 1] < view.limits[:, 0] * (1 + FLAT)).tolist()
    cutout = np.array([t.has_alpha for t in textures])
    tiny = (view.spread.max(1) < np.where(cutout, TINY_CUTOUT, TINY)).tolist()
    uneven = np.flatnonzero(~even & ~np.array(tiny))
    sideways, strips = _strips(matrices[uneven], view.inverse[uneven, 2], view.box[uneven], shapes[uneven])
    strips, sideways = dict(zip(uneven.tolist(), strips)), dict(zip(uneven.tolist(), sideways.tolist()))
    labels, boxes, moves = scene.label[view.index].tolist(), view.box.tolist(), scene.moves().tolist()
    for n, (i, texture) in enumerate(zip(index, textures)):
        limits = tuple(view.limits[n]) if view.steep[n] else None
        at_centre = (texture.level(*levels[n]), warps[n]) if even[n] and not tiny[n] else None
        yield (
            _Surface(
                texture,
                labels[n],
                scene.shade_tuple[i],
                boxes[n],
                forms[n],
                view.outline[n],
                limits,
                flat[n],
                matrices[n],
                at_centre,
                strips.get(n),
                sideways.get(n, False),
                moves[i],
            ),
            tiny[n],
        )


def _to_texels(inverse, extent, shapes):
    """Turn homographies [n,3,3] pixel -> metres on the surface into pixel -> texels of its texture."""
    scale_u, scale_v = shapes[:, 1] / extent[:, 0], shapes[:, 0] / extent[:, 1]
    matrices = inverse.copy()
    matrices[:, 0] = (inverse[:, 0] - extent[:, 2:3] * inverse[:, 2]) * scale_u[:, None]
    matrices[:, 1] = (inverse[:, 1] - extent[:, 3:4] * inverse[:, 2]) * scale_v[:, None]
    return matrices


def _to_level(matrices, levels, shapes, boxes):
    """Turn homographies pixel -> texel into pixel of a box -> pixel of a reduced level."""
    shifted = matrices.copy()
    shifted[:, :, 2] += matrices[:, :, 0] * boxes[:, :1] + matrices[:, :, 1] * boxes[:, 1:2]
    for row, level in enumerate(levels):
        size = shapes[:, 1 - row]
        scale = np.maximum(1, np.floor(size / 2.0**level)) / size
        shifted[:, row] = shifted[:, row] * scale[:, None] - 0.5 * shifted[:, 2]
    return shifted


def _blend_rims(target, color, coverage):
    """Put ``color`` over ``target`` in place where it covers all, and mix the two at the rims."""
    solid = coverage >= 0.998
    cv2.copyTo(color, solid.view(np.uint8), target)
    mixed = np.flatnonzero((coverage > 0.002) & ~solid)
    if len(mixed):
        mixed = np.divmod(mixed, coverage.shape[1])
        old = target[mixed].astype(np.float32)
        target[mixed] = (old + (color[mixed] - old) * coverage[mixed][:, None] + 0.5).astype(np.uint8)


def _sample(surface):
    """
    Warp a texture into the box of a surface in strips, each from a level of its own.

    :return: [h,w,c] uint8.
    """
    x0, y0, x1, y1 = surface.box
    texture, sideways = surface.texture, surface.sideways
    result = np.empty((y1 - y0, x1 - x0, texture.image.shape[2]), np.uint8)
    for first, last, *levels in surface.strips:
        if sideways:
            result[:, first:last] = _warp(
                texture, surface.matrix, *levels, x0 + first, y0, last - first, y1 - y0
            )
        else:
            result[first:last] = _warp(
                texture, surface.matrix, *levels, x0, y0 + first, x1 - x0, last - first
            )
    return result


def _strips(matrices, planes, boxes, shapes):
    """
    Cut boxes into strips across the direction in which the texture level changes most.

    :param matrices: [n,3,3] pixel -> homogeneous texel.
    :param planes: [n,3] of the inverse depth, whose gradient is that direction.
    :param boxes: [n,4] int.
    :param shapes: [n,2] rows and columns of the textures.
    :return: [n] bool whether the strips stand side by side; list of n lists of (first pixel, last pixel,
        column level, row level).
    """
    low, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    sideways = np.abs(planes[:, 0]) * size[:, 0] > np.abs(planes[:, 1]) * size[:, 1]
    length = np.where(sideways, size[:, 0], size[:, 1])
    share = (np.arange(STEPS) + 0.5) / STEPS
    xs = low[:, 0] + np.where(sideways, share[:, None], 0.5) * (size[:, 0] - 1)
    ys = low[:, 1] + np.where(sideways, 0.5, share[:, None]) * (size[:, 1] - 1)
    octaves = np.array(_octaves(matrices.transpose(1, 2, 0), xs, ys))  # [2,STEPS,n]
    leading = np.where(np.ptp(octaves[0], axis=0) > np.ptp(octaves[1], axis=0), octaves[0], octaves[1])
    changes = np.diff(np.floor(leading + LEVEL_BIAS), axis=0) != 0
    strips = []
    for n in range(len(boxes)):
        cuts = np.flatnonzero(changes[:, n]) + 1
        starts = np.r_[0, cuts]
        counts = np.diff(np.r_[starts, STEPS])
        means = np.add.reduceat(octaves[:, :, n], starts, axis=1) / counts
        levels = [_to_integer(mean, shape) for mean, shape in zip(means, shapes[n, ::-1])]
        edges = np.rint(np.r_[starts, STEPS] * (length[n] / STEPS)).astype(int).tolist()
        strips.append(
            [
                (first, last, column, row)
                for first, last, column, row in zip(edges, edges[1:], levels[0].tolist(), levels[1].tolist())
                if first < last
            ]
        )
    return sideways, strips


def _octaves(matrix, xs, ys):
    """Return how many octaves more texels than pixels there are along columns and rows at pixels xs, ys."""
    u = matrix[0, 0] * xs + matrix[0, 1] * ys + matrix[0, 2]
    v = matrix[1, 0] * xs + matrix[1, 1] * ys + matrix[1, 2]
    w = 1 / np.maximum(matrix[2, 0] * xs + matrix[2, 1] * ys + matrix[2, 2], 1 / (4 * FAR))
    octaves = []
    for row, value in ((matrix[0], u * w), (matrix[1], v * w)):
        along_x = (row[0] - value * matrix[2, 0]) * w
        along_y = (row[1] - value * matrix[2, 1]) * w
        octaves.append(0.5 * np.log2(along_x * along_x + along_y * along_y + 1e-9))
    return octaves


def _to_integer(octaves, size):
    """Return the levels for these octaves in a texture of ``size`` texels."""
    return np.clip(octaves + (LEVEL_BIAS + 0.5), 0, np.floor(np.log2(size))).astype(int)


def _warp(texture, matrix, column_level, row_level, x0, y0, width, height):
    """Warp one level of a texture into a window whose top-left pixel is (x0, y0)."""
    image = texture.level(column_level, row_level)
    rows, columns = texture.shape
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, 0] * x0 + matrix[:, 1] * y0
    matrix[0] = matrix[0] * (image.shape[1] / columns) - 0.5 * matrix[2]
    matrix[1] = matrix[1] * (image.shape[0] / rows) - 0.5 * matrix[2]
    return cv2.warpPerspective(image, matrix, (width, height), flags=WARP, borderMode=texture.border)
