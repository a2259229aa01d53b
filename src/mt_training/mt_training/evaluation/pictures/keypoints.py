"""Pictures of keypoints: matches on one pair per scene, comparison of features."""

import numpy as np
from matplotlib.collections import LineCollection

from mt_training.evaluation.pictures.figures import new_figure
from mt_training.metrics.homography import warp_points
from mt_training.metrics.keypoints import CORRECT_PX, reprojection_errors

RIGHT, WRONG, POINT = '#27d045', '#ff3b30', '#ffd60a'
GAP = 8


def matches_of_scenes(drawings, most):
    """
    Draw one pair of each of the first ``most`` scenes.

    :param drawings: list of (features, scene, first image, second image, first keypoints, second keypoints,
        matches, homography, row of the pair).
    :return: iterator of (features, scene, figure).
    """
    scenes = list(dict.fromkeys(drawing[1] for drawing in drawings))[:most]
    for drawing in drawings:
        if drawing[1] in scenes:
            yield drawing[0], drawing[1], matches(*drawing)


def matches(features, scene, image_first, image_second, first, second, matched, homography, row):
    """Draw two images side by side, right (green) and wrong (red) matches, and where the first image lies."""
    height, width = image_first.shape[:2]
    shift = np.array([width + GAP, 0])
    canvas = np.full((height, 2 * width + GAP, 3), 255, np.uint8)
    canvas[:, :width], canvas[:, width + GAP :] = image_first, image_second
    figure = new_figure(12.8, 5.2)
    axis = figure.subplots()
    axis.imshow(canvas)
    a, b = first.xy[matched.index[:, 0]], second.xy[matched.index[:, 1]]
    right = reprojection_errors(a, b, homography) <= CORRECT_PX
    for chosen, color, alpha in ((~right, WRONG, 0.35), (right, RIGHT, 0.6)):
        lines = np.stack([a[chosen], b[chosen] + shift], 1)
        axis.add_collection(LineCollection(lines, colors=color, linewidths=0.5, alpha=alpha))
    for points in (first.xy, second.xy + shift):
        axis.scatter(*points.T, s=2, color=POINT, linewidths=0)
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1], [0, 0]], float)
    outline = warp_points(corners, homography)
    if np.isfinite(outline).all():
        axis.plot(*(outline + shift).T, color='w', linewidth=1, linestyle=':')
    axis.set_xlim(-0.5, canvas.shape[1] - 0.5)
    axis.set_ylim(height - 0.5, -0.5)
    axis.set_axis_off()
    corner_error = np.median(row['corner_error_px'])
    axis.set_title(
        f'{features}, {scene}: {len(matched)} matches, {right.sum()} within {CORRECT_PX:g} px; repeatability '
        f'{row["repeatability"]:.2f}, corner error {corner_error:.2f} px (median of the draws)',
        fontsize=10,
    )
    return figure


def comparison(results):
    """
    Draw the main numbers of all features side by side, and the MMA curves.

    :param results: {features: summary}.
    """
    labels = ['repeatability', 'H @1 px', 'H @3 px', 'H @5 px', 'M-score']
    figure = new_figure(11, 4)
    bars, curves = figure.subplots(1, 2, gridspec_kw={'width_ratios': (3, 2)})
    width = 0.8 / len(results)
    for number, (name, r) in enumerate(results.items()):
        values = [r['repeatability'], *r['homography_accuracy'].values(), r['matching_score']]
        errors = [0, *r['homography_accuracy_std'].values(), 0]
        places = np.arange(len(labels)) + (number - (len(results) - 1) / 2) * width
        bars.bar(places, np.nan_to_num(values), width, yerr=errors, capsize=2, label=name)
        curves.plot([int(t) for t in r['mma_curve']], list(r['mma_curve'].values()), '.-', label=name)
    bars.set_xticks(range(len(labels)), labels)
    bars.set_ylim(0, 1)
    bars.legend(fontsize=8)
    bars.set_title('bars: mean over pairs; whiskers: ± deviation between RANSAC draws', fontsize=9)
    curves.set_xlabel('threshold in px')
    curves.set_title('mean matching accuracy (MMA)', fontsize=9)
    curves.set_ylim(0, 1)
    curves.grid(alpha=0.3)
    return figure
