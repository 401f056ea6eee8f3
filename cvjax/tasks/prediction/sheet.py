"""Writes the contact sheet of a prediction: all pictures on pages that a browser shows."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cvjax.storage import AnyPath
from cvjax.visual.page import Card, Page, thumbnail

FILE = "index.html"
_ON_A_PAGE = 500
"""Pictures of a page: it holds some 15 MB with as many."""


_LINES = 5
"""Lines below a picture, at most."""


class Thumb(NamedTuple):
    """Holds a picture of the sheet.

    Attributes:
      jpeg: Encoded thumbnail: decoded, those of many images would not fit into memory.
      title: First line below it.
      lines: Further lines.
      link: Path of the whole picture, relative to the sheet; empty if there is none.
    """

    jpeg: bytes
    title: str
    lines: tuple[str, ...]
    link: str = ""

    @property
    def card(self) -> Card:
        """Returns the card of a page."""
        with Image.open(io.BytesIO(self.jpeg)) as picture:
            return Card(np.asarray(picture.convert("RGB")), self.title, self.lines, self.link)


def make_thumb(picture: np.ndarray, title: str, lines: Sequence[str], link: str = "") -> Thumb:
    """Shrinks and encodes a picture, uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(thumbnail(picture)).save(file, "JPEG", quality=95, subsampling=0)
    more = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return Thumb(file.getvalue(), title, (*lines[:_LINES], *more), link)


def write_sheet(
    out: AnyPath,
    title: str,
    lead: str,
    parts: Mapping[str, Sequence[Thumb]],
    *,
    legend: Mapping[str, tuple[int, int, int]],
    passed_over: Sequence[tuple[str, str]] = (),
) -> list[AnyPath]:
    """Writes index.html, and index_2.html and so on for more than 500 pictures; returns their paths.

    Args:
      out: Folder of the pages.
      title: Title of the pages.
      lead: Sentence below the title.
      parts: Pictures by the headings above them.
      legend: Colors by name.
      passed_over: Path of each image that was passed over, and what is wrong with it.

    Raises:
      ConfigError: A page cannot be written.
    """
    chunks = [
        (heading, thumbs[start : start + _ON_A_PAGE])
        for heading, thumbs in parts.items()
        for start in range(0, len(thumbs), _ON_A_PAGE)
    ]
    pages: list[list[tuple[str, Sequence[Thumb]]]] = [[]]
    for chunk in chunks:
        if pages[-1] and sum(len(thumbs) for _, thumbs in pages[-1]) + len(chunk[1]) > _ON_A_PAGE:
            pages.append([])
        pages[-1].append(chunk)
    files = [FILE, *(f"index_{number}.html" for number in range(2, len(pages) + 1))]
    for number, (file, here) in enumerate(zip(files, pages), start=1):
        page = Page(title, lead)
        if len(pages) > 1:
            page.links({f"Page {other}" if other != number else f"Page {other} (this)": name
                        for other, name in enumerate(files, start=1)})  # fmt: skip
        if legend:
            page.legend(legend)
        for heading, thumbs in here:
            if len(parts) > 1:
                page.heading(heading)
            page.sheet([thumb.card for thumb in thumbs])
        if passed_over and number == 1:
            page.heading("Passed over")
            page.table(["file", "what is wrong"], passed_over)
        page.write(out / file)
    return [out / file for file in files]
