"""Computes the errors of cells divided by membranes, as in the ISBI 2012 challenge: pixel, Rand and warping error.

They run on the host, image by image, with numpy and scipy alone. Cells are the connected components of the cell pixels
by edges; membranes are connected by corners, too. Sums over images add up, and the report divides them.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import scipy.ndimage

_EVERYWHERE = np.ones((3, 3), bool)


def membrane_sums(truth: np.ndarray, cells: np.ndarray, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Computes the sums over images of the errors at each threshold.

    Args:
      truth: Ground truth, int8 [B, H, W]: 1 in cells, 0 in membranes, -1 where pixels do not count.
      cells: Probabilities of cells, [B, H, W].
      thresholds: T thresholds; a pixel is predicted as a cell if its probability is above.

    Returns:
      `em_pixels`, `em_wrong` and `em_warped`, int64 [T]: numbers of pixels that count, of those that differ, and of
      those that still differ after warping; `em_rand` and `em_pairs`, float64 [T]: sums of `rand_errors`; `em_images`,
      int64 [T]: number of images in these sums, those that have a cell.
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
    """Computes the errors of a split, each at the threshold where it is smallest, as the challenge does.

    Args:
      sums: Results of `membrane_sums`, added up.
      thresholds: Thresholds of the sums.

    Returns:
      `pixel_error`, `rand_error` (one minus the adapted F-score), `one_minus_rand_index` (one minus the Rand index) and
      `warping_error`, fractions, each with its `..._threshold`; nan where no pixel counts.
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
    """Computes how much two segmentations of the true cells' pixels into components disagree.

    Only the pixels of true cells count, as true membranes belong to no cell. Pixels that are predicted as membrane are
    a component each (Arganda-Carreras et al., 2015, and SNEMI3D's code).

    Args:
      truth, guess: Cells of ground truth and prediction, bool [H, W].

    Returns:
      One minus the F-score of the adapted Rand index, and one minus the Rand index. The F-score is made of precision
      and recall. These are the shares of the pairs of pixels that lie together in both, of those together in the
      prediction or in the ground truth; pairs are ordered and include a pixel with itself. One minus the Rand index
      (Rand, 1971) is the share of pairs of different pixels that are together in only one of the two. Both are nan
      without a true cell. For a single pixel there are no such pairs, and the second error is 0.
    """
    # scikit-image's adapted_rand_error leaves out the pair of a pixel with itself, so its numbers are not the
    # challenge's, and it has no Rand index.
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
    """Returns the number of the component that each pixel belongs to, 0 for none, and the number of components."""
    # scipy has no types, and what can be inferred includes what it returns if it is given an array to write into.
    return cast(tuple[np.ndarray, int], scipy.ndimage.label(where, neighbors))


def warping_errors(truth: np.ndarray, guess: np.ndarray) -> int:
    """Counts the pixels of `warp` that still differ from the prediction; the arguments are the same."""
    return int((warp(truth, guess) != guess).sum())


def warp(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Warps the ground truth as near to the prediction as it gets without changing its topology.

    The method is from Jain et al., Boundary Learning by Optimization with Topological Constraints, 2010. A pixel that
    differs is flipped if it is simple, which means that no cell or membrane is split, joined, made or lost. That
    depends on its eight neighbors alone. The cell pixels among them that touch it by an edge must be one piece,
    connected by edges within the eight. The membrane pixels must be one piece, connected by edges or corners.

    Every 2x2 block of pixels has four positions, which take turns. All pixels of a position are flipped at once: they
    are not neighbors, so the result is the same as one after another. It ends when no pixel that differs is simple. The
    order is fixed, and the result is a local optimum, as in the paper. The image is surrounded by membrane.

    Args:
      truth: Ground truth, int8 [H, W]: 1 in cells, 0 in membranes, -1 where pixels do not count. The latter are
        replaced by the prediction.
      guess: Predicted cells, bool [H, W].

    Returns:
      Cells of the warped ground truth, bool [H, W].
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
    """Returns whether a pixel can be flipped, bool [256], by a code of its neighbors.

    Bit i of the code is set if `_NEIGHBOURS[i]` is a cell pixel.
    """
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
