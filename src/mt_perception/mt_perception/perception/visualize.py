"""Pictures of what the network says; all images are [H,W,3] uint8 RGB."""

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
LEGEND_HEIGHT = 22  # pixels of one row of a legend
TEXT_SCALE = 0.45
WHITE, BLACK, GRAY = (255, 255, 255), (0, 0, 0), (110, 110, 110)
BACKGROUND = (32, 33, 36)
RED = (220, 50, 47)
TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8).reshape(-1, 1), cv2.COLORMAP_TURBO)[:, 0, ::-1]
SHIFT = 4  # fractional bits of the coordinates of OpenCV's drawing functions


def color_segmentation(segmentation, color_table):
    """
    Paint class ids.

    :param segmentation: [h,w] uint8 class ids.
    :param color_table: [256,3] uint8 RGB, such as ``ModelMetadata.color_table``.
    :return: [h,w,3] uint8.
    """
    return color_table[segmentation]


def overlay_segmentation(image, segmentation, color_table, opacity=0.55):
    """
    Lay class colours over an image, with a thin dark line where the class changes.

    :param image: [H,W,3] uint8.
    :param segmentation: [h,w] uint8 class ids of any size.
    :param color_table: [256,3] uint8 RGB.
    :param opacity: of the colours, 0–1.
    :return: [H,W,3] uint8.
    """
    size = (image.shape[1], image.shape[0])
    classes = cv2.resize(segmentation, size, interpolation=cv2.INTER_NEAREST_EXACT)
    out = cv2.addWeighted(image, 1 - opacity, color_table[classes], opacity, 0)
    edge = cv2.morphologyEx(classes, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    out[edge] = out[edge] // 3
    return out


def legend(names, colors, width):
    """
    Draw colour patches with names, in as many rows as they need.

    :param names: list of N texts.
    :param colors: list of N [r, g, b].
    :param width: of the picture, in pixels.
    :return: [h,width,3] uint8.
    """
    places, x, y = [], 6, 0
    for name in names:
        length = 26 + cv2.getTextSize(name, FONT, TEXT_SCALE, 1)[0][0]
        if x + length > width and x > 6:
            x, y = 6, y + LEGEND_HEIGHT
        places.append((x, y))
        x += length + 6
    out = np.full((y + LEGEND_HEIGHT, width, 3), BACKGROUND, np.uint8)
    for name, color, (x, y) in zip(names, colors, places, strict=True):
        color = tuple(int(v) for v in color)
        cv2.rectangle(out, (x, y + 5), (x + 13, y + 17), color, -1)
        cv2.rectangle(out, (x, y + 5), (x + 13, y + 17), GRAY, 1)
        cv2.putText(out, name, (x + 18, y + 16), FONT, TEXT_SCALE, WHITE, 1, cv2.LINE_AA)
    return out


def with_legend(image, metadata, segmentation=None):
    """
    Put the legend of a model's classes under an image.

    :param image: [H,W,3] uint8.
    :param metadata: :class:`mt_perception.inference.contract.ModelMetadata`.
    :param segmentation: class ids; only those that occur are listed, None = all.
    :return: [H+h,W,3] uint8.
    """
    ids = range(len(metadata.class_names))
    if segmentation is not None:
        present = set(np.unique(segmentation).tolist())
        ids = [number for number in ids if number in present]
    names, colors = [metadata.class_names[i] for i in ids], [metadata.class_colors[i] for i in ids]
    return np.vstack([image, legend(names, colors, image.shape[1])])


def depth_range(depth):
    """Return the (nearest, farthest) depth worth a colour: 2nd and 98th percentile, (1, 2) without any."""
    valid = depth[np.isfinite(depth) & (depth > 0)]
    if valid.size == 0:
        return 1.0, 2.0
    near, far = np.percentile(valid, (2, 98))
    return float(near), float(max(far, near * 1.05))


def color_depth(depth, limits=None):
    """
    Paint depth: near is warm, far is dark blue, unknown is black.

    Colours follow inverse depth, so that near things, where depth is most exact, get most of them.

    :param depth: [h,w] float32 metres, NaN or ≤ 0 where unknown.
    :param limits: (nearest, farthest) metres, None = :func:`depth_range`; give the same ones to compare
        pictures.
    :return: [h,w,3] uint8.
    """
    near, far = depth_range(depth) if limits is None else limits
    valid = np.isfinite(depth) & (depth > 0)
    with np.errstate(divide='ignore', invalid='ignore'):
        level = (1 / depth - 1 / far) / (1 / near - 1 / far)
    level = np.where(valid, np.clip(level, 0, 1), 0)
    colors = TURBO[np.rint(level * 255).astype(np.uint8)]
    return np.where(valid[..., None], colors, 0).astype(np.uint8)


def with_depth_scale(image, limits):
    """
    Put the scale of :func:`color_depth` under an image.

    :param image: [H,W,3] uint8.
    :param limits: (nearest, farthest) metres.
    :return: [H+h,W,3] uint8.
    """
    near, far = limits
    height, width = LEGEND_HEIGHT, image.shape[1]
    out = np.full((height, width, 3), BACKGROUND, np.uint8)
    left, right = 70, max(width - 70, 71)
    # evenly spaced in inverse depth, as the colours are
    inverse = np.linspace(1 / near, 1 / far, right - left, dtype=np.float32)
    out[5:17, left:right] = color_depth(1 / inverse[None], limits)
    cv2.putText(out, f'{near:.3g} m', (6, 16), FONT, TEXT_SCALE, WHITE, 1, cv2.LINE_AA)
    cv2.putText(out, f'{far:.3g} m', (right + 6, 16), FONT, TEXT_SCALE, WHITE, 1, cv2.LINE_AA)
    return np.vstack([image, out])


def draw_keypoints(image, keypoints, color_by='score'):
    """
    Draw keypoints as rings; the strongest on top.

    :param image: [H,W,3] uint8, of any size: points are scaled from ``keypoints.image_size``.
    :param keypoints: :class:`mt_perception.types.Keypoints`.
    :param color_by: 'score' (rank within the image) or 'depth' (as :func:`color_depth`; unknown is gray).
    :return: [H,W,3] uint8.
    """
    out = image.copy()
    places = _scaled(keypoints, out)
    if color_by == 'depth':
        colors = color_depth(keypoints.depth[None])[0]
        colors[~np.isfinite(keypoints.depth)] = GRAY
    else:
        colors = TURBO[np.linspace(255, 40, len(keypoints)).astype(np.uint8)]
    radius = _radius(out)
    for i in range(len(keypoints) - 1, -1, -1):
        _dot(out, places[i], radius, tuple(int(v) for v in colors[i]))
    return out


def draw_matches(first_image, first, second_image, second, matches, inliers=None, vertical=False):
    """
    Draw two images beside each other with a line for each match.

    :param first_image: [H,W,3] uint8, of any size.
    :param first: :class:`mt_perception.types.Keypoints` of it.
    :param second_image: and ``second``: the same.
    :param matches: :class:`mt_perception.matching.base.Matches`.
    :param inliers: [M] bool; outliers are red, None = all count as inliers. Inliers go from blue (unsure) to
        green and yellow (sure).
    :param vertical: one image above the other.
    :return: [H',W',3] uint8.
    """
    shapes = np.array([first_image.shape[:2], second_image.shape[:2]])
    height, width = (shapes.sum(0)[0], shapes.max(0)[1]) if vertical else (shapes.max(0)[0], shapes.sum(0)[1])
    out = np.full((height, width, 3), BACKGROUND, np.uint8)
    offset = np.array([0, shapes[0, 0]]) if vertical else np.array([shapes[0, 1], 0])
    out[: shapes[0, 0], : shapes[0, 1]] = first_image
    out[offset[1] : offset[1] + shapes[1, 0], offset[0] : offset[0] + shapes[1, 1]] = second_image
    from_places = _scaled(first, first_image)[matches.index[:, 0]]
    to_places = _scaled(second, second_image)[matches.index[:, 1]] + offset
    good = np.ones(len(matches), bool) if inliers is None else np.asarray(inliers, bool)
    level = np.rint(255 * (0.3 + 0.3 * np.clip(matches.scores, 0, 1))).astype(np.uint8)
    colors = TURBO[level]
    lines = out.copy()
    for i in np.argsort(good, kind='stable'):  # inliers last, on top
        color = tuple(int(v) for v in colors[i]) if good[i] else RED
        ends = [_fixed(place) for place in (from_places[i], to_places[i])]
        cv2.line(lines, *ends, color, 1, cv2.LINE_AA, SHIFT)
        for place in (from_places[i], to_places[i]):
            _dot(lines, place, _radius(first_image) * (0.8 if good[i] else 0.5), color)
    return cv2.addWeighted(out, 0.25, lines, 0.75, 0)


def with_title(image, text):
    """Put a line of text above an image; returns [H+h,W,3] uint8."""
    out = np.full((LEGEND_HEIGHT + 4, image.shape[1], 3), BACKGROUND, np.uint8)
    cv2.putText(out, text, (8, 18), FONT, 0.5, WHITE, 1, cv2.LINE_AA)
    return np.vstack([out, image])


def _fixed(place):
    return tuple(int(v) for v in np.rint(np.asarray(place) * (1 << SHIFT)))


def _scaled(keypoints, image):
    """[N,2] keypoints in pixels of ``image``, which may have another size than the one they were found in."""
    scale = np.array([image.shape[1], image.shape[0]]) / np.array(keypoints.image_size)
    return (keypoints.xy + 0.5) * scale - 0.5


def _radius(image):
    """Return a radius in pixels that suits the size of an image."""
    return max(2.0, 0.004 * max(image.shape[:2]))


def _dot(image, place, radius, color):
    """Draw a filled dot with a dark rim."""
    for size, paint in ((radius + 0.8, BLACK), (radius, color)):
        cv2.circle(image, _fixed(place), round(size * (1 << SHIFT)), paint, -1, cv2.LINE_AA, SHIFT)
