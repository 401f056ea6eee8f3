"""Writes the page of a data set's check: figures of its splits, and pictures of what was found."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects
from cvjax.data.dataset import Dataset
from cvjax.data.decode import decode_image
from cvjax.datasets.findings.finding import TITLES, Finding, Place, short_names
from cvjax.datasets.findings.report import DataReport, size_figures
from cvjax.errors import DataError
from cvjax.visual.boxes import Boxes
from cvjax.visual.page import Card, Page
from cvjax.visual.sheets.samples import draw_scaled, fit, legend_of, strip

SHOWN = 24
"""Number of findings of a kind that the page shows; all of them are in the JSON."""
_UNITS = {"mask": "pixels", "boxes": "boxes", "label": "images"}
_FIGURES = {"height": "height (median)", "width": "width", "aspect": "w/h"}


def check_page(report: DataReport, title: str, shown: int = SHOWN) -> Page:
    """Makes the page of a report.

    Args:
      report: Report of a check.
      title: Name of the data.
      shown: Number of findings of each kind to show.
    """
    kinds = report.by_kind()
    total = len(report.findings)
    images = sum(len(survey.seen) for survey in report.surveys)
    page = Page(
        f"Check of {title}", f"{images:,} images, {total:,} findings." if total else f"{images:,} images, no findings."
    )
    page.heading("Splits")
    page.table(*splits_table(report))
    page.heading("Classes")
    page.table(*balance_table(report))
    if report.target == "boxes":
        page.heading("Boxes")
        page.table(*boxes_table(report))
        page.text("A box's side is the square root of its area in pixels, its share the side by that of the image.")
    sources = {survey.split: survey.source for survey in report.surveys}
    for kind, found in kinds.items():
        page.heading(f"{TITLES[kind]}: {len(found):,}")
        if len(found) > shown:
            page.text(f"The first {shown} are shown.")
        _show(page, found[:shown], sources, report.class_names)
    return page


def splits_table(report: DataReport) -> tuple[list[str], list[list[Any]]]:
    """Returns the header and the rows of the table of splits: counts and sizes."""
    header = ["split", "images", "readable", *_FIGURES.values()]
    rows = []
    for survey in report.surveys:
        figures = size_figures(survey)
        sizes = [_spread(figures[name]) if figures else None for name in _FIGURES]
        readable = sum(seen.size is not None for seen in survey.seen)
        rows.append([survey.split, len(survey.seen), readable, *sizes])
    return header, rows


def balance_table(report: DataReport) -> tuple[list[str], list[list[Any]]]:
    """Returns the header and the rows of the table of classes: in each split, images and what they hold."""
    unit = _UNITS[report.target]
    header, columns = ["class"], []
    for survey in report.surveys:
        balance = survey.balance()
        total = sum(count for _, count in balance) or 1
        shares = [round(100 * count / total, 2) for _, count in balance]
        if report.target == "label":
            header += [survey.split, "%"]
            columns += [[images for images, _ in balance], shares]
        else:
            header += [f"{survey.split}: images", unit, "%"]
            columns += [[images for images, _ in balance], [count for _, count in balance], shares]
    return header, [list(row) for row in zip(report.class_names, *columns, strict=True)]


def boxes_table(report: DataReport) -> tuple[list[str], list[list[Any]]]:
    """Returns the header and the rows of the table of boxes' sizes, see `cvjax.datasets.box_statistics`."""
    header = ["split", "class", "boxes", "side 5%", "50%", "95%", "share %", "w/h"]
    rows, marked = [], False
    for survey in report.surveys:
        counts = survey.boxes()
        marked |= bool(counts.total.difficult or counts.total.crowd)
        for row in (*counts.classes, counts.total):
            figures = [round(value, 1) for value in (*row.sides, 100 * row.share)] + [round(row.aspect, 2)]
            known = figures if row.boxes else [None] * 5
            rows.append([survey.split, row.name, row.boxes, *known, row.difficult, row.crowd])
    return ([*header, "difficult", "crowd"], rows) if marked else (header, [row[:-2] for row in rows])


def _show(page: Page, found: Sequence[Finding], sources: dict[str, Dataset], class_names: Sequence[str]) -> None:
    """Adds findings with pictures as a sheet, and those without as a table."""
    cards, lines = [], []
    named = False
    for finding in found:
        picture = _picture(finding, sources, class_names)
        if picture is None:
            lines.append([finding.split, ", ".join(place.file for place in finding.places), finding.what])
            continue
        named |= bool(finding.boxes)
        names = _names(finding)
        more = len(names) - 6
        files = (*names[1:6], *([f"and {more} more"] if more > 0 else []))
        cards.append(Card(picture, names[0], (*files, f"{finding.split}: {finding.what}")))
    if named:
        page.legend(legend_of("boxes", class_names))
    if cards:
        page.sheet(cards)
    if lines:
        page.table(["split", "file", "what"], lines)


def _names(finding: Finding) -> list[str]:
    """Returns short names of the files: of several with their folders, and with their splits where these differ."""
    places = finding.places
    if len(places) == 1:
        return short_names([places[0].file])
    splits = len({place.split for place in places}) > 1
    names = ["/".join(place.file.replace("\\", "/").split("/")[-2:]) for place in places]
    return [f"{place.split}: {name}" if splits else name for place, name in zip(places, names)]


def _picture(finding: Finding, sources: dict[str, Dataset], class_names: Sequence[str]) -> np.ndarray | None:
    """Draws a finding; None where there is no picture to draw."""
    if len(finding.places) > 1:
        images = [image for place in finding.places[:4] if (image := _image(place, sources)[0]) is not None]
        return strip(images) if images else None
    if not finding.places:
        return None
    image, record = _image(finding.places[0], sources)
    if image is None:
        return None
    if not finding.boxes:
        return fit(image)[0]
    stated = Objects(*(record[name] for name in ("boxes", "labels", "difficult", "crowd"))).take(
        np.array(finding.boxes)
    )
    return draw_scaled(image, Boxes(stated.boxes, stated.labels), class_names)


def _image(place: Place, sources: dict[str, Dataset]) -> tuple[np.ndarray | None, dict[str, Any]]:
    try:
        record = cast(dict[str, Any], sources[place.split][place.index])
        return decode_image(record["image"], place.file), record
    except DataError:
        return None, {}


def _spread(figures: Sequence[float]) -> str:
    """Returns least and most, and in brackets the median where they differ."""
    least, median, most = (f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in figures)
    return least if least == most else f"{least}-{most} ({median})"
