"""Small pieces of HTML."""

import base64
from html import escape


def image(data, alt, extra=''):
    """Return an ``<img>`` with the picture inside; ``data`` is the bytes of a PNG or JPEG file."""
    kind = 'png' if data[:4] == b'\x89PNG' else 'jpeg'
    source = f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
    return f'<img src="{source}" alt="{escape(alt, quote=True)}" {extra}>'


def figure(data, caption, alt=None):
    """Return a ``<figure>``; ``caption`` is plain text."""
    text = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return f'<figure>{image(data, alt or caption)}{text}</figure>'


def section(key, title, lead, body):
    """Return a ``<section>``; ``title`` and ``lead`` are plain text, ``body`` is HTML."""
    return f'<section id="{key}"><h2>{escape(title)}</h2><p>{escape(lead)}</p>{body}</section>'


def tile(value, text):
    """Return one big number with its meaning."""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def note(text):
    """Return a highlighted sentence."""
    return f'<p class="note">{escape(text)}</p>'


def table(rows, header=None, numbers=False):
    """
    Return a ``<table>``.

    :param rows: lists of plain texts.
    :param header: list of plain texts, or None.
    :param numbers: all columns but the first are right-aligned.
    """
    kind = ' class="n"' if numbers else ''

    def line(cells, tag):
        first, *rest = (escape(str(cell)) for cell in cells)
        return (
            f'<tr><{tag}>{first}</{tag}>' + ''.join(f'<{tag}{kind}>{cell}</{tag}>' for cell in rest) + '</tr>'
        )

    head = line(header, 'th') if header else ''
    return f'<div class="scroll"><table>{head}{"".join(line(row, "td") for row in rows)}</table></div>'
