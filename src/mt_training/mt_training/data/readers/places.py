"""
Data sets of visual place recognition: images of queries and of references, and which show the same place.

* corridor (QUT, Milford 2013) and pairs: ``query/``, ``ref/`` and ``ground_truth.csv`` with one line per
  query: its index and the indices of its valid references, in name order from 0 (``5,4 5 6``);
* pairs without that file: the same file name is the same place, ± a tolerance of places in name order;
* nordland (Sünderhauf et al., 2013): folders of seasons with equal names.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import existing_folder, image_files

GROUND_TRUTH = 'ground_truth.csv'
NORDLAND_QUERY, NORDLAND_REFERENCE = 'winter', 'summer'
DEFAULT_TOLERANCE = 2


@dataclass
class Places:
    """
    Two sets of images and the truth about them.

    :param queries: paths in name order.
    :param references: paths in name order.
    :param positives: of every query [n] int64 indices of the references that show its place; may be empty.
    :param truth: one sentence that says where ``positives`` come from.
    :param query_positions: [Q,2] float64 metres (UTM east, north), or None where positions are not known.
    :param reference_positions: [R,2] float64 metres, or None.
    """

    queries: list
    references: list
    positives: list
    truth: str
    query_positions: np.ndarray | None = None
    reference_positions: np.ndarray | None = None


def read_pairs(root, tolerance=None, selection=slice(None)):
    """
    Read ``query/`` and ``ref/`` below ``root``.

    :param tolerance: places before and after in name order that count too; None = ``DEFAULT_TOLERANCE``. Not
        used where there is a ground truth file.
    :param selection: slice of the places, in name order, of queries and references alike.
    :return: :class:`Places`.
    :raises EvaluationError: missing folders, no common place, unreadable ground truth.
    """
    root = existing_folder(root, 'folder of place pairs')
    for name in ('query', 'ref'):
        if not (root / name).is_dir():
            raise EvaluationError(
                f"folder of place pairs '{root}' has no '{name}'; expected there: query/ and ref/ with "
                'images, '
                f'{GROUND_TRUTH} where equal names do not mean equal places'
            )
    queries, references = image_files(root / 'query'), image_files(root / 'ref')
    truth_file = root / GROUND_TRUTH
    if not truth_file.is_file():
        return match_names(
            queries, references, DEFAULT_TOLERANCE if tolerance is None else tolerance, selection
        )
    positives = read_ground_truth(truth_file, len(queries), len(references))
    return _select(Places(queries, references, positives, f'valid references of {GROUND_TRUTH}'), selection)


def read_corridor(root, tolerance=None, selection=slice(None)):
    """Read the corridor: :func:`read_pairs` with a ground truth file that has to be there."""
    root = existing_folder(root, 'corridor folder')
    if not (root / GROUND_TRUTH).is_file():
        raise EvaluationError(f"'{root}' has no {GROUND_TRUTH}; for pairs by file name use --dataset pairs")
    return read_pairs(root, tolerance, selection)


def read_nordland(
    root, tolerance=None, selection=slice(None), query=NORDLAND_QUERY, reference=NORDLAND_REFERENCE
):
    """
    Read two seasons of Nordland; arguments as :func:`read_pairs`.

    :param query: name of the folder of the queries.
    :param reference: name of the folder of the references.
    """
    root = existing_folder(root, 'Nordland folder')
    for season in (query, reference):
        if not (root / season).is_dir():
            have = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise EvaluationError(
                f"Nordland folder '{root}' has no season '{season}'; it has {', '.join(have) or 'none'}"
            )
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    return match_names(image_files(root / query), image_files(root / reference), tolerance, selection)


def match_names(queries, references, tolerance, selection=slice(None)):
    """
    Take equal file names (without suffix) for equal places.

    :param tolerance: neighbours in name order, counted among the selected references, that count too.
    :raises EvaluationError: no name in common.
    """
    queries, references = queries[selection], references[selection]
    place = {path.stem: index for index, path in enumerate(references)}
    positives = []
    for path in queries:
        index = place.get(path.stem)
        low, high = (0, 0) if index is None else (max(index - tolerance, 0), index + tolerance + 1)
        positives.append(np.arange(low, min(high, len(references)), dtype=np.int64))
    if not any(len(p) for p in positives):
        raise EvaluationError(
            'no query has the file name of a reference' if queries else 'no query is selected'
        )
    return Places(queries, references, positives, f'same file name ± {tolerance} places in name order')


def read_ground_truth(path, n_queries, n_references):
    """
    Read ``ground_truth.csv``; a first line without numbers is a header.

    :return: list of n_queries arrays of reference indices; empty for a query without a line.
    :raises EvaluationError: a line that is not understood, or an index without image.
    """
    positives = [np.zeros(0, np.int64) for _ in range(n_queries)]
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        values = line.replace(',', ' ').split()
        if not values or line.startswith('#'):
            continue
        try:
            query, *true = [int(v) for v in values]
        except ValueError:
            if number == 1:
                continue
            raise EvaluationError(
                f"'{path}' line {number} is not 'query,reference reference …': {line[:60]}"
            ) from None
        if not 0 <= query < n_queries or any(not 0 <= t < n_references for t in true):
            raise EvaluationError(
                f"'{path}' line {number} names an image that is not there: {line[:60]} "
                f'(there are {n_queries} queries and {n_references} references, counted from 0)'
            )
        positives[query] = np.unique(np.concatenate([positives[query], np.array(true, np.int64)]))
    if not any(len(p) for p in positives):
        raise EvaluationError(f"'{path}' names no valid reference of any query")
    return positives


def _select(places, selection):
    """Keep the selected queries and references; valid references that are not selected are dropped."""
    kept = np.arange(len(places.references))[selection]
    renumber = {old: new for new, old in enumerate(kept.tolist())}
    positives = [
        np.array([renumber[t] for t in p.tolist() if t in renumber], np.int64)
        for p in places.positives[selection]
    ]
    if not positives:
        raise EvaluationError('no query is selected')
    positions = [
        None if p is None else p[part]
        for p, part in ((places.query_positions, selection), (places.reference_positions, kept))
    ]
    return Places(
        places.queries[selection], [places.references[i] for i in kept], positives, places.truth, *positions
    )
