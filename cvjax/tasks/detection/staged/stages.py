"""Fits the stages of R-CNN and SPPnet that follow their net: SVMs, and the regression that moves boxes.

The net computes the features of every proposal and every object of every image at least twice. The first pass collects
the features of the objects, and the pairs of a proposal and the object that it nearly covers. Each round of mining is
another pass. No other features stay in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError
from cvjax.ops.detection.boxes import clip, encode, pairwise_iou
from cvjax.tasks.detection.staged.ridge import fit_ridge
from cvjax.tasks.detection.staged.svm import DEFAULT, Linear, Regions, SVMConfig, fit_svms

Describe = Callable[[Any, Any, Any], tuple[jax.Array, jax.Array]]
"""Function (images, sizes, boxes [B, R, 4]) -> features for the regression [B, R, D] and for the SVMs [B, R, H]."""


class RegionBatch(NamedTuple):
    """Holds images with their proposals and objects; those two are as in `cvjax.models.detection.detector`.

    Attributes:
      images: Images [B, H, W, C], as the net takes them.
      sizes: Height and width of each image without padding, int [B, 2].
      proposals: Proposals with `boxes` [B, P, 4] and `valid` [B, P].
      truth: Objects with `boxes` [B, N, 4], `labels`, `ignore` and `valid` [B, N].
    """

    images: Any
    sizes: Any
    proposals: Any
    truth: Any


class Pairs(NamedTuple):
    """Holds the proposals of one image that nearly cover an object, as training data of the regression.

    Attributes:
      features: Features of the proposals, float32 [n, D].
      targets: Targets of the regression, float32 [n, 4]: `cvjax.ops.detection.boxes.encode` of object and proposal.
      labels: Labels of the objects, int [n].
      lengths: Norms of the features of all regions, float [R].
    """

    features: np.ndarray
    targets: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray


def fit_stages(
    describe: Describe,
    batches: Callable[[], Iterable[RegionBatch]],
    num_classes: int,
    *,
    svm: SVMConfig = DEFAULT,
    penalty: float = 1000.0,
    near: float = 0.6,
    most_pairs: int = 20_000,
    seed: int = 0,
) -> dict[str, Linear]:
    """Fits the SVMs and the regression.

    Args:
      describe: Compiled net.
      batches: Function that gives all batches, the same each time.
      num_classes: Number of classes, C.
      svm: Options of the SVMs; its `feature_norm` applies to the features of the regression, too.
      penalty: Penalty of the regression.
      near: IoU above which a proposal is paired with the object that it overlaps most.
      most_pairs: Largest number of pairs per class; a random subset is kept beyond it.
      seed: Seed of that random choice.

    Returns:
      {"svm": [H, C], "regressor": [D, 4 * C]}; for a class without pairs the regression leaves boxes unchanged.

    Raises:
      DataError: There are no regions, or a feature is not finite.
    """
    regressors = _Pairs(num_classes, most_pairs, seed)
    collecting = True

    def images() -> Iterator[Regions]:
        nonlocal collecting
        for regions, pairs in describe_images(describe, batches(), num_classes, near):
            if collecting:
                regressors.add(pairs)
            yield regions
        collecting = False

    svms = fit_svms(images, num_classes, svm)
    return {"svm": svms, "regressor": regressors.fit(penalty, svm.feature_norm)}


def install(variables: Mapping[str, Any], fitted: Mapping[str, Linear]) -> dict[str, Any]:
    """Returns the variables of a net with the fitted functions in the layers of the same names.

    Raises:
      ConfigError: The net has no such layer, or one of another shape.
    """
    params = dict(variables["params"])
    for name, linear in fitted.items():
        ours = {part: jnp.asarray(value) for part, value in linear._asdict().items()}
        theirs = params.get(name, {})
        if jax.tree.map(jnp.shape, dict(theirs)) != jax.tree.map(jnp.shape, ours):
            raise ConfigError(
                f"the net has no layer {name} of shape {linear.kernel.shape}; fit the stages for the net they go into"
            )
        params[name] = ours
    return {**variables, "params": params}


def describe_images(
    describe: Describe, batches: Iterable[RegionBatch], num_classes: int, near: float = 0.6
) -> Iterator[tuple[Regions, Pairs]]:
    """Yields the training data of the SVMs and the regression from each image, without padding."""
    for batch in batches:
        boxes = jnp.concatenate([jnp.asarray(batch.truth.boxes), jnp.asarray(batch.proposals.boxes)], axis=1)
        sizes = jnp.asarray(batch.sizes)
        boxes = np.asarray(clip(boxes, (sizes[:, :1], sizes[:, 1:])))  # as the detector does with them
        pooled, hidden = (np.asarray(x) for x in describe(batch.images, batch.sizes, boxes))
        for row in range(len(boxes)):
            truth = jax.tree.map(lambda x: np.asarray(x)[row], batch.truth)  # noqa: B023
            valid = np.concatenate([truth.valid & ~truth.ignore, np.asarray(batch.proposals.valid)[row]])
            yield _of_image(boxes[row], valid, truth, pooled[row], hidden[row], num_classes, near)


def _of_image(
    boxes: np.ndarray,
    valid: np.ndarray,
    truth: Any,
    pooled: np.ndarray,
    hidden: np.ndarray,
    num_classes: int,
    near: float,
) -> tuple[Regions, Pairs]:
    count = len(truth.boxes)
    table = np.asarray(pairwise_iou(jnp.asarray(boxes), truth.boxes)) * truth.valid  # [R, N]
    overlaps = np.zeros((len(boxes), num_classes), np.float32)
    for label in np.unique(truth.labels[truth.valid]):
        overlaps[:, label] = table[:, truth.labels == label].max(1)
    is_object = np.arange(len(boxes)) < count
    labels = np.where(is_object, np.pad(truth.labels, (0, len(boxes) - count)), -1)
    sides = boxes[:, 2:] - boxes[:, :2]
    valid = valid & (sides > 0).all(1)
    regions = Regions(hidden[valid], overlaps[valid], labels[valid])

    learnt = table * ~truth.ignore
    best = learnt.max(1, initial=0)
    moved = valid & ~is_object & (best > near)
    taken = learnt[moved].argmax(1) if count else np.zeros(0, int)
    targets = np.asarray(encode(truth.boxes[taken], jnp.asarray(boxes[moved])))
    lengths = np.linalg.norm(pooled[valid], axis=1)
    return regions, Pairs(pooled[moved], targets, truth.labels[taken], lengths)


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # lots, features, targets


class _Pairs:
    """Keeps the pairs of each class; beyond the limit, a uniform random subset."""

    def __init__(self, num_classes: int, most: int, seed: int) -> None:
        self.num_classes, self.most = num_classes, most
        self.random = np.random.default_rng(seed)
        self.kept: dict[int, list[_Rows]] = {}
        self.length, self.count, self.width = 0.0, 0, 0

    def add(self, pairs: Pairs) -> None:
        self.length += float(pairs.lengths.sum(dtype=np.float64))
        self.count += len(pairs.lengths)
        self.width = pairs.features.shape[1]
        for label in np.unique(pairs.labels):
            own = pairs.labels == label
            rows = self.kept.setdefault(int(label), [])
            rows.append((self.random.random(own.sum()), pairs.features[own], pairs.targets[own]))
            if sum(len(lots) for lots, *_ in rows) > 2 * self.most:
                self.kept[int(label)] = [self._thinned(rows)]

    def _thinned(self, rows: list[_Rows]) -> _Rows:
        lots, features, targets = (np.concatenate(parts) for parts in zip(*rows))
        lowest = np.argsort(lots, kind="stable")[: self.most]
        return lots[lowest], features[lowest], targets[lowest]

    def fit(self, penalty: float, feature_norm: float | None) -> Linear:
        mean = self.length / max(self.count, 1)
        scale = np.float32(1.0 if feature_norm is None or mean == 0 else feature_norm / mean)
        kernel = np.zeros((self.width, self.num_classes, 4), np.float32)
        bias = np.zeros((self.num_classes, 4), np.float32)
        for label, rows in self.kept.items():
            _, features, targets = self._thinned(rows)
            found = fit_ridge(features * scale, targets, penalty)
            kernel[:, label], bias[label] = found.kernel * scale, found.bias
        return Linear(kernel.reshape(self.width, -1), bias.reshape(-1))
