"""Errors of cells that are divided by membranes, as of the ISBI 2012 challenge: pixels, pairs of pixels, topology.

On the host, image by image, with numpy and scipy alone. Cells are the components of the cells' pixels that touch by
edges; membranes touch by corners, too. Sums over images add up; the report divides.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import scipy.ndimage

_EVERYWHERE = np.ones((3, 3), bool)


def membrane_sums(truth: np.ndarray, cells: np.ndarray, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Sums over images of the errors at each threshold.

    Args:
      truth: int8 [B, H, W]: 1 in cells, 0 in membranes, -1 where nothing counts.
      cells: probability of a cell, [B, H, W].
      thresholds: T; a pixel is a cell's where its probability is above.

    Returns:
      `em_pixels`, `em_wrong` and `em_warped` int64 [T]: pixels that count, those that differ, and those that still
      differ after warping; `em_rand` and `em_pairs` float64 [T]: sums of `rand_errors`; `em_images` int64 [T]: how
      many images these are sums of, those that have a cell.
    """
    totals = np.zeros((6, len(thresholds)))
    for mask, probability in zip(truth, cells):
        counted = mask >= 0
        for place, threshold in enumerate(thresholds):
            guess = (probability > threshold) & counted
            wrong = (guess != (mask == 1)) & counted
            adapted, pairs = rand_errors(mask == 1, guess)
            known = not np.isnan(adapted)
            totals[:, place] += (
                counted.sum(),
                wrong.sum(),
                warping_errors(mask, guess),
                adapted if known else 0.0,
                pairs if known else 0.0,
                known,
            )
    pixels, wrong, warped, adapted, pairs, images = totals
    counts = {"em_pixels": pixels, "em_wrong": wrong, "em_warped": warped, "em_images": images}
    return {**{name: value.astype(np.int64) for name, value in counts.items()}, "em_rand": adapted, "em_pairs": pairs}


def membrane_report(sums: Mapping[str, np.ndarray], thresholds: Sequence[float]) -> dict[str, float]:
    """Errors of a split, each at the threshold where it is the least, as the challenge does.

    Returns:
      `pixel_error`, `rand_error` (one minus the adapted F-score), `one_minus_rand_index` (one minus the Rand index) and
      `warping_error`, fractions, each with its `..._threshold`; nan where nothing counts.
    """
    report = {}
    errors = {
        "pixel_error": ("em_wrong", "em_pixels"),
        "rand_error": ("em_rand", "em_images"),
        "one_minus_rand_index": ("em_pairs", "em_images"),
        "warping_error": ("em_warped", "em_pixels"),
    }
    for name, (part, whole) in errors.items():
        whole = np.asarray(sums[whole], np.float64)
        each = np.divide(sums[part], whole, out=np.full(whole.shape, np.nan), where=whole > 0)
        best = int(np.argmin(np.where(np.isnan(each), np.inf, each)))
        report[name], report[f"{name}_threshold"] = float(each[best]), float(thresholds[best])
    return report


def rand_errors(truth: np.ndarray, guess: np.ndarray) -> tuple[float, float]:
    """How far two divisions of the true cells' pixels into components disagree.

    Of the pixels of true cells alone, as true membranes belong to nobody. Those that are predicted as membrane are a
    component each (Arganda-Carreras et al., 2015, and SNEMI3D's code).

    Args:
      truth, guess: bool [H, W], cells.

    Returns:
      One minus the F-score of the adapted Rand index, where precision and recall are the shares of pairs of pixels
      (in order, and with themselves) that lie together in both, of those together in the guess or the truth; and one
      minus the Rand index (Rand, 1971), the share of pairs of different pixels that are together in one of the two
      alone. nan without a true cell, and 0 pairs of a single pixel count as no error.
    """
    true_cells, _ = _components(truth)
    cells, count = _components(guess)
    mine, yours = true_cells[truth].astype(np.int64), cells[truth].astype(np.int64)
    total = mine.size
    if not total:
        return float("nan"), float("nan")
    alone = int((yours == 0).sum())
    overlaps = np.unique((mine * (count + 1) + yours)[yours > 0], return_counts=True)[1]
    both = _squares(overlaps) + alone
    in_truth, in_guess = _squares(np.bincount(mine)), _squares(np.bincount(yours[yours > 0])) + alone
    f_score = 2 * both / (in_truth + in_guess)
    pairs = total * (total - 1)
    return 1 - f_score, (in_truth + in_guess - 2 * both) / pairs if pairs else 0.0


def _squares(counts: np.ndarray) -> int:
    return int((counts.astype(np.int64) ** 2).sum())


def _components(where: np.ndarray, neighbors: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """The number of the component that each pixel belongs to, 0 for none, and how many there are."""
    # scipy has no types, and what can be inferred includes what it returns if it is given an array to write into.
    return cast(tuple[np.ndarray, int], scipy.ndimage.label(where, neighbors))


def warping_errors(truth: np.ndarray, guess: np.ndarray) -> int:
    """Pixels of `warp` that still differ from the prediction; arguments as there."""
    return int((warp(truth, guess) != guess).sum())


def warp(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """The truth, as near to the prediction as it gets without changing its topology.

    It is warped towards the prediction (Jain et al., Boundary Learning by Optimization with Topological
    Constraints, 2010): a pixel that differs is flipped if it is simple, that is, if no cell or membrane is thereby
    split, joined, made or lost. That depends on its eight neighbors alone: the cell pixels among them that touch it
    by an edge must hang together by edges, within the eight, and the membrane pixels by edges or corners, one piece
    each. Of every 2x2 pixels the four places take turns, all pixels of a place at once: these are no neighbors of
    each other, so it is as good as one after another. It ends when no pixel that differs is simple. The order is
    fixed, the result a local optimum, as the paper's. Around the image there is membrane.

    Args:
      truth: int8 [H, W]: 1 in cells, 0 in membranes, -1 where nothing counts, which is taken for what is predicted.
      guess: bool [H, W], predicted cells.

    Returns:
      bool [H, W], cells.
    """
    goal = np.pad(guess.astype(bool), 1)
    warped = np.pad(np.where(truth < 0, guess, truth == 1), 1)
    moved = True
    while moved:
        moved = False
        for top in (1, 2):
            for left in (1, 2):
                place = np.s_[top:-1:2, left:-1:2]
                differs = warped[place] != goal[place]
                if not differs.any():
                    continue
                rows, columns = np.nonzero(differs)
                rows, columns = top + 2 * rows, left + 2 * columns
                code = np.zeros(rows.size, np.int64)
                for bit, (down, right) in enumerate(_NEIGHBOURS):
                    code |= warped[rows + down, columns + right].astype(np.int64) << bit
                simple = _SIMPLE[code]
                warped[rows[simple], columns[simple]] ^= True
                moved |= bool(simple.any())
    return warped[1:-1, 1:-1]


_NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))


def _simple_points() -> np.ndarray:
    """Whether a pixel can be flipped, bool [256], by its neighbors: bit i is set where `_NEIGHBOURS[i]` is cell."""
    table = np.zeros(256, bool)
    for code in range(256):
        cells = np.zeros((3, 3), bool)
        for bit, (down, right) in enumerate(_NEIGHBOURS):
            cells[1 + down, 1 + right] = code >> bit & 1
        membranes = ~cells
        membranes[1, 1] = False
        pieces, _ = _components(cells)
        by_edge = {int(pieces[place]) for place in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        table[code] = len(by_edge) == 1 and _components(membranes, _EVERYWHERE)[1] == 1
    return table


_SIMPLE = _simple_points()
