"""Colours for classes of sets that define none."""


def bit_colors(count, start=1):
    """
    Return ``count`` distinct colours, the bits of an id spread over R, G and B as in PASCAL VOC's map.

    :param start: id of the first colour; 0 is black.
    :return: tuple of (r, g, b).
    """
    colors = []
    for value in range(start, start + count):
        r = g = b = 0
        for shift in range(7, -1, -1):
            r |= (value & 1) << shift
            g |= (value >> 1 & 1) << shift
            b |= (value >> 2 & 1) << shift
            value >>= 3
        colors.append((r, g, b))
    return tuple(colors)
