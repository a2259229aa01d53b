"""Finding the folders and files of a data set, with one sentence about what was expected where they lack."""

import os
from pathlib import Path

from mt_perception.errors import EvaluationError
from mt_training.data.readers.images import IMAGE_SUFFIXES, existing_folder


def open_root(root, what, expected):
    """
    Return the root folder of a data set.

    :param what: name of the set: 'Cityscapes'.
    :param expected: what belongs there, one phrase.
    :raises EvaluationError: no such folder.
    """
    try:
        return existing_folder(root, f'{what} folder')
    except EvaluationError as error:
        raise EvaluationError(f'{error}; expected there: {expected}') from None


def find_folder(root, candidates, what, expected):
    """
    Return the first of ``candidates`` that is a folder below ``root``.

    :param candidates: relative names; more than one where layouts differ.
    :raises EvaluationError: none; the sentence names the candidates and what was expected.
    """
    for name in candidates:
        if (Path(root) / name).is_dir():
            return Path(root) / name
    raise EvaluationError(
        f"{what} folder '{root}' has no folder {' or '.join(str(c) for c in candidates)}; "
        f'expected there: {expected}'
    )


def find_file(root, candidates, what, expected):
    """Return the first of ``candidates`` that is a file below ``root``; EvaluationError when none is."""
    for name in candidates:
        if (Path(root) / name).is_file():
            return Path(root) / name
    raise EvaluationError(
        f"{what} folder '{root}' has no file {' or '.join(str(c) for c in candidates)}; "
        f'expected there: {expected}'
    )


def split_folders(root, candidates):
    """List the folders at ``candidates`` (patterns) as text for an error: which splits there are."""
    found = sorted({p.name for pattern in candidates for p in Path(root).glob(pattern) if p.is_dir()})
    return f'; it has {", ".join(found)}' if found else ''


def files_by_key(folder, suffix, recursive=True):
    """
    Index the files of a folder by what comes before ``suffix``.

    :param suffix: end of the file names, or a tuple of such ends.
    :param recursive: the key then holds the folders below ``folder`` too, joined by '/'.
    :return: {key: path}, in the order of the keys.
    """
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    found = {}
    for base, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        relative = os.path.relpath(base, folder)
        for name in names:
            end = next((s for s in suffixes if name.endswith(s)), None)
            if end is None or name.startswith('.'):
                continue
            stem = name[: -len(end)]
            key = stem if relative == '.' else f'{relative}/{stem}'.replace(os.sep, '/')
            found[key] = Path(base) / name
        if not recursive:
            break
    return dict(sorted(found.items()))


def images_by_key(folder, recursive=True):
    """Index the images of a folder by their name without suffix; see :func:`files_by_key`."""
    suffixes = tuple(s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper()))
    return files_by_key(folder, suffixes, recursive)


def check_pairs(images, others, what, folder, expected):
    """
    Raise an EvaluationError unless every image has its label.

    :param images: {key: path}.
    :param others: {key: path} of the labels.
    """
    if not images:
        raise EvaluationError(f"'{folder}' holds no images of {what}; expected there: {expected}")
    missing = [key for key in images if key not in others]
    if missing:
        raise EvaluationError(
            f"'{images[missing[0]]}' has no label: {len(missing)} of the {len(images)} images of {what} "
            f'have none; expected: {expected}'
        )


def labels_of(images, folder, what, where, expected):
    """
    Return {key: path} of the png in ``folder``; an EvaluationError unless every image has one.

    :param images: {key: path}.
    :param where: folder of the images.
    """
    labels = files_by_key(folder, '.png')
    check_pairs(images, labels, what, where, expected)
    return labels


def choose_split(split, known, what):
    """Return ``known[split]``; EvaluationError that lists the splits when it is none of them."""
    if split not in known:
        raise EvaluationError(f"{what} has no split '{split}'; it has {', '.join(known)}")
    return known[split]
