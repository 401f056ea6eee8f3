"""Checks whether boxes whose images are not noted were proposed for the images of a dataset."""

import os
from collections.abc import Sequence

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import decode_image
from cvjax.data.orientation import read_header
from cvjax.datasets.proposals.boxes import ProposalConfig, propose
from cvjax.datasets.proposals.identity import files_of
from cvjax.errors import UserError

_TRIED = 3
"""Images for which boxes are proposed again."""


def are_proposals_of(
    source: Dataset, config: ProposalConfig, ids: Sequence[str], boxes: Sequence[np.ndarray], made: float
) -> bool:
    """Returns whether boxes are those that would be proposed for a dataset's images.

    No file may have changed since they were made. All images must have the given ids and lie upright, the boxes must be
    within them, and the boxes of a few images are proposed again and must be the same.

    Args:
      source: Dataset with its images in files.
      config: Method and limits, see `ProposalConfig`.
      ids: Ids of the images, in the order of the dataset.
      boxes: Boxes of each image, float32 [N, 4].
      made: Time at which the boxes were made, in seconds since 1970.
    """
    files = files_of(source)
    try:
        if not files or len(ids) != len(source) or max(map(os.path.getmtime, set(files))) > made:
            return False
        tried = set(np.linspace(0, len(source) - 1, _TRIED).round().astype(int).tolist())
        for index in range(len(source)):
            record = source[index]
            header = read_header(record["image"], record["id"])
            limits = np.array([header.width, header.height] * 2)
            if record["id"] != ids[index] or header.orientation != 1 or (boxes[index] > limits + 1e-3).any():
                return False
            if index in tried:
                again = propose(decode_image(record["image"], record["id"]), config)
                if not np.array_equal(again, boxes[index]):
                    return False
    except (OSError, UserError):
        return False
    return True
