"""Pictures of loops and of localisation."""

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mt_perception.evaluation.plots import AXES, ESTIMATE, GRID, KEYFRAME, LOST, TRUTH, save, widest_axes


def plot_loops(metrics, outcome, closed, scored, path):
    """
    Draw the path before and after closing the loops from above, with the loops.

    :param metrics: of ``evaluate odometry --loops``.
    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param closed: :class:`mt_perception.evaluation.places.Closed`.
    :param scored: :class:`mt_perception.evaluation.odometry.Scored` before closing, or None.
    :param path: PNG file.
    """
    figure = Figure(figsize=(7, 6), layout='constrained')
    axes = figure.subplots()
    if scored is not None and closed.scored is not None:
        before, after = scored.aligned[:, :3, 3], closed.scored.aligned[:, :3, 3]
        stamps, truth = closed.scored.stamps, closed.scored.truth[:, :3, 3]
    else:
        before, after = (poses[outcome.tracked][:, :3, 3] for poses in (outcome.poses, closed.poses))
        stamps, truth = outcome.stamps[outcome.tracked], None
    if len(after):
        columns = list(widest_axes(after if truth is None else truth))
        if truth is not None:
            axes.plot(*truth[:, columns].T, color=TRUTH, lw=3, alpha=0.55, label='ground truth')
        axes.plot(*before[:, columns].T, color=KEYFRAME, lw=1.2, label='odometry')
        axes.plot(*after[:, columns].T, color=ESTIMATE, lw=1.4, label='loops closed')
        keyframes = closed.places.graph.keyframes
        at = [
            [int(np.abs(stamps - keyframes[k].stamp).argmin()) for k in (loop.earlier, loop.later)]
            for loop in closed.accepted
        ]
        lines = [after[pair][:, columns] for pair in at]
        axes.add_collection(LineCollection(lines, colors=LOST, linewidths=0.8, label='loops'))
        axes.set(xlabel=f'{AXES[columns[0]]}', ylabel=f'{AXES[columns[1]]}')
        axes.legend()
    axes.set_aspect('equal', adjustable='datalim')
    axes.grid(color=GRID)
    errors = metrics['ate_rmse_sim3_m'], metrics['ate_rmse_sim3_m_closed']
    text = '' if None in errors else f', ATE {errors[0]:.3f} m → {errors[1]:.3f} m after Sim(3) alignment'
    axes.set_title(f'{metrics["sequence"]}: {metrics["loops_accepted"]} loops{text}')
    save(figure, path)


def plot_localization(results, path):
    """
    Draw the errors of localisation and the inliers over the frames.

    :param results: list of dicts of ``evaluate localization``; errors are None where a frame was not located
        or has no ground truth.
    :param path: PNG file.
    """
    figure = Figure(figsize=(9, 6), layout='constrained')
    rows = figure.subplots(3, 1, sharex=True)
    frames = np.array([result['frame'] for result in results])
    found = np.array([result['inliers'] > 0 for result in results], bool)
    for axes, key, label in zip(
        rows,
        ('position_error_m', 'rotation_error_deg', 'inliers'),
        ('position error in m', 'rotation error in °', 'keypoints that agree'),
    ):
        values = np.array([np.nan if result[key] is None else result[key] for result in results], float)
        axes.plot(frames[found], values[found], '.', color=ESTIMATE, ms=4)
        axes.plot(frames[~found], np.zeros((~found).sum()), 'x', color=LOST, ms=4)
        axes.set(ylabel=label, ylim=(0, None))
        axes.grid(color=GRID)
    rows[-1].set(xlabel='frame (red: not located)')
    save(figure, path)
