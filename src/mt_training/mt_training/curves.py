"""
Draw the course of a training.

``python -m mt_training.curves RUN`` reads RUN/logs/version_*/metrics.csv, the CSV logger's files of all
starts of a run, and writes RUN/curves.png: losses above, what was validated below. ``train`` does so when it
ends.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

from mt_perception.errors import EvaluationError, MtError
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures.figures import new_figure

SKIPPED = ('step', 'epoch')
NAME = 'curves.png'


def read_logs(run):
    """
    Read the figures of a run.

    Where a run was stopped and went on, steps that were done twice count as the later start logged them.

    :param run: folder of a training.
    :return: {figure: {step: value}}, steps in order.
    :raises EvaluationError: there are none.
    """
    folder = Path(run) / 'logs'
    files = sorted(folder.glob('version_*/metrics.csv'), key=lambda p: int(p.parent.name.rpartition('_')[2]))
    curves = {}
    for path in files:
        with open(path, newline='', encoding='utf-8') as file:
            rows = [row for row in csv.DictReader(file) if row.get('step')]
        start = min((int(float(row['step'])) for row in rows), default=0)
        for points in curves.values():
            for step in [step for step in points if step >= start]:
                del points[step]
        for row in rows:
            for key, text in row.items():
                if key not in SKIPPED and text:
                    value = float(text)
                    if math.isfinite(value):
                        curves.setdefault(key, {})[int(float(row['step']))] = value
    curves = {key: dict(sorted(points.items())) for key, points in curves.items() if points}
    if not curves:
        raise EvaluationError(
            f"'{folder}' holds no figures: version_N/metrics.csv of the CSV logger is missing or empty"
        )
    return curves


def draw(curves, title=''):
    """
    Draw curves.

    :param curves: of :func:`read_logs`.
    :return: figure: the whole loss and the losses of the tasks (logarithmic where all are positive), the
        figures of single sets, and what was validated, as far as there are any.
    """
    panels = {
        'losses': [k for k in curves if '/' not in k or k.startswith('distill/')],
        'sets': [k for k in curves if '/' in k and not k.startswith(('val/', 'distill/'))],
        'validation': [k for k in curves if k.startswith('val/')],
    }
    panels = {name: keys for name, keys in panels.items() if keys}
    figure = new_figure(10, 3.6 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, keys) in zip(axes, panels.items()):
        for key in sorted(keys, key=lambda k: k != 'loss'):
            points = curves[key]
            style = {'color': 'k', 'linewidth': 2} if key == 'loss' else {'linewidth': 1}
            marker = '.' if len(points) < 50 else None
            axis.plot(list(points), list(points.values()), label=key, marker=marker, **style)
        if name != 'validation' and all(v > 0 for k in keys for v in curves[k].values()):
            axis.set_yscale('log')
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncol=max(1, math.ceil(len(keys) / 12)), loc='upper right')
    axes[-1].set_xlabel('step')
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def write(run):
    """Write RUN/curves.png; return its path. Errors as of :func:`read_logs`."""
    return OutputFolder(run).write_figure(NAME, draw(read_logs(run), Path(run).name))


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    parser = argparse.ArgumentParser(prog='curves', description='Draw the course of a training.')
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a training')
    args = parser.parse_args(argv)
    try:
        for run in args.runs:
            print(f'wrote {write(run)}')
    except MtError as error:
        print(f'curves: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
