"""Writes the page of labels in doubt: pictures with what is labeled and what a net finds instead."""

from collections.abc import Sequence

import numpy as np

from cvjax.data.dataset import Target
from cvjax.visual.boxes import Boxes, draw_boxes
from cvjax.visual.page import Card, Page
from cvjax.visual.sheets.samples import around, draw_sample, fit, legend_of, strip

Corners = tuple[float, float, float, float]


def doubt_page(title: str, lead: str, target: Target, class_names: Sequence[str]) -> Page:
    """Begins the page with its legend.

    Args:
      title: Name of the run.
      lead: Sentence below the title.
      target: Kind of the labels.
      class_names: Names of the classes by label.
    """
    page = Page(title, lead)
    if target != "label":
        page.legend(legend_of(target, class_names))
    if target == "mask":
        page.text("Left what is labeled, right what is predicted; a region is outlined in white.")
    return page


def draw_masks(
    image: np.ndarray, mask: np.ndarray, guess: np.ndarray, box: Corners | None, class_names: Sequence[str]
) -> np.ndarray:
    """Draws what is labeled, and right of it what is predicted, of an image or around a region of it."""
    part = (slice(None), slice(None)) if box is None else around(image, box)
    panels = [draw_sample("mask", image[part], labels[part], class_names) for labels in (mask, guess)]
    if box is None:
        return strip(panels)
    return strip([_outlined(panel, image[part], box, part) for panel in panels])


def draw_box(
    image: np.ndarray,
    given: tuple[Corners, int] | None,
    found: tuple[Corners, int, float | None] | None,
    class_names: Sequence[str],
) -> np.ndarray:
    """Draws the surroundings of a labeled box, of a detection with its score, or of both."""
    corners = np.array([place[0] for place in (given, found) if place is not None], np.float32)
    x1, y1, x2, y2 = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    part = around(image, (float(x1), float(y1), float(x2), float(y2)))
    shift = np.array([part[1].start, part[0].start] * 2, np.float32)
    small, scale = fit(image[part])
    texts = [] if given is None else [f"label {class_names[given[1]]}"]
    if found is not None:
        texts.append(class_names[found[1]] + ("" if found[2] is None else f" {found[2]:.2f}"))
    labels = np.array([place[1] for place in (given, found) if place is not None])
    return draw_boxes(small, Boxes((corners - shift) * scale, labels, texts=tuple(texts)), class_names, text=20)


def _outlined(panel: np.ndarray, image: np.ndarray, box: Corners, part: tuple[slice, slice]) -> np.ndarray:
    scale = max(panel.shape[:2]) / max(image.shape[:2])
    x1, y1, x2, y2 = ((value - start) * scale for value, start in zip(box, (part[1].start, part[0].start) * 2))
    top, left = max(0, round(y1)), max(0, round(x1))
    bottom, right = min(panel.shape[0], round(y2)), min(panel.shape[1], round(x2))
    panel = panel.copy()
    for edge in (np.s_[top : top + 2, left:right], np.s_[max(0, bottom - 2) : bottom, left:right]):
        panel[edge] = 255
    for edge in (np.s_[top:bottom, left : left + 2], np.s_[top:bottom, max(0, right - 2) : right]):
        panel[edge] = 255
    return panel


def add_section(page: Page, title: str, count: int, flagged: int, cards: Sequence[Card]) -> None:
    """Adds a kind of doubts: how many there are, how many the rule calls wrong, and the first of them."""
    page.heading(f"{title}: {count:,}" + (f", {flagged:,} called wrong" if flagged < count else ""))
    if count > len(cards):
        page.text(f"The {len(cards)} most doubtful are shown.")
    page.sheet(cards)
