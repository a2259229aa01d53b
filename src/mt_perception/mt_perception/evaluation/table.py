"""The table over several sequences, for the terminal and in Markdown."""

COLUMNS = (
    ('ATE Sim(3) m', 'ate_rmse_sim3_m', 3),
    ('ATE SE(3) m', 'ate_rmse_m', 3),
    ('scale', 'scale_ratio', 3),
    ('t_rel %', 't_rel_percent', 2),
    ('r_rel °/100 m', 'r_rel_deg_per_100m', 2),
    ('standing drift m', 'standing_drift_m', 4),
    ('keyframes', 'keyframes', 0),
    ('maps', 'map_segments', 0),
    ('lost', 'frames_lost', 0),
    ('frames/s', 'fps', 1),
)
HEADER = ('sequence', 'tracked', *(title for title, _, _ in COLUMNS))


def cells(metrics):
    """Return the texts of one sequence's row, without its name; with ``spread`` where runs differ."""
    spread = metrics.get('spread', {})
    tracked = f'{metrics["frames_tracked"]:g} of {metrics["frames"]:g}'
    return [tracked, *(_cell(metrics[key], spread.get(key), digits) for _, key, digits in COLUMNS)]


def _cell(value, spread, digits):
    if value is None:
        return 'n/a'
    text = f'{value:.{digits}f}'
    if spread is None:
        return text
    low, high = (f'{v:.{digits}f}' for v in spread)
    return text if low == high else f'{text} ({low}–{high})'


def plain_table(results):
    """
    Return the table for a terminal.

    :param results: {name of a sequence: its metrics, or {'error': sentence}}.
    """
    rows = {name: [one['error']] if 'error' in one else cells(one) for name, one in results.items()}
    whole = [list(HEADER), *([name, *row] for name, row in rows.items() if len(row) > 1)]
    widths = [max(len(row[i]) for row in whole) for i in range(len(HEADER))]
    widths[0] = max(widths[0], *(len(name) for name in rows))
    lines = [_line(HEADER, widths), '  '.join('-' * width for width in widths)]
    lines += [_line([name, *row], widths) for name, row in rows.items()]
    return '\n'.join(lines)


def _line(row, widths):
    if len(row) == 2:  # an error's sentence goes across
        return f'{row[0].ljust(widths[0])}  {row[1]}'
    texts = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
    return '  '.join([row[0].ljust(widths[0]), *texts]).rstrip()


def markdown_table(results):
    """Return the same table in Markdown."""
    lines = [f'| {" | ".join(HEADER)} |', f'|---|{"---:|" * (len(HEADER) - 1)}']
    for name, one in results.items():
        row = [one['error'].replace('|', '\\|')] if 'error' in one else cells(one)
        lines.append(f'| {" | ".join([name, *row])} |' + ' |' * (len(HEADER) - 1 - len(row)))
    return '\n'.join(lines) + '\n'
