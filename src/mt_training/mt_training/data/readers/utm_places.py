"""
Places with positions: Pittsburgh 250k and 30k, Tokyo 24/7 (Torii et al.; Arandjelović et al., CVPR 2016).

Two layouts are read:

* that of NetVLAD: a MATLAB structure ``dbStruct`` in ``datasets/pitts250k_test.mat`` (or beside the images)
  names images and positions; Pittsburgh's references are ``000/000000_pitch1_yaw1.jpg`` … below the root (or
  ``images/``), its queries below ``queries_real/`` (or ``queries/``); Tokyo's references below the root,
  ``images/`` or ``database_gsv_vga/`` (png), its queries in ``247query_subset_v2/`` (or ``query/``);
* that of VPR-datasets-downloader: ``images/SPLIT/database`` and ``images/SPLIT/queries`` (or
  ``SPLIT/database``), the position in the file name: ``@EAST@NORTH@…@.jpg``.

A reference shows the place of a query when it is within 25 m of it.
"""

from pathlib import Path

import numpy as np

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import IMAGE_SUFFIXES
from mt_training.data.readers.layout import images_by_key, open_root
from mt_training.data.readers.nyuv2 import read_mat
from mt_training.data.readers.places import Places, _select

POSITIVE_M = 25.0  # metres
PITTSBURGH_EXPECTED = (
    'datasets/pitts250k_SPLIT.mat (or pitts30k_SPLIT.mat) with 000/ … and queries_real/, or '
    'images/SPLIT/database '
    'and images/SPLIT/queries with @EAST@NORTH@….jpg'
)
TOKYO_EXPECTED = (
    'tokyo247.mat (or datasets/tokyo247.mat) with the references and 247query_subset_v2/, or '
    'images/test/database '
    'and images/test/queries with @EAST@NORTH@….jpg'
)
STRUCT_FIELDS = ('dbImageFns', 'utmDb', 'qImageFns', 'utmQ')


def read_pittsburgh(root, split='test', size='250k', radius=POSITIVE_M, selection=slice(None)):
    """
    Read Pittsburgh.

    :param split: 'train', 'val' or 'test'.
    :param size: '250k' or '30k'.
    :param radius: metres within which a reference shows the place of a query.
    :param selection: slice of queries and references alike, in the order of the set.
    :return: :class:`Places` with positions.
    :raises EvaluationError: neither layout, or files are missing.
    """
    root = open_root(root, 'Pittsburgh', PITTSBURGH_EXPECTED)
    if split not in ('train', 'val', 'test') or str(size) not in ('250k', '30k'):
        raise EvaluationError(
            f"Pittsburgh has no split '{split}' of size '{size}'; it has train, val, test of 250k and 30k"
        )
    name = f'pitts{size}_{split}.mat'
    structure = _first_file(root, [f'datasets/{name}', name])
    if structure is None:
        return _named_positions(root, split, radius, selection, 'Pittsburgh', PITTSBURGH_EXPECTED)
    return _from_structure(
        root, structure, ('', 'images'), ('queries_real', 'queries', 'queries_real/queries_real'), radius,
        selection,
    )  # fmt: skip


def read_tokyo247(root, split='test', radius=POSITIVE_M, selection=slice(None)):
    """
    Read Tokyo 24/7; arguments as :func:`read_pittsburgh`.

    :param split: 'test'; or 'train', 'val' of Tokyo Time Machine's structures (tokyoTM_train.mat) where
        there.
    """
    root = open_root(root, 'Tokyo 24/7', TOKYO_EXPECTED)
    if split not in ('train', 'val', 'test'):
        raise EvaluationError(f"Tokyo 24/7 has no split '{split}'; it has test, and train, val of tokyoTM")
    name = 'tokyo247.mat' if split == 'test' else f'tokyoTM_{split}.mat'
    structure = _first_file(root, [f'datasets/{name}', name])
    if structure is None:
        return _named_positions(root, split, radius, selection, 'Tokyo 24/7', TOKYO_EXPECTED)
    references = ('', 'images', 'database_gsv_vga', 'tokyo247/database_gsv_vga', 'tokyoTM/images')
    queries = ('247query_subset_v2', 'query', 'queries', 'query/247query_subset_v2', '')
    return _from_structure(root, structure, references, queries, radius, selection)


def positives_within(queries, references, radius):
    """
    References near each query.

    :param queries: [Q,2] metres.
    :param references: [R,2] metres.
    :return: list of Q sorted int64 arrays of indices.
    """
    from scipy.spatial import cKDTree

    found = cKDTree(references).query_ball_point(queries, radius)
    return [np.array(sorted(indices), np.int64) for indices in found]


def _first_file(root, candidates):
    return next((root / c for c in candidates if (root / c).is_file()), None)


def _from_structure(root, path, reference_folders, query_folders, radius, selection):
    content = read_mat(path)
    if 'dbStruct' not in content:
        raise EvaluationError(
            f"'{path}' has no variable dbStruct: it is no ground truth of NetVLAD's data sets"
        )
    structure = content['dbStruct'].ravel()[0]
    missing = [field for field in STRUCT_FIELDS if field not in (structure.dtype.names or ())]
    if missing:
        raise EvaluationError(f"dbStruct of '{path}' has no field {', '.join(missing)}")
    names = [[str(np.ravel(cell)[0]) for cell in np.ravel(structure[f])] for f in ('dbImageFns', 'qImageFns')]
    positions = [np.asarray(structure[f], np.float64).T for f in ('utmDb', 'utmQ')]
    for images, position in zip(names, positions):
        if position.shape != (len(images), 2) or not len(images):
            raise EvaluationError(
                f"dbStruct of '{path}' has {len(images)} images but positions of shape {position.T.shape}"
            )
    references = _place_files(root, names[0], reference_folders, path)
    queries = _place_files(root, names[1], query_folders, path)
    return _places(queries, references, positions[1], positions[0], radius, selection, f'UTM of {path.name}')


def _place_files(root, names, folders, structure):
    """Turn names of the structure into paths; the first one tells which folder and suffix are used."""
    first = Path(names[0])
    for folder in folders:
        for suffix in dict.fromkeys((first.suffix, *IMAGE_SUFFIXES)):
            if (root / folder / first.with_suffix(suffix)).is_file():
                base = root / folder
                return [
                    base / (name if suffix == first.suffix else Path(name).with_suffix(suffix))
                    for name in names
                ]
    where = ', '.join(f"'{root / f}'" for f in folders)
    raise EvaluationError(f"'{structure.name}' names the image '{names[0]}', which is in none of {where}")


def _named_positions(root, split, radius, selection, what, expected):
    base = next((b for b in (root / 'images' / split, root / split) if (b / 'database').is_dir()), None)
    if base is None or not (base / 'queries').is_dir():
        raise EvaluationError(f"{what} folder '{root}' has no split '{split}'; expected there: {expected}")
    files = [list(images_by_key(base / name).values()) for name in ('queries', 'database')]
    for paths, name in zip(files, ('queries', 'database')):
        if not paths:
            raise EvaluationError(f"'{base / name}' holds no image; expected there: {expected}")
    positions = [np.array([position_of(path) for path in paths]) for paths in files]
    return _places(*files, *positions, radius, selection, 'UTM of the file names')


def position_of(path):
    """Return (east, north) in metres of a file name ``@EAST@NORTH@…``."""
    parts = Path(path).name.split('@')
    try:
        return float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        raise EvaluationError(f"the name of '{path}' has no position @EAST@NORTH@…") from None


def _places(queries, references, query_positions, reference_positions, radius, selection, source):
    positives = positives_within(query_positions, reference_positions, radius)
    truth = f'within {radius:g} m, {source}'
    places = Places(queries, references, positives, truth, query_positions, reference_positions)
    return places if selection == slice(None) else _select(places, selection)
