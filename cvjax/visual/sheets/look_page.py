"""Writes the page of a look at data: examples with their truth, before and after augmentation."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cvjax.data.dataset import Target
from cvjax.visual.page import Card, Page
from cvjax.visual.sheets.samples import legend_of


@dataclasses.dataclass(frozen=True)
class Sample:
    """Holds an example of the page.

    Attributes:
      split: Name of its split.
      file: Path of its image, or its id.
      size: Height and width of the image, in pixels.
      classes: Names of the classes that it shows.
      picture: Image with its truth, uint8 [H, W, 3].
      variants: The same after augmentation, of any sizes.
    """

    split: str
    file: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    picture: np.ndarray
    variants: tuple[np.ndarray, ...] = ()


def look_page(title: str, target: Target, class_names: Sequence[str], samples: Sequence[Sample], lead: str) -> Page:
    """Makes the page.

    Args:
      title: Name of the data.
      target: Kind of the truth.
      class_names: Names of the classes by label.
      samples: Examples; those of a split stand together.
      lead: Sentence below the title.
    """
    page = Page(f"A look at {title}", lead)
    if target != "label":
        page.legend(legend_of(target, class_names))
    for split in dict.fromkeys(sample.split for sample in samples):
        page.heading(split)
        cards = []
        for sample in (sample for sample in samples if sample.split == split):
            height, width = sample.size
            lines = (f"{width} x {height}", ", ".join(sample.classes) or "nothing labeled")
            cards.append(Card(sample.picture, sample.file, lines))
            if sample.variants:
                page.sheet([*cards, *(Card(picture, "", ("augmented",)) for picture in sample.variants)], together=True)
                cards = []
        if cards:
            page.sheet(cards)
    return page
