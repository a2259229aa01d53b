"""What all pictures share."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(width, height):
    """Return an empty figure of ``width`` × ``height`` inches that needs no display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def image_grid(rows, columns, width=4.0, height=3.0, below=0.0):
    """
    Make a grid of axes without ticks.

    :param width: of a cell, inches.
    :param height: of a cell, inches.
    :param below: height of an empty strip below the grid, inches.
    :return: (figure, [rows,columns] axes, axes of the strip).
    """
    figure = new_figure(width * columns, height * rows + below)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*([height] * rows), max(below, 1e-3)])
    axes = np.array([[figure.add_subplot(grid[r, c]) for c in range(columns)] for r in range(rows)])
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    strip = figure.add_subplot(grid[rows, :])
    strip.set_axis_off()
    return figure, axes, strip


def color_classes(ids, colors, other=(0, 0, 0)):
    """
    Paint class ids.

    :param ids: [H,W] uint8.
    :param colors: [r, g, b] per class; ids beyond get ``other``.
    :return: [H,W,3] uint8 RGB.
    """
    table = np.tile(np.array(other, np.uint8), (256, 1))
    table[: len(colors)] = np.array(colors, np.uint8)
    return table[ids]


def blend(image, color, weight=0.6):
    """Mix an image [H,W,3] uint8 with a painted one, ``weight`` of the latter."""
    return (image * (1 - weight) + color * weight).astype(np.uint8)
