"""Text tables for the terminal."""

import math


def format_table(headers, rows):
    """
    Align columns: text to the left, numbers to the right with three decimals.

    :param headers: list of column names.
    :param rows: list of lists; None and NaN print as '-'.
    :return: text of several lines.
    """
    cells = [[_text(value) for value in row] for row in rows]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(headers))]
    widths = [max(len(headers[i]), *(len(row[i]) for row in cells), 0) for i in range(len(headers))]
    lines = []
    for row in [headers, ['─' * w for w in widths], *cells]:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric)]
        lines.append('  '.join(padded).rstrip())
    return '\n'.join(lines)


def _text(value):
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return '-'
    return f'{value:.3f}' if isinstance(value, float) else str(value)
