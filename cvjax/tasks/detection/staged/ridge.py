"""Fits ridge regressions, with which R-CNN (1311.2524, appendix C) learns to move boxes."""

import numpy as np

from cvjax.errors import DataError
from cvjax.tasks.detection.staged.svm import Linear


def fit_ridge(features: np.ndarray, targets: np.ndarray, penalty: float = 1000.0) -> Linear:
    """Minimizes the squared errors plus `penalty` times the squared weights; the bias has no penalty.

    Args:
      features: Features [N, D].
      targets: Targets [N, T].
      penalty: Lambda, positive; 1000 in the paper.

    Returns:
      `Linear` [D, T], float32.

    Raises:
      DataError: There are no examples, a number is not finite, or the penalty is not positive.
    """
    from sklearn.linear_model import Ridge  # late: it takes a second to import

    if not len(features) or penalty <= 0:
        raise DataError(f"a regression needs examples and a positive penalty, not {len(features)} and {penalty}")
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise DataError("some features or targets are not finite; mend the net that they come from")
    fitted = Ridge(alpha=penalty, solver="cholesky").fit(features, targets)
    return Linear(fitted.coef_.T.astype(np.float32), np.asarray(fitted.intercept_, np.float32))
