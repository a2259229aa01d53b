"""Pictures of ``evaluate odometry``."""

import numpy as np
from matplotlib.figure import Figure

from mt_perception.evaluation.trajectory import position_errors
from mt_perception.odometry import OdometryState
from mt_perception.writing import whole_file

TRUTH, ESTIMATE, LOST, KEYFRAME = '#15a06a', '#2563eb', '#dc2626', '#94a3b8'
AXES = 'xyz'


def save(figure, path):
    """Write a figure as PNG; beside the file first, then renamed."""
    with whole_file(path) as beside:
        figure.savefig(beside, format='png', dpi=130)


def plot_trajectory(metrics, outcome, scored, path):
    """
    Draw the path along the two axes in which it is longest (the ground plane, for a vehicle).

    :param metrics: of ``evaluate odometry``.
    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param scored: (stamps, truth [N,4,4], Sim(3)-aligned estimate [N,4,4]) or None without ground truth.
    :param path: PNG file.
    """
    figure = Figure(figsize=(7, 6), layout='constrained')
    axes = figure.subplots()
    if scored is not None:
        truth, estimate = scored[1][:, :3, 3], scored[2][:, :3, 3]
    else:
        truth, estimate = None, outcome.poses[outcome.tracked][:, :3, 3]
    if len(estimate):
        extent = np.ptp(estimate if truth is None else truth, axis=0)
        across, ahead = sorted(np.argsort(extent)[-2:])
        if truth is not None:
            axes.plot(truth[:, across], truth[:, ahead], color=TRUTH, lw=3, alpha=0.55, label='ground truth')
        axes.plot(estimate[:, across], estimate[:, ahead], color=ESTIMATE, lw=1.4, label=metrics['features'])
        axes.plot(*estimate[0, [across, ahead]], 'o', color=ESTIMATE, label='start')
        unit = 'm' if truth is not None or metrics['metric'] else 'map units'
        axes.set(xlabel=f'{AXES[across]} in {unit}', ylabel=f'{AXES[ahead]} in {unit}')
        axes.legend()
    axes.set_aspect('equal', adjustable='datalim')
    axes.grid(color='#e2e8f0')
    error = metrics['ate_rmse_sim3_m']
    axes.set_title(
        f'{metrics["sequence"]}' + ('' if error is None else f': ATE {error:.3f} m after Sim(3) alignment')
    )
    save(figure, path)


def plot_errors(outcome, scored, path):
    """
    Draw the position error where there is ground truth, the inliers and the states over time.

    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param scored: (stamps, truth [N,4,4], Sim(3)-aligned estimate [N,4,4]) or None.
    :param path: PNG file.
    """
    figure = Figure(figsize=(9, 5 if scored is not None else 3), layout='constrained')
    axes = figure.subplots(2 if scored is not None else 1, 1, sharex=True, squeeze=False)[:, 0]
    results = outcome.results
    start = results[0].stamp if results else 0.0
    if scored is not None:
        axes[0].plot(scored[0] - start, position_errors(scored[1], scored[2]), color=ESTIMATE)
        axes[0].set(ylabel='position error in m', ylim=(0, None))
    time = np.array([result.stamp - start for result in results])
    inliers = np.array([result.n_inliers for result in results])
    axes[-1].plot(time, inliers, color=ESTIMATE, lw=1, label='inliers')
    keyframe = np.array([result.is_keyframe for result in results], bool)
    axes[-1].plot(time[keyframe], np.zeros(keyframe.sum()), '|', color=KEYFRAME, ms=10, label='keyframes')
    lost = np.array([result.state == OdometryState.LOST for result in results], bool)
    if lost.any():
        axes[-1].plot(time[lost], inliers[lost], 'x', color=LOST, label='lost')
    axes[-1].set(xlabel='time in s', ylabel='map points tracked', ylim=(0, None))
    axes[-1].legend()
    for one in axes:
        one.grid(color='#e2e8f0')
    save(figure, path)
