"""Pictures of ``evaluate odometry``."""

import numpy as np
from matplotlib.figure import Figure

from mt_perception.evaluation import trajectory
from mt_perception.odometry import OdometryState
from mt_perception.writing import whole_file

TRUTH, ESTIMATE, LOST, KEYFRAME, SCALE = '#15a06a', '#2563eb', '#dc2626', '#94a3b8', '#b45309'
GRID = '#e2e8f0'
AXES = 'xyz'
LONGEST_STEP = 2.5  # median steps between two frames; over longer ones lines are broken
SCALE_WINDOW = 20  # frames over which motions are compared
OVERVIEW_COLUMNS = 4


def save(figure, path):
    """Write a figure as PNG; beside the file first, then renamed."""
    with whole_file(path) as beside:
        figure.savefig(beside, format='png', dpi=130)


def widest_axes(points):
    """Return the two axes in which points [N,3] extend most (the ground plane, for a vehicle), in order."""
    return sorted(np.argsort(np.ptp(points, axis=0))[-2:]) if len(points) else (0, 2)


def broken(stamps, values):
    """
    Return values [N] or [N,k] with NaN put in where frames are missing, and their stamps.

    A line through them does not hide that there was no pose.
    """
    stamps, values = np.asarray(stamps, np.float64), np.asarray(values, np.float64)
    step = np.diff(stamps)
    gaps = np.flatnonzero(step > LONGEST_STEP * np.median(step)) + 1 if len(step) else []
    return np.insert(stamps, gaps, np.nan), np.insert(values, gaps, np.nan, axis=0)


def plot_trajectory(metrics, outcome, scored, path):
    """
    Draw the path from above, along the two axes in which it is longest, and the places of the keyframes.

    :param metrics: of ``evaluate odometry``.
    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param scored: :class:`mt_perception.evaluation.odometry.Scored` or None without ground truth.
    :param path: PNG file.
    """
    figure = Figure(figsize=(7, 6), layout='constrained')
    axes = figure.subplots()
    if scored is not None:
        truth, estimate, stamps = scored.truth[:, :3, 3], scored.aligned[:, :3, 3], scored.stamps
    else:
        truth, estimate = None, outcome.poses[outcome.tracked][:, :3, 3]
        stamps = outcome.stamps[outcome.tracked]
    if len(estimate):
        across, ahead = widest_axes(estimate if truth is None else truth)
        if truth is not None:
            axes.plot(truth[:, across], truth[:, ahead], color=TRUTH, lw=3, alpha=0.55, label='ground truth')
        _, line = broken(stamps, estimate)
        axes.plot(line[:, across], line[:, ahead], color=ESTIMATE, lw=1.4, label=metrics['features'])
        keyframe = np.isin(stamps, [result.stamp for result in outcome.results if result.is_keyframe])
        places = estimate[keyframe]
        axes.plot(places[:, across], places[:, ahead], '.', color=KEYFRAME, ms=5, label='keyframes')
        axes.plot(*estimate[0, [across, ahead]], 'o', color=ESTIMATE, label='start')
        unit = 'm' if truth is not None or metrics['metric'] else 'map units'
        axes.set(xlabel=f'{AXES[across]} in {unit}', ylabel=f'{AXES[ahead]} in {unit}')
        axes.legend()
    axes.set_aspect('equal', adjustable='datalim')
    axes.grid(color=GRID)
    error = metrics['ate_rmse_sim3_m']
    axes.set_title(
        f'{metrics["sequence"]}' + ('' if error is None else f'\nATE {error:.3f} m after Sim(3) alignment'),
        fontsize='medium',
    )
    save(figure, path)


def plot_errors(outcome, scored, path, scale_ratio=None):
    """
    Draw errors and the scale, where there is ground truth, inliers, keyframes and states over time.

    :param outcome: :class:`mt_perception.evaluation.odometry.Run`.
    :param scored: :class:`mt_perception.evaluation.odometry.Scored` or None.
    :param path: PNG file.
    :param scale_ratio: size of the estimated path over that of the true one.
    """
    rows = 4 if scored is not None else 1
    figure = Figure(figsize=(9, 2 + 2 * rows), layout='constrained')
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    results = outcome.results
    start = results[0].stamp if results else 0.0
    if scored is not None:
        _error_rows(axes, scored, scored.stamps - start, scale_ratio)
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
        one.grid(color=GRID)
    save(figure, path)


def _error_rows(axes, scored, time, scale_ratio):
    """Fill the rows that need ground truth."""
    axes[0].plot(*broken(time, trajectory.position_errors(scored.truth, scored.aligned)), color=ESTIMATE)
    axes[0].set(ylabel='position error in m', ylim=(0, None))
    turned = np.swapaxes(scored.truth[:, :3, :3], 1, 2) @ scored.aligned[:, :3, :3]
    axes[1].plot(*broken(time, np.degrees(trajectory.rotation_angles(turned))), color=ESTIMATE)
    axes[1].set(ylabel='attitude error in °', ylim=(0, None))
    factor = scale_ratio or 1.0
    scale = factor * trajectory.local_scale(scored.truth, scored.aligned, SCALE_WINDOW)
    axes[2].plot(*broken(time, scale), color=SCALE)
    axes[2].axhline(factor, color=KEYFRAME, lw=1, ls='--')
    known = scale[np.isfinite(scale)]
    if len(known):
        low, high = np.quantile(known, (0.02, 0.98))
        axes[2].set_ylim(min(low, factor) * 0.9, max(high, factor) * 1.1)
    axes[2].set(ylabel=f'scale over {SCALE_WINDOW} frames')


def plot_segments(scored, path):
    """
    Draw t_rel and r_rel of the sub-paths: by length, as KITTI's devkit does, and by where they start.

    Where the path is too short for the lengths asked for, eighths of it are drawn instead.

    :param scored: :class:`mt_perception.evaluation.odometry.Scored`.
    :param path: PNG file.
    """
    segments = trajectory.kitti_segments(scored.truth, scored.aligned, scored.lengths)
    if len(segments) == 0:
        lengths = trajectory.short_lengths(trajectory.path_length(scored.truth))
        segments = trajectory.kitti_segments(scored.truth, scored.aligned, lengths)
    figure = Figure(figsize=(10, 6), layout='constrained')
    axes = figure.subplots(2, 2, sharex='col', sharey='row')
    distance = trajectory.travelled(scored.truth)
    both = (
        (100 * segments.translation, 't_rel in %'),
        (100 * np.degrees(segments.rotation), 'r_rel in °/100 m'),
    )
    for (left, right), (values, label) in zip(axes, both):
        lengths = np.unique(segments.length)
        means = [values[segments.length == length].mean() for length in lengths]
        left.plot(lengths, means, 'o-', color=ESTIMATE)
        for number, length in enumerate(lengths):
            one = segments.length == length
            right.plot(
                distance[segments.first[one]],
                values[one],
                color=ESTIMATE,
                alpha=0.25 + 0.75 * (number + 1) / len(lengths),
                lw=1.2,
                marker='.',
                ms=4,
                label=f'{length:g} m',
            )
        left.set(ylabel=label, ylim=(0, None))
        left.grid(color=GRID)
        right.grid(color=GRID)
    axes[1, 0].set(xlabel='length of the sub-path in m')
    axes[1, 1].set(xlabel='start of the sub-path in m along the way')
    if len(segments):
        axes[0, 1].legend(fontsize='small')
    save(figure, path)


def plot_overview(folder, results, path, run=''):
    """
    Draw the paths of several sequences from above, one beside the other.

    :param folder: holds a folder for each sequence.
    :param results: {name: metrics, or {'error': sentence}}.
    :param path: PNG file.
    :param run: folder inside each sequence's with its files.
    """
    columns = min(OVERVIEW_COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.2 * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(results) :]:
        axes.set_axis_off()
    for axes, (name, one) in zip(grid, results.items()):
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        if 'error' in one:
            axes.set_axis_off()
            axes.text(0.5, 0.5, 'failed', ha='center', color=LOST, transform=axes.transAxes)
            continue
        truth, estimate = _paths(folder / name / run, one)
        across, ahead = widest_axes(estimate if truth is None else truth)
        if truth is not None:
            axes.plot(truth[:, across], truth[:, ahead], color=TRUTH, lw=2.4, alpha=0.55)
        axes.plot(estimate[:, across], estimate[:, ahead], color=ESTIMATE, lw=1)
        axes.set_aspect('equal', adjustable='datalim')
        axes.grid(color=GRID)
    save(figure, path)


def _paths(folder, metrics):
    """Read back the true path [N,3], or None, and the estimated one [M,3], aligned where that goes."""
    from mt_perception.sequences.trajectory_io import read_tum

    stamps, poses = [], np.zeros((0, 4, 4))
    if metrics['frames_tracked']:
        stamps, poses = read_tum(folder / 'trajectory.txt')
        poses = np.array(poses)
    if not (folder / 'ground_truth.txt').is_file():
        return None, poses[:, :3, 3]
    truth_stamps, truth = read_tum(folder / 'ground_truth.txt')
    truth = np.array(truth)[:, :3, 3]
    if metrics['ate_rmse_sim3_m'] is not None:
        pairs = trajectory.associate(stamps, truth_stamps)
        motion = trajectory.umeyama(poses[pairs[:, 0], :3, 3], truth[pairs[:, 1]], with_scale=True)
        poses = trajectory.transform(poses, *motion)
    return truth, poses[:, :3, 3]
