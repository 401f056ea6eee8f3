"""Fits linear SVMs to a net's features, and mines their hard negatives.

R-CNN (1311.2524) and SPPnet (1406.4729) have an SVM for each class. Its positives are the objects of the class. Its
negatives are the regions whose IoU with every object of the class is below 0.3. There are millions of these, and only
the hard ones are kept: those that the current SVM does not score well below its margin. All of this runs on the host.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class SVMConfig:
    """Configures how an SVM learns.

    The defaults are those of R-CNN's authors, except that the hinge loss is squared.

    Attributes:
      cost: Weight C of an example's loss, relative to the norm of the weights.
      positive_weight: Further factor on the losses of positives.
      intercept_scale: Value of the constant feature whose weight is the bias; the larger it is, the less the norm
        limits the bias.
      feature_norm: Mean norm to which features are scaled first; None leaves them. The fitted weights apply to the
        unscaled features.
      hard: Score above which a negative joins the set.
      easy: Score below which a negative leaves the set.
      batch: Number of new negatives after which an SVM is fitted again.
      rounds: Number of passes over the images.
      tolerance: Tolerance of the gradient at which fitting ends.
      iterations: Largest number of iterations of a fit.
    """

    cost: float = 1e-3
    positive_weight: float = 2.0
    intercept_scale: float = 10.0
    feature_norm: float | None = 20.0
    hard: float = -1.0001
    easy: float = -1.2
    batch: int = 2000
    rounds: int = 1
    tolerance: float = 1e-6
    iterations: int = 1000


DEFAULT = SVMConfig()


class Linear(NamedTuple):
    """Holds linear functions of features, one per column: `features @ kernel + bias`.

    Attributes:
      kernel: Weights, float32 [D, N].
      bias: Biases, float32 [N].
    """

    kernel: np.ndarray
    bias: np.ndarray


class Regions(NamedTuple):
    """Holds the regions of an image for the SVMs.

    Attributes:
      features: Features, float32 [R, D].
      overlaps: Largest IoU of each region with an object of each class, float32 [R, C]. Ignored objects count too, so
        that their regions do not become negatives.
      labels: Class 0 to C - 1 of regions that are objects themselves, -1 for others, int [R].
    """

    features: np.ndarray
    overlaps: np.ndarray
    labels: np.ndarray


def fit_svm(positives: np.ndarray, negatives: np.ndarray, config: SVMConfig = DEFAULT) -> np.ndarray:
    """Fits the SVM of a class with a squared hinge loss, by scikit-learn's `LinearSVC`, which is liblinear.

    It minimizes |w|^2 / 2 + sum over examples of cost * max(0, 1 - sign * score)^2 for the score `features @ w[:-1] +
    intercept_scale * w[-1]`. So the bias is penalized as a weight is, only less.

    Args:
      positives: Features of the positives, [P, D].
      negatives: Features of the negatives, [N, D].
      config: Options; cost, positive_weight, intercept_scale, tolerance and iterations are used.

    Returns:
      The weights w, float64 [D + 1].

    Raises:
      DataError: There are no positives or no negatives, or a feature is not finite.
    """
    from sklearn.svm import LinearSVC  # late: it takes a second to import

    if not len(positives) or not len(negatives):
        raise DataError(f"an SVM needs examples of both sides, not {len(positives)} and {len(negatives)}; add images")
    features = np.concatenate([positives, negatives])
    if not np.isfinite(features).all():
        raise DataError("some features are not finite; mend the net that they come from")
    signs = np.repeat([1, -1], [len(positives), len(negatives)])
    options: dict[str, Any] = {
        "C": config.cost,
        "class_weight": {1: config.positive_weight, -1: 1.0},
        "intercept_scaling": config.intercept_scale,
        "dual": False,  # the primal is the faster one for some thousand examples
        "tol": config.tolerance,
        "max_iter": config.iterations,
    }
    svm = LinearSVC(**options).fit(features, signs)
    return np.append(svm.coef_[0], svm.intercept_ / config.intercept_scale)


def mine_hard_negatives(
    scores: np.ndarray, overlaps: np.ndarray, *, below: float = 0.3, hard: float = -1.0001
) -> np.ndarray:
    """Finds the regions of an image that are hard negatives of each class's SVM.

    Args:
      scores: Scores of the SVMs, [R, C].
      overlaps: Overlaps [R, C], see `Regions`.
      below: IoU from which on a region is not a negative.
      hard: Score above which a negative is hard; the default is just beyond the margin.

    Returns:
      bool [R, C].
    """
    return (overlaps < below) & (scores > hard)


class _SVM:
    """Holds the SVM of one class, and its set of negatives."""

    def __init__(self, positives: np.ndarray, config: SVMConfig) -> None:
        self.positives, self.config = positives, config
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.waiting: list[np.ndarray] = []
        self.weights: np.ndarray | None = None

    @property
    def fresh(self) -> int:
        return sum(map(len, self.waiting))

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns the scores of features; 0 before the first fit, so that all negatives are hard."""
        if self.weights is None:
            return np.zeros(len(features))
        return features @ self.weights[:-1].astype(np.float32) + self.config.intercept_scale * self.weights[-1]

    def fit(self) -> None:
        """Adds the waiting negatives, fits the SVM, and drops the easy negatives."""
        self.negatives = np.concatenate([self.negatives, *self.waiting])
        self.waiting = []
        if not len(self.negatives):
            return
        self.weights = fit_svm(self.positives, self.negatives, self.config)
        self.negatives = self.negatives[self.score(self.negatives) >= self.config.easy]


def fit_svms(
    images: Callable[[], Iterable[Regions]],
    num_classes: int,
    config: SVMConfig = DEFAULT,
    below: float = 0.3,
) -> Linear:
    """Fits an SVM for each class, by passes over images that never hold all features at once.

    The first pass collects the objects and the mean norm of the features; each further pass mines hard negatives. An
    SVM is fitted again whenever `config.batch` hard negatives wait for it, and at the end of a pass.

    Args:
      images: Function that gives the regions of every image, the same each time.
      num_classes: Number of classes, C.
      config: Options of the SVMs.
      below: IoU from which on a region is not a negative.

    Returns:
      `Linear` [D, C]. A class without objects always scores -2, so that it is never reported.

    Raises:
      DataError: There are no regions at all, or a feature is not finite.
    """
    scale, objects = _first_pass(images, num_classes, config)
    svms = {label: _SVM(found * scale, config) for label, found in objects.items() if len(found)}
    for _ in range(config.rounds):
        for regions in images():
            features = np.asarray(regions.features, np.float32) * scale
            scores = np.full(regions.overlaps.shape, -np.inf)
            for label, svm in svms.items():
                scores[:, label] = svm.score(features)
            hard = mine_hard_negatives(scores, regions.overlaps, below=below, hard=config.hard)
            for label, svm in svms.items():
                svm.waiting.append(features[hard[:, label]])
                if svm.fresh >= config.batch:
                    svm.fit()
        for svm in svms.values():
            svm.fit()
    width = next(iter(objects.values())).shape[1]
    kernel, bias = np.zeros((width, num_classes), np.float32), np.full(num_classes, -2, np.float32)
    for label, svm in svms.items():
        if svm.weights is not None:
            kernel[:, label] = svm.weights[:-1] * scale
            bias[label] = svm.weights[-1] * config.intercept_scale
    return Linear(kernel, bias)


def _first_pass(
    images: Callable[[], Iterable[Regions]], num_classes: int, config: SVMConfig
) -> tuple[np.float32, dict[int, np.ndarray]]:
    """Returns the factor on features, and the unscaled features of each class's objects."""
    total, count = 0.0, 0
    objects: dict[int, list[np.ndarray]] = {label: [] for label in range(num_classes)}
    for regions in images():
        features = np.asarray(regions.features, np.float32)
        total += float(np.linalg.norm(features, axis=1).sum(dtype=np.float64))
        count += len(features)
        for label, found in objects.items():
            found.append(features[regions.labels == label])
    if not count:
        raise DataError("there are no regions to learn from; give images, and proposals of them")
    if not np.isfinite(total):
        raise DataError("some features are not finite; mend the net that they come from")
    mean = total / count
    scale = 1.0 if config.feature_norm is None or mean == 0 else config.feature_norm / mean
    return np.float32(scale), {label: np.concatenate(found) for label, found in objects.items()}
