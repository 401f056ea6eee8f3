"""Linear support vector machines (SVMs) on a net's features, and the mining of their hard negatives.

R-CNN (1311.2524) and SPPnet (1406.4729) have one for each class. Its positives are the objects of the class; its
negatives are all regions that overlap none of them by 0.3 or more, millions, of which only the hard ones are kept:
those that the SVM of the moment does not put well beyond its margin. All of this is on the host.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class SVMConfig:
    """How an SVM learns; the defaults are those of R-CNN's authors, but for the square.

    Attributes:
      cost: C, the weight of an example's loss against the weights' norm.
      positive_weight: further factor on the losses of positives.
      intercept_scale: what the bias is a weight of; the larger, the less the norm holds it back.
      feature_norm: mean length that features are scaled to before; None leaves them. Weights are given for the features
        as they came.
      hard: a negative joins the set if it scores above this.
      easy: a negative leaves the set if it scores below this.
      batch: negatives that join a set before its SVM is fitted again.
      rounds: passes over the images.
      tolerance: of the gradient, where fitting ends.
      iterations: where it ends in any case.
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
    """Linear functions of features, one a column: `features @ kernel + bias`.

    Attributes:
      kernel: float32 [D, N].
      bias: float32 [N].
    """

    kernel: np.ndarray
    bias: np.ndarray


class Regions(NamedTuple):
    """The regions of an image as the SVMs see them.

    Attributes:
      features: float32 [R, D].
      overlaps: float32 [R, C], the largest IoU of each region with an object of each class; objects that are ignored
        count, so that none of their regions becomes background.
      labels: int [R], 0 to C - 1 for regions that are an object itself, -1 for others.
    """

    features: np.ndarray
    overlaps: np.ndarray
    labels: np.ndarray


def fit_svm(positives: np.ndarray, negatives: np.ndarray, config: SVMConfig = DEFAULT) -> np.ndarray:
    """Fits the SVM of a class with a squared hinge: scikit-learn's `LinearSVC`, which is liblinear.

    It minimizes |w|^2 / 2 + sum over examples of cost * max(0, 1 - sign * score)^2 for the score
    `features @ w[:-1] + intercept_scale * w[-1]`, so that the bias is held back as a weight is, only less.

    Args:
      positives: [P, D].
      negatives: [N, D].
      config: Of it, cost, positive_weight, intercept_scale, tolerance and iterations.

    Returns:
      float64 [D + 1]: w.

    Raises:
      DataError: No positives, no negatives, or features that are not finite.
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
    """Which regions of an image are negatives that each class's SVM gets wrong or nearly so.

    Args:
      scores: [R, C], those of the SVMs.
      overlaps: [R, C], see `Regions`.
      below: regions with an IoU of this or more are no negatives.
      hard: negatives that score above this are hard; the default is just beyond the margin.

    Returns:
      bool [R, C].
    """
    return (overlaps < below) & (scores > hard)


class _SVM:
    """One class's SVM, and the negatives that it learns from."""

    def __init__(self, positives: np.ndarray, config: SVMConfig) -> None:
        self.positives, self.config = positives, config
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.waiting: list[np.ndarray] = []
        self.weights: np.ndarray | None = None

    @property
    def fresh(self) -> int:
        return sum(map(len, self.waiting))

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns the scores of features; without weights all is hard."""
        if self.weights is None:
            return np.zeros(len(features))
        return features @ self.weights[:-1].astype(np.float32) + self.config.intercept_scale * self.weights[-1]

    def fit(self) -> None:
        """With what waits, after which easy negatives are let go."""
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

    The first pass gathers the objects and the features' mean length; each further one mines. An SVM is fitted again
    whenever `config.batch` hard negatives wait for it, and at the end of a pass.

    Args:
      images: gives the regions of every image, the same each time that it is called.
      num_classes: C.
      config: see `SVMConfig`.
      below: see `mine_hard_negatives`.

    Returns:
      `Linear` [D, C]. A class without objects scores -2 always, so that it is never reported.

    Raises:
      DataError: there are no regions at all, or features that are not finite.
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
    """The factor on features, and each class's objects as they came."""
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
