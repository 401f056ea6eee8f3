"""Ridge regression in closed form, as R-CNN (1311.2524, appendix C) learns to move boxes with it."""

import numpy as np
from scipy import linalg

from cvjax.errors import DataError
from cvjax.tasks.detection.staged.svm import Linear


def fit_ridge(features: np.ndarray, targets: np.ndarray, penalty: float = 1000.0) -> Linear:
    """Minimises the squared errors plus `penalty` times the squared weights; the bias is free.

    With fewer examples than features the system of their inner products is solved, which is the smaller one and has the
    same solution.

    Args:
      features: [N, D].
      targets: [N, T].
      penalty: lambda, positive; 1000 in the paper.

    Returns:
      `Linear` [D, T], float32.

    Raises:
      DataError: no examples, numbers that are not finite, or a penalty that is not positive.
    """
    if not len(features) or penalty <= 0:
        raise DataError(f"a regression needs examples and a positive penalty, not {len(features)} and {penalty}")
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise DataError("some features or targets are not finite; mend the net that they come from")
    middle, mean = features.mean(0), targets.mean(0)
    features, targets = features - middle, targets - mean
    wide = len(features) < features.shape[1]
    products = features @ features.T if wide else features.T @ features
    products[np.diag_indices_from(products)] += penalty
    right = targets if wide else features.T @ targets
    solved = linalg.solve(products, right, assume_a="pos", overwrite_a=True)
    kernel = features.T @ solved if wide else solved
    return Linear(kernel.astype(np.float32), (mean - middle @ kernel).astype(np.float32))
