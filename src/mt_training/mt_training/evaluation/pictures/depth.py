"""Pictures of depth: prediction beside ground truth, error maps, errors over the sequence."""

import numpy as np

from mt_training.evaluation.pictures.figures import image_grid, new_figure

LARGEST_SHOWN_ERROR = 0.5


def examples(shown):
    """
    Draw image, prediction, ground truth and relative error, the first two depths with the same colours.

    :param shown: list of (frame with ``image`` and ``depth``, prediction [H,W], mask [H,W], abs_rel).
    """
    figure, axes, _ = image_grid(len(shown), 4, 4.2, 3.3)
    for row, (frame, prediction, mask, abs_rel) in zip(axes, shown):
        near, far = np.percentile(frame.depth[mask], (1, 99))
        colors = {'cmap': 'turbo', 'vmin': near, 'vmax': max(far, near + 1e-3)}
        error = np.where(
            mask, np.abs(prediction - np.where(mask, frame.depth, 1)) / np.where(mask, frame.depth, 1), np.nan
        )
        row[0].imshow(frame.image)
        row[1].imshow(prediction, **colors)
        depth = row[2].imshow(np.where(mask, frame.depth, np.nan), **colors)
        errors = row[3].imshow(error, cmap='magma', vmin=0, vmax=LARGEST_SHOWN_ERROR)
        figure.colorbar(depth, ax=list(row[1:3]), label='m', shrink=0.8)
        figure.colorbar(errors, ax=row[3], label='relative error', shrink=0.8)
        titles = (
            f'frame {frame.index}   abs_rel {abs_rel:.3f}',
            'prediction',
            'ground truth',
            '|d − d*| / d*',
        )
        for axis, title in zip(row, titles):
            axis.set_title(title, fontsize=9)
    return figure


def over_frames(per_image):
    """Draw the error and the median ratio of every image."""
    frames = [row['frame'] for row in per_image]
    figure = new_figure(9, 5)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(frames, [row['abs_rel'] for row in per_image], '.-', label='as predicted')
    top.plot(frames, [row['abs_rel_median_scaled'] for row in per_image], '.-', label='median scaled')
    top.set_ylabel('abs_rel')
    top.set_ylim(bottom=0)
    top.legend()
    bottom.plot(frames, [row['median_ratio'] for row in per_image], '.-', color='tab:green')
    bottom.axhline(1, color='k', linewidth=0.8)
    bottom.set_ylabel('median(truth) /\nmedian(prediction)')
    bottom.set_xlabel('frame')
    return figure
