"""Pictures of segmentation: overlays, confusion matrix, bars per class."""

import numpy as np
from matplotlib.patches import Patch

from mt_training.evaluation.pictures.figures import blend, color_classes, image_grid, new_figure
from mt_training.metrics.segmentation import IGNORE_INDEX

WRONG = (255, 40, 40)


def _aspect(image):
    """Height over width."""
    return image.shape[0] / image.shape[1]


def overlays(shown, class_names, class_colors):
    """
    Draw images with prediction, labels and mistakes.

    :param shown: list of (sample with ``name``, ``image``, ``labels``; predicted ids [H,W]; mIoU of the
        image).
    """
    height = 4.2 * max(_aspect(sample.image) for sample, _, _ in shown) + 0.3
    figure, axes, below = image_grid(len(shown), 4, 4.2, height, below=0.4)
    for row, (sample, prediction, miou) in zip(axes, shown):
        labelled = sample.labels != IGNORE_INDEX
        wrong = labelled & (prediction != sample.labels)
        errors = blend(sample.image, np.zeros(3), 0.5)
        errors[wrong] = WRONG
        row[0].imshow(sample.image)
        row[1].imshow(blend(sample.image, color_classes(prediction, class_colors)))
        row[2].imshow(blend(sample.image, color_classes(sample.labels, class_colors)))
        row[3].imshow(errors)
        row[0].set_title(f'{sample.name}   mIoU {100 * miou:.1f} %', fontsize=9)
        for axis, title in zip(
            row[1:], ('prediction', 'labels', f'wrong: {100 * wrong.sum() / max(labelled.sum(), 1):.1f} %')
        ):
            axis.set_title(title, fontsize=9)
    handles = [Patch(color=np.array(c) / 255, label=n) for n, c in zip(class_names, class_colors)]
    below.legend(handles=handles, loc='center', ncol=len(handles), fontsize=8, frameon=False)
    return figure


def confusion(matrix, class_names):
    """Draw a confusion matrix [C, C+1] in percent of each true class."""
    labelled = matrix.sum(1, keepdims=True)
    percent = 100 * matrix / np.maximum(labelled, 1)
    columns = [*class_names, 'other']
    if not matrix[:, -1].any():
        percent, columns = percent[:, :-1], columns[:-1]
    figure = new_figure(2.5 + 0.62 * len(columns), 2 + 0.5 * len(class_names))
    axis = figure.subplots()
    shown = axis.imshow(percent, cmap='Blues', vmin=0, vmax=100, aspect='auto')
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha='right')
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_xlabel('predicted')
    axis.set_ylabel('true')
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            axis.text(
                column,
                row,
                f'{value:.0f}',
                ha='center',
                va='center',
                fontsize=8,
                color='w' if value > 55 else 'k',
            )
    figure.colorbar(shown, label='% of the pixels of the true class')
    return figure


def class_bars(class_names, class_colors, iou):
    """Draw the IoU of every class."""
    figure = new_figure(8, 0.36 * len(class_names) + 1.2)
    axis = figure.subplots()
    places = np.arange(len(class_names))[::-1]
    values = np.nan_to_num(iou) * 100
    axis.barh(places, values, color=np.array(class_colors) / 255, edgecolor='k', linewidth=0.5)
    for place, value, known in zip(places, values, np.isfinite(iou)):
        axis.text(value + 1, place, f'{value:.1f}' if known else 'no labels', va='center', fontsize=9)
    axis.axvline(
        100 * np.nanmean(iou),
        color='k',
        linestyle='--',
        linewidth=1,
        label=f'mean {100 * np.nanmean(iou):.1f}',
    )
    axis.set_yticks(places, class_names)
    axis.set_xlim(0, 108)
    axis.set_xlabel('IoU in %')
    axis.legend(loc='lower right')
    return figure
