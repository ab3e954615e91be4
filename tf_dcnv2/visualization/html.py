"""Self-contained HTML pages: one file with its style and pictures, no script, nothing from the network."""

import base64
import html
import io
import os
from collections.abc import Iterable, Sequence

import numpy as np

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bar: #3b82c4; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, th.text, td.text { text-align: left; }
td.text { overflow-wrap: anywhere; }
thead th { border-bottom-width: 2px; }
.bar { display: inline-block; height: .7em; background: var(--bar); border-radius: 2px; }
.bars td:last-child { width: 22rem; text-align: left; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .8rem; }
.pictures figure { align-self: start; }
.large.pictures { display: block; columns: 30rem 2; column-gap: .8rem; }
.large figure { break-inside: avoid; margin-bottom: .8rem; }
figure { margin: 0; background: var(--soft); border-radius: 6px; padding: .5rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; padding-top: .3rem; }
.drawing { background: #fff; border-radius: 6px; } .drawing svg { max-width: 100%; height: auto; display: block; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
details summary { cursor: pointer; } code { background: var(--soft); padding: .1rem .3rem; border-radius: 3px; }
"""


def page(title: str, *parts: str, generator: str) -> str:
    """A whole page of parts that the other functions make.

    Args:
        title: of the page.
        *parts: its content.
        generator: what made it; `is_page_of` tells it from other files.
    """
    head = f'<meta charset="utf-8">{_generator(generator)}<title>{html.escape(title)}</title><style>{_STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}{viewport}</head><body>\n{body}\n</body></html>\n'


def is_page_of(path: str | os.PathLike, generator: str) -> bool:
    """Whether a file is a page that `page` made for this generator."""
    try:
        with open(path, "rb") as file:
            return _generator(generator).encode() in file.read(1024)
    except OSError:
        return False


def heading(text: str) -> str:
    """The title of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph; what stands between backquotes is code."""
    pieces = html.escape(text).split("`")
    return f"<p>{''.join(f'<code>{piece}</code>' if i % 2 else piece for i, piece in enumerate(pieces))}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: Iterable[int] = ()) -> str:
    """A table; the first column and `text_columns` are aligned to the left, all others to the right.

    Args:
        columns: their titles.
        rows: one cell for each column, shown by `str`.
        text_columns: indices of more columns of text.
    """
    kinds = ['<{0} class="text">' if index in set(text_columns) else "<{0}>" for index in range(len(columns))]

    def line(cells: Sequence[object], tag: str) -> str:
        return "".join(
            f"{kind.format(tag)}{html.escape(str(cell))}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(columns, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def bars(columns: tuple[str, str], values: Sequence[tuple[str, float]], form: str = "{:g}") -> str:
    """A table of names, values and bars as long as the values.

    Args:
        columns: titles of the names and of the values.
        values: (name, value), values at least 0.
        form: how values are written.
    """
    largest = max((value for _, value in values), default=0) or 1
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{form.format(value)}</td>"
        f'<td><span class="bar" style="width:{100 * value / largest:.1f}%"></span></td></tr>'
        for name, value in values
    )
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in (*columns, ""))
    return f'<table class="bars"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>'


def reduced(picture: np.ndarray, longest_side: int) -> np.ndarray:
    """A picture with no more pixels on its longer side than it is worth on a page."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def pictures(items: Iterable[tuple[np.ndarray, str]], *, large: bool = False) -> str:
    """A grid of pictures `(H, W, 3)` uint8, each with its caption.

    Args:
        items: pictures and captions.
        large: two beside each other at most, for pictures with text in them.
    """
    figures = [
        f'<figure><img src="{_data_url(pixels)}" alt=""><figcaption>{html.escape(caption)}</figcaption></figure>'
        for pixels, caption in items
    ]
    kind = "large pictures" if large else "pictures"
    return f'<div class="{kind}">{"".join(figures)}</div>'


def drawing(svg: str) -> str:
    """An `<svg>` element, on white and as wide as the page at most."""
    return f'<div class="drawing">{svg}</div>'


def preformatted(text: str) -> str:
    """Text as it is, line by line."""
    return f"<pre>{html.escape(text)}</pre>"


def folded(summary: str, *parts: str) -> str:
    """Parts that are shown when the reader opens them."""
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def _generator(name: str) -> str:
    return f'<meta name="generator" content="{html.escape(name)}">'


def _data_url(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
