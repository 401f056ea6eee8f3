"""This module writes HTML pages: one file each, which holds its pictures and asks for nothing else.

A page has no script and names no address, and its policy (Content-Security-Policy) forbids a browser to load any. Text
that is given is shown as it is: names of files and classes may hold anything.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from cvjax.storage import AnyPath, write_result

THUMBNAIL = 480
"""Longest side in pixels of a picture on a sheet, which is shown at about half of it."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e22; --paper: #fff; --faint: #5f646b; --line: #d5d8dd; --mark: #f3f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15171a; --faint: #a2a8b0; --line: #363a40; --mark: #202327; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 82rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .25rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .75rem 0; }
a { color: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
th { color: var(--faint); font-weight: 600; }
.number { text-align: right; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1rem;
  align-items: start; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); }
.together { grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); margin-bottom: 1.5rem; }
figure { margin: 0; min-width: 0; }
.sheet figure { background: var(--mark); border-radius: .25rem; overflow: hidden; }
.sheet img { width: 100%; }
img { display: block; max-width: 100%; height: auto; }
figcaption { padding: .4rem .6rem .6rem; font-size: .875rem; }
figcaption b { display: block; }
figcaption span { display: block; color: var(--faint); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; font-size: .875rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border: 1px solid var(--faint); }
"""


@dataclasses.dataclass(frozen=True)
class Card:
    """Holds one picture of a sheet.

    Attributes:
      picture: uint8 [H, W, 3] of any size; the page holds a thumbnail of it.
      title: First line below it, such as the file's name.
      lines: Further lines.
      link: Path of a file relative to the page, which opens where the picture is clicked.
    """

    picture: np.ndarray
    title: str = ""
    lines: tuple[str, ...] = ()
    link: str = ""


class Page:
    """Collects the parts of a page in the order in which they are added, and writes it.

    Args:
      title: Title of the page.
      lead: Sentence below the title.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self._title, self._lead = title, lead
        self._parts: list[str] = []
        self._headings: list[str] = []

    def heading(self, text: str) -> None:
        """Begins a section; pages of several sections get a list of them at the top."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="section-{len(self._headings)}">{escape(text)}</h2>')

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds a table; numbers stand to the right, see `cells`."""
        numeric = [
            bool(rows) and all(row[column] is None or _is_number(row[column]) for row in rows)
            for column in range(len(header))
        ]
        marks = [' class="number"' if number else "" for number in numeric]
        head = "".join(f"<th{mark}>{escape(name)}</th>" for mark, name in zip(marks, header, strict=True))
        columns = [cells([row[column] for row in rows]) for column in range(len(header))]
        body = "".join(
            "<tr>"
            + "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, row, strict=True))
            + "</tr>\n"
            for row in zip(*columns, strict=True)
        )
        self._parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'
        )

    def figure(self, picture: np.ndarray, caption: str = "") -> None:
        """Adds uint8 [H, W, 3] in full, such as a plot, without loss."""
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>{_image(picture, caption, lossless=True)}{below}</figure>")

    def sheet(self, cards: Sequence[Card], *, together: bool = False, wide: bool = False) -> None:
        """Adds thumbnails in as many columns as the window has room for.

        Args:
          cards: Thumbnails in order.
          together: Whether they are a few that belong together. These share a row where they can, at any width.
          wide: Whether they take twice the width, as several pictures side by side do.
        """
        kind = "sheet" + " together" * together + " wide" * wide
        side = 2 * THUMBNAIL if wide else THUMBNAIL
        self._parts.append(f'<div class="{kind}">\n' + "\n".join(_card(card, side) for card in cards) + "\n</div>")

    def links(self, targets: Mapping[str, str]) -> None:
        """Adds links to files beside the page: their words and relative paths."""
        entries = [f'<a href="{_relative(path)}">{escape(words)}</a>' for words, path in targets.items()]
        self._parts.append(f"<nav>{''.join(entries)}</nav>")

    def legend(self, colors: Mapping[str, tuple[int, int, int]]) -> None:
        """Adds swatches of colors (red, green, blue; 0 to 255) with their names."""
        entries = [
            f'<li><i style="background: #{red:02x}{green:02x}{blue:02x}"></i>{escape(name)}</li>'
            for name, (red, green, blue) in colors.items()
        ]
        self._parts.append(f'<ul class="legend">{"".join(entries)}</ul>')

    def html(self) -> str:
        """Returns the page's text."""
        links = [
            f'<a href="#section-{number}">{escape(text)}</a>' for number, text in enumerate(self._headings, start=1)
        ]
        lines = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(self._title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(self._title)}</h1>",
            *([f"<p>{escape(self._lead)}</p>"] if self._lead else []),
            *([f"<nav>{''.join(links)}</nav>"] if len(links) > 1 else []),
            *self._parts,
            "</body></html>",
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: str | AnyPath) -> None:
        """Writes the page, whole or not at all, and makes the folder where it is missing.

        Raises:
          ConfigError: The place cannot be written.
        """
        write_result(path, self.html().encode())


def thumbnail(picture: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """Returns uint8 [H, W, 3] shrunk so that its longer side has at most `side` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _card(card: Card, side: int) -> str:
    title = f"<b>{escape(card.title)}</b>" if card.title else ""
    below = title + "".join(f"<span>{escape(line)}</span>" for line in card.lines)
    caption = f"<figcaption>{below}</figcaption>" if below else ""
    image = _image(thumbnail(card.picture, side), card.title)
    image = f'<a href="{_relative(card.link)}">{image}</a>' if card.link else image
    return f"<figure>{image}{caption}</figure>"


def _relative(path: str) -> str:
    """Returns the address of a file beside the page; a colon in its name must not look like a scheme."""
    return "./" + quote(path)


def _image(picture: np.ndarray, words: str, lossless: bool = False) -> str:
    file = io.BytesIO()
    if lossless:
        Image.fromarray(picture).save(file, "PNG", optimize=True)
    else:
        # Colors of thin lines keep their resolution.
        Image.fromarray(picture).save(file, "JPEG", quality=85, subsampling=0)
    kind, data = ("png" if lossless else "jpeg"), base64.b64encode(file.getvalue()).decode()
    height, width = picture.shape[:2]
    return f'<img alt="{escape(words)}" width="{width}" height="{height}" src="data:image/{kind};base64,{data}">'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def cells(values: Sequence[Any]) -> list[str]:
    """Returns the texts of a table's column: floats with four digits at most, and None as nothing.

    Floats of one or two decimals all get as many as the longest of them, so that their points stand below each other.
    """
    texts = [_cell(value) for value in values]
    floats = [text for text, value in zip(texts, values, strict=True) if isinstance(value, float | np.floating)]
    decimals = max((len(text.partition(".")[2]) for text in floats), default=0)
    if not 1 <= decimals <= 2 or any("e" in text for text in floats):
        return texts
    return [
        f"{value:.{decimals}f}" if isinstance(value, float | np.floating) and np.isfinite(value) else text
        for text, value in zip(texts, values, strict=True)
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
