"""Figures of the report, each as the bytes of a PNG file."""

import io

import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot as plt

from mt_perception.perception.visualize import color_depth

ESTIMATE = '#2563eb'
TRUTH = '#15a06a'
SECOND = '#d9480f'
STYLE = {
    'font.family': 'DejaVu Sans',
    'font.size': 10,
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#94a3b8',
    'axes.labelcolor': '#334155',
    'xtick.color': '#475569',
    'ytick.color': '#475569',
    'axes.grid': True,
    'grid.color': '#e2e8f0',
    'legend.frameon': False,
    'figure.dpi': 130,
}
TICK_GAP = 0.09  # of the scale's width
COLORS = ('#1d4ed8', '#3b82f6', '#0d9488', '#84cc16', '#eab308', '#f97316', '#dc2626', '#a855f7', '#64748b')


def to_png(fig):
    """Return a figure as PNG and close it."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format='png')
    plt.close(fig)
    return buffer.getvalue()


def trajectory_plot(result):
    """Draw the path from above, and the error along it where there is a truth."""
    with plt.rc_context(STYLE):
        with_error = result.errors is not None
        fig, axes = plt.subplots(
            1,
            2 if with_error else 1,
            figsize=(11 if with_error else 7, 4.6),
            layout='constrained',
            squeeze=False,
            width_ratios=[1.25, 1] if with_error else None,
        )
        above = axes[0, 0]
        places = result.estimate[:, :2, 3]
        along = np.ptp(places, axis=0)
        across = along[0] > along[1]  # a long drive ahead is drawn from left to right

        def draw(points, **style):
            ahead, left = points.T
            above.plot(*((ahead, left) if across else (-left, ahead)), **style)

        if result.truth is not None:
            draw(result.truth[:, :2, 3], color=TRUTH, lw=4, alpha=0.5, label='ground truth')
        draw(places, color=ESTIMATE, lw=1.6, label='visual odometry')
        draw(places[:1], color=ESTIMATE, marker='o', ms=7, ls='', label='start')
        above.set(title='Path from above')
        above.set(
            xlabel='ahead in m' if across else 'to the right in m',
            ylabel='to the left in m' if across else 'ahead in m',
        )
        above.set_aspect('equal', adjustable='datalim')
        above.legend(loc='best')
        if with_error:
            error = axes[0, 1]
            error.plot(
                result.error_stamps - result.error_stamps[0], result.errors * 100, color=SECOND, lw=1.5
            )
            error.fill_between(
                result.error_stamps - result.error_stamps[0], result.errors * 100, color=SECOND, alpha=0.12
            )
            error.set(
                xlabel='time in s', ylabel='position error in cm', title='Error along the way', ylim=(0, None)
            )
        return to_png(fig)


def latency_plot(series):
    """
    Draw latency per frame and its distribution.

    :param series: {name: ([N] frame numbers, [N] milliseconds)}.
    """
    with plt.rc_context(STYLE):
        fig, (left, right) = plt.subplots(
            1, 2, figsize=(11, 3.6), layout='constrained', width_ratios=[1.7, 1]
        )
        for (name, (numbers, values)), color in zip(series.items(), (ESTIMATE, SECOND), strict=False):
            left.plot(numbers, values, '.', ms=4, color=color, label=name)
            right.plot(np.sort(values), np.linspace(0, 100, len(values)), color=color, lw=1.8, label=name)
        left.set(xlabel='frame', ylabel='ms', ylim=(0, None), title='From image to result, frame by frame')
        right.set(xlabel='ms', ylabel='% of the frames', xlim=(0, None), ylim=(0, 101), title='Distribution')
        left.legend(loc='upper right')
        return to_png(fig)


def stages_plot(stage_ms):
    """
    Draw the mean time of each stage of each node, end to end.

    :param stage_ms: {node: {stage: {'mean': ms, …}}}; the stage ``total`` is left out.
    """
    with plt.rc_context({**STYLE, 'axes.grid': False, 'axes.spines.left': False}):
        fig, axes = plt.subplots(figsize=(11, 0.9 + 0.75 * len(stage_ms)), layout='constrained')
        names = []
        for row, stages in enumerate(stage_ms.values()):
            left = 0.0
            for number, (stage, values) in enumerate((s, v) for s, v in stages.items() if s != 'total'):
                color = COLORS[number % len(COLORS)]
                axes.barh(row, values['mean'], left=left, color=color, height=0.6, edgecolor='white', lw=0.6)
                names.append((row, left + values['mean'] / 2, stage.replace('_', ' '), values['mean']))
                left += values['mean']
        longest = axes.get_xlim()[1]
        for row, middle, stage, value in names:
            if value > 0.075 * longest:
                axes.text(
                    middle, row, f'{stage}\n{value:.1f}', ha='center', va='center', color='white', fontsize=8
                )
        axes.set_yticks(range(len(stage_ms)), [node.replace('_', ' ') for node in stage_ms])
        axes.tick_params(axis='y', length=0)
        axes.invert_yaxis()
        axes.set(xlabel='ms a frame, on average', title='Where the time goes')
        return to_png(fig)


def similarity_plot(numbers, similarity, distance):
    """Draw the similarity of the global descriptors of all pairs of frames, beside the true distance."""
    with plt.rc_context({**STYLE, 'axes.grid': False}):
        count = 1 if distance is None else 2
        fig, axes = plt.subplots(1, count, figsize=(5.4 * count, 4.6), layout='constrained', squeeze=False)
        extent = (numbers[0] - 0.5, numbers[-1] + 0.5, numbers[-1] + 0.5, numbers[0] - 0.5)
        low = float(np.percentile(similarity, 2))
        shown = axes[0, 0].imshow(
            similarity, extent=extent, cmap='magma', vmin=low, vmax=1, interpolation='nearest'
        )
        fig.colorbar(shown, ax=axes[0, 0], shrink=0.9)
        axes[0, 0].set(xlabel='frame', ylabel='frame', title='Similarity of the global descriptors')
        if distance is not None:
            shown = axes[0, 1].imshow(distance, extent=extent, cmap='magma_r', interpolation='nearest')
            fig.colorbar(shown, ax=axes[0, 1], shrink=0.9)
            axes[0, 1].set(xlabel='frame', title='True distance in m')
        return to_png(fig)


def depth_scale(limits):
    """Draw the colours of depth between (near, far) metres."""
    with plt.rc_context({**STYLE, 'axes.grid': False}):
        fig, axes = plt.subplots(figsize=(5.2, 0.62), layout='constrained')
        near, far = limits
        inverse = np.linspace(1 / near, 1 / far, 400, dtype=np.float32)  # even in the colours
        axes.imshow(color_depth(1 / inverse[None], limits), aspect='auto', extent=(0, 1, 0, 1))
        round_ones = (0.2, 0.3, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200)
        place = {m: (1 / near - 1 / m) / (1 / near - 1 / far) for m in (near, *round_ones, far)}
        steps = [near]
        for m in (*(m for m in round_ones if near < m < far), far):
            if place[m] - place[steps[-1]] > TICK_GAP:
                steps.append(m)
        axes.set_xticks([place[m] for m in steps], [f'{m:.2g} m' for m in steps])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(False)
        return to_png(fig)
