"""Which surfaces of a scene a camera sees, and where: all surfaces at once, in arrays."""

from dataclasses import dataclass

import numpy as np

NEAR = 0.1  # metres
MIN_AREA = 3.0  # pixels: surfaces whose bounding box is smaller are left out
CELL = 8  # pixels of one cell of the occlusion buffer
OCCLUDER_AREA = 1500  # pixels of bounding box from which an opaque surface may hide others
STEEP = 0.02  # relative change of inverse depth per pixel from which it is kept in its limits
GROW = 0.4  # pixels a surface is grown by, so that neighbours leave no seam


@dataclass
class Projection:
    """
    The n surfaces in view, in drawing order (layer, then far to near).

    :param index: [n] surface of the scene.
    :param box: [n,4] int x0, y0, x1, y1 inside the image, ends exclusive.
    :param spread: [n,2] width and height of the outline in pixels.
    :param centre: [n,2] mean of the corners in pixels.
    :param edges: [n,5,3] (a, b, c): a x + b y + c is the distance in pixels inside that edge,
        plus 0.5 + GROW.
    :param outline: [n,5,2] corner pixels, some repeated.
    :param inverse: [n,3,3] pixel -> (u, v, 1) / depth.
    :param limits: [n,2] least and greatest inverse depth of the corners.
    :param steep: [n] bool, inverse depth changes so much per pixel that it has to be kept in its limits.
    """

    index: np.ndarray
    box: np.ndarray
    spread: np.ndarray
    centre: np.ndarray
    edges: np.ndarray
    outline: np.ndarray
    inverse: np.ndarray
    limits: np.ndarray
    steep: np.ndarray


def project(scene, camera, rotation, centre, opaque):
    """
    Find what a camera sees.

    :param scene: :class:`mt_perception.rendering.scene.Scene`, as it is at that time.
    :param rotation: [3,3] camera to world.
    :param centre: [3] of the camera in the world.
    :param opaque: function of a surface index that says whether it hides what is behind it.
    :return: :class:`Projection`, without surfaces that are hidden behind large ones.
    """
    width, height, k = camera.width, camera.height, camera.matrix
    origin = (scene.origin - centre) @ rotation
    axis_u, axis_v = scene.axis_u @ rotation, scene.axis_v @ rotation
    corners = (
        origin[:, None] + scene.corners[..., :1] * axis_u[:, None] + scene.corners[..., 1:] * axis_v[:, None]
    )
    seen = _in_view(scene, corners, np.cross(axis_u, axis_v), origin, k, width, height)
    farthest = corners[seen, :, 2].mean(1)
    seen = seen[np.lexsort((-farthest, scene.layer[seen]))]
    corners = _pad(corners[seen], k)
    nearest = corners[..., 2].min(1)
    limits = 1 / np.c_[corners[..., 2].max(1), nearest]
    outline = corners[..., :2] / corners[..., 2:] * (k[0, 0], k[1, 1]) + k[:2, 2]
    low, high = outline.min(1), outline.max(1)
    box = np.c_[np.floor(low - GROW), np.ceil(high + GROW) + 1]
    box = np.clip(box, 0, (width, height, width, height)).astype(int)
    kept = (box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3]) & (np.prod(high - low, axis=1) >= MIN_AREA)
    # Homographies (u, v, 1) -> pixel · depth, and their inverses.
    forward = np.einsum('ij,njk->nik', k, np.stack([axis_u[seen], axis_v[seen], origin[seen]], 2))
    inverse = np.linalg.inv(forward)
    edges = _edges(outline)
    steep = np.abs(inverse[:, 2, :2]).sum(1) > STEEP * limits[:, 0]
    box, hidden = _occlude(seen, box, edges, inverse[:, 2], 1 / nearest, kept, width, height, opaque)
    kept &= ~hidden
    return Projection(
        seen[kept],
        box[kept],
        (high - low)[kept],
        outline[kept].mean(1),
        edges[kept],
        outline[kept],
        inverse[kept],
        limits[kept],
        steep[kept],
    )


def _in_view(scene, corners, away, origin, k, width, height):
    """Return indices of surfaces that may be seen: in front, inside the frustum, facing the camera."""
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    left = k[0, 0] * x + (k[0, 2] + 0.5) * z
    right = k[0, 0] * x + (k[0, 2] + 0.5 - width) * z
    top = k[1, 1] * y + (k[1, 2] + 0.5) * z
    bottom = k[1, 1] * y + (k[1, 2] + 0.5 - height) * z
    inside = (left > 0).any(1) & (right < 0).any(1) & (top > 0).any(1) & (bottom < 0).any(1)
    facing = (away * origin).sum(1)
    facing = np.where(scene.two_sided, np.abs(facing), facing) > 1e-4
    return np.flatnonzero(inside & facing & (z.max(1) > NEAR) & (z.min(1) < scene.reach))


def _pad(corners, k):
    """Clip polygons [n,4,3] at the near plane; the result [n,5,3] repeats corners."""
    padded = np.concatenate([corners, corners[:, -1:]], 1)
    for i in np.flatnonzero(corners[..., 2].min(1) < NEAR):
        kept = []
        for a, b in zip(corners[i], np.roll(corners[i], -1, axis=0)):
            if a[2] >= NEAR:
                kept.append(a)
            if (a[2] >= NEAR) != (b[2] >= NEAR):
                kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
        padded[i] = (kept + [kept[-1]] * 5)[:5]
    return padded


def _edges(outline):
    """Return [n,5,3] inward unit normals and offsets of the edges of convex outlines [n,5,2]."""
    following = np.roll(outline, -1, axis=1)
    edge = following - outline
    length = np.hypot(edge[..., 0], edge[..., 1])
    area = (outline[..., 0] * following[..., 1] - outline[..., 1] * following[..., 0]).sum(1)
    scale = np.where(area > 0, 1.0, -1.0)[:, None] / np.maximum(length, 1e-9)
    a, b = -edge[..., 1] * scale, edge[..., 0] * scale
    c = -(a * outline[..., 0] + b * outline[..., 1]) + 0.5 + GROW
    none = length < 1e-6
    a[none], b[none], c[none] = 0, 0, 1e6
    return np.stack([a, b, c], 2)


def _occlude(index, box, edges, plane, nearest, kept, width, height, opaque):
    """
    Find what lies behind large opaque surfaces.

    A coarse buffer keeps, per cell of the image, the inverse depth of the nearest surface that covers
    the whole cell; what is farther than it in all cells it touches cannot be seen.

    :return: boxes [n,4], those of large surfaces shrunk to the cells in which they can be seen; [n] bool
        hidden.
    """
    columns, rows = -(-width // CELL), -(-height // CELL)
    x = np.arange(columns) * CELL + (CELL - 1) / 2
    y = np.arange(rows) * CELL + (CELL - 1) / 2
    buffer = np.zeros((rows, columns))
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    large = np.flatnonzero(kept & (area > OCCLUDER_AREA))
    first, last = box[:, :2] // CELL, -(-box[:, 2:] // CELL)
    upper = {}
    for i in large.tolist():
        (c0, r0), (c1, r1) = first[i].tolist(), last[i].tolist()
        xs, ys = x[c0:c1], y[r0:r1]
        a, b, c = plane[i].tolist()
        depth = a * xs + (b * ys + c)[:, None]
        reach = CELL / 2 * (abs(a) + abs(b))
        upper[i] = depth + reach
        if opaque(index[i]):
            a, b, c = edges[i].T[:, :, None]
            inside = (
                (b * ys + c - 1.5 - CELL / 2 * (abs(a) + abs(b)))[:, :, None] + (a * xs)[:, None, :]
            ).min(0)
            window = buffer[r0:r1, c0:c1]
            np.maximum(window, (depth - reach) * (inside >= 0), out=window)
    hidden = np.zeros(len(index), bool)
    box = box.copy()
    candidates = np.flatnonzero(kept)
    for i, (c0, r0), (c1, r1), z in zip(
        candidates.tolist(),
        first[candidates].tolist(),
        last[candidates].tolist(),
        nearest[candidates].tolist(),
    ):
        window = buffer[r0:r1, c0:c1]
        if i not in upper:
            hidden[i] = window.min() > z
            continue
        visible = upper[i] >= window
        in_rows, in_columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        if len(in_rows) == 0:
            hidden[i] = True
            continue
        low = (c0 + in_columns[0], r0 + in_rows[0])
        high = (c0 + in_columns[-1] + 1, r0 + in_rows[-1] + 1)
        box[i, :2] = np.maximum(box[i, :2], np.multiply(low, CELL))
        box[i, 2:] = np.minimum(box[i, 2:], np.multiply(high, CELL))
    return box, hidden
