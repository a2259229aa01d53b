"""Choose the size in which the network sees the camera's images."""

import math

from mt_perception.errors import ModelError

# relative errors; a wrong aspect ratio hurts what was learnt, a few pixels more or fewer do not
AREA_WEIGHT = 0.25


def choose_input_size(model, image_size=None, requested=(0, 0)):
    """
    Choose the size the network sees.

    Automatic (0, 0): the aspect ratio of the camera image as well as ``input_multiple`` allows, with about as
    many pixels as the model's own ``input_size``. One of the two 0: it follows from the other and the aspect
    ratio.

    :param model: :class:`ModelFile`.
    :param image_size: (width, height) of the camera image; None when unknown (the model's ``input_size``).
    :param requested: (width, height), 0 = choose.
    :return: (width, height).
    :raises ModelError: a requested size the model cannot take.
    """
    metadata = model.metadata
    multiple, default = metadata.input_multiple, tuple(metadata.input_size)
    width, height = (int(v) for v in requested)
    if model.fixed_size is not None:
        if any(v not in (0, d) for v, d in zip((width, height), default, strict=True)):
            raise ModelError(
                f"model '{model.path}' takes {_size(default)} images only, not {_size((width, height))}: "
                'set input_width and input_height to 0'
            )
        return default
    if width < 0 or height < 0 or width % multiple or height % multiple:
        near = tuple(max(multiple, round(v / multiple) * multiple) if v else 0 for v in (width, height))
        raise ModelError(
            f'input size {_size((width, height))} is not made of multiples of {multiple}, which model '
            f"'{model.path}' needs: use {_size(near)}"
        )
    if width and height:
        return width, height
    image_width, image_height = default if image_size is None else image_size
    aspect = image_width / image_height
    if width or height:
        other = (width / aspect) if width else (height * aspect)
        other = max(multiple, round(other / multiple) * multiple)
        return (width, other) if width else (other, height)
    return _nearest_size(aspect, default[0] * default[1], multiple)


def _nearest_size(aspect, area, multiple):
    """Return the (width, height) of multiples that is nearest to an aspect ratio and an area."""
    best, best_cost = None, math.inf
    ideal = math.sqrt(area / aspect) / multiple
    for rows in range(max(1, math.floor(ideal) - 2), math.ceil(ideal) + 3):
        height = rows * multiple
        for columns in {math.floor(height * aspect / multiple), math.ceil(height * aspect / multiple)}:
            width = max(1, columns) * multiple
            cost = abs(math.log(width / height / aspect)) + AREA_WEIGHT * abs(math.log(width * height / area))
            if cost < best_cost:
                best, best_cost = (width, height), cost
    return best


def _size(size):
    return f'{size[0]} × {size[1]}'
