"""Chooses and decodes examples of a split for pictures."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cvjax.data.dataset import Dataset, Record
from cvjax.errors import DataError
from cvjax.tasks.images import ImageTask

ROWS = 8
"""Number of images in a picture of predictions."""
TILES = 24
"""Number of images in a gallery of labeled images."""


def decoded_examples(task: ImageTask, dataset: Dataset, count: int) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    """Yields records spread evenly over a split, each with its decoded example.

    Damaged records are skipped if the run may skip them.

    Args:
      task: Task whose decoder is used.
      dataset: Split to choose from.
      count: Number of records; fewer if the split is smaller.
    """
    decode = task.decoder()
    for index in np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)):
        record = dataset[int(index)]
        try:
            yield record, decode(record)
        except DataError:  # counted by the evaluation already
            if task.config.input.on_bad_record == "error":
                raise
