"""Measures the share of objects that proposals cover, the highest recall that a detector can reach with them."""

from collections.abc import Iterable, Sequence

import numpy as np

from cvjax.tasks.detection.metrics.rows import overlaps


def proposal_recall(
    images: Iterable[tuple[np.ndarray, np.ndarray]],
    counts: Sequence[int] = (100, 300, 1000, 2000),
    thresholds: Sequence[float] = (0.5,),
) -> np.ndarray:
    """Computes the share of objects that one of the first proposals of their image covers.

    Args:
      images: Proposals [P, 4] and objects [N, 4] of each image, see `cvjax.ops.detection.boxes`; without the objects
        that need not be found.
      counts: Numbers of first proposals of an image to look at.
      thresholds: Least IoUs of a proposal with an object that it covers.

    Returns:
      float64 [counts, thresholds]; nan without objects.
    """
    best = [np.zeros((0, len(counts)))]
    for proposals, objects in images:
        objects, proposals = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (objects, proposals))
        table = overlaps(objects[:, None], proposals)
        so_far = np.maximum.accumulate(np.pad(table, ((0, 0), (1, 0))), axis=1)
        best.append(so_far[:, np.minimum(counts, len(proposals))])
    rows = np.concatenate(best)
    if not len(rows):
        return np.full((len(counts), len(thresholds)), np.nan)
    # 0 covers nothing, whatever the threshold.
    return np.stack([((rows >= least) & (rows > 0)).mean(0) for least in thresholds], axis=-1)
