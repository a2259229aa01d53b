"""What every evaluation writes: ``metrics.json`` and a printed table."""

import json
import math
from pathlib import Path

import numpy as np

from mt_perception.writing import whole_file


def write_json(path, values):
    """
    Write a JSON file; beside it first, then renamed.

    Arrays become lists; numbers that JSON does not have (NaN, infinity) become null.

    :param path: file.
    :param values: nested dicts and lists.
    """
    text = json.dumps(plain(values), indent=2, ensure_ascii=False) + '\n'
    with whole_file(path) as beside:
        beside.write_text(text, encoding='utf-8')


def plain(value):
    """Return a value as what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def print_table(rows, header):
    """
    Print rows of texts in columns; the first is left-aligned, the others right-aligned.

    :param rows: list of tuples.
    :param header: tuple of the same length.
    """
    table = [tuple(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for number, row in enumerate(table):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        print('  '.join(cells).rstrip())
        if number == 0:
            print('  '.join('-' * width for width in widths))
