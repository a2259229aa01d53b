"""Pictures of place recognition: similarities with truth and answers, examples, recall curves."""

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mt_training.data.readers.images import read_rgb
from mt_training.evaluation.pictures.figures import image_grid, new_figure
from mt_training.metrics.retrieval import rank_references, recall_at

RIGHT, WRONG = '#27d045', '#ff3b30'
MOST_N = 20


def similarity(values, positives):
    """
    Draw the similarity matrix with the true references and the answers.

    :param values: [Q,R].
    :param positives: list of Q arrays of true reference indices.
    """
    figure = new_figure(8.5, 7.5)
    axis = figure.subplots()
    low, high = np.percentile(values, (1, 99.8))
    shown = axis.imshow(
        values, cmap='gray', vmin=low, vmax=max(high, low + 1e-6), aspect='auto', interpolation='nearest'
    )
    true = [(row.min(), row.max(), q) for q, row in enumerate(positives) if len(row)]
    rows = [t[2] for t in true]
    axis.plot(
        [t[0] for t in true], rows, color='tab:cyan', linewidth=0.8, label='true references: first and last'
    )
    axis.plot([t[1] for t in true], rows, color='tab:cyan', linewidth=0.8)
    answer = values.argmax(1)
    right = np.array([a in row for a, row in zip(answer, positives)], bool)
    queries = np.arange(len(values))
    axis.plot(
        answer[right], queries[right], 'o', color=RIGHT, markersize=3, label=f'right answers: {right.sum()}'
    )
    axis.plot(
        answer[~right],
        queries[~right],
        'x',
        color=WRONG,
        markersize=4,
        label=f'wrong answers: {(~right).sum()}',
    )
    axis.set_xlabel('reference')
    axis.set_ylabel('query')
    axis.set_xlim(-0.5, values.shape[1] - 0.5)
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.legend(loc='lower left', fontsize=8)
    figure.colorbar(shown, label='similarity')
    return figure


def examples(data, values, ranking, number):
    """
    Draw queries with their three most similar references and a true one: half recognised, half not.

    :param data: :class:`mt_training.data.readers.places.Places`.
    :param values: [Q,R] similarities.
    :param ranking: [Q,R] of :func:`mt_training.metrics.retrieval.rank_references`.
    :param number: of either kind at most.
    """
    right = np.array([row[0] in true for row, true in zip(ranking, data.positives)], bool)
    known = np.array([len(true) > 0 for true in data.positives], bool)
    chosen = [*_spread(np.flatnonzero(right), number), *_spread(np.flatnonzero(~right & known), number)]
    figure, axes, _ = image_grid(max(len(chosen), 1), 5, 2.6, 2.0)
    for row, query in zip(axes, chosen):
        row[0].imshow(read_rgb(data.queries[query]))
        row[0].set_title(f'query {query}', fontsize=8)
        for axis, reference in zip(row[1:4], ranking[query][:3]):
            is_true = reference in data.positives[query]
            axis.imshow(read_rgb(data.references[reference]))
            axis.set_title(f'reference {reference}: {values[query, reference]:.3f}', fontsize=8)
            axis.add_patch(
                Rectangle(
                    (0, 0),
                    1,
                    1,
                    transform=axis.transAxes,
                    fill=False,
                    linewidth=5,
                    edgecolor=RIGHT if is_true else WRONG,
                )
            )
        true = data.positives[query]
        best = true[np.argmax(values[query, true])]
        row[4].imshow(read_rgb(data.references[best]))
        row[4].set_title(
            f'true: {best}, rank {1 + int(np.flatnonzero(ranking[query] == best)[0])}', fontsize=8
        )
    return figure


def recall_curves(similarities, positives):
    """
    Draw Recall@N of all features.

    :param similarities: {features: [Q,R]}.
    """
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for name, values in similarities.items():
        numbers = np.arange(1, min(MOST_N, values.shape[1]) + 1)
        axis.plot(numbers, recall_at(rank_references(values), positives, numbers), '.-', label=name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel('N')
    axis.set_ylabel('Recall@N')
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def _spread(indices, number):
    """At most ``number`` of ``indices``, evenly spread."""
    if len(indices) <= number:
        return indices
    return indices[np.linspace(0, len(indices) - 1, number).astype(int)]
