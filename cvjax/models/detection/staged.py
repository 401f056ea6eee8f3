"""What R-CNN and SPPnet share: a net that describes regions, and classifiers that are learnt after it, stage by stage.

1. The net is fine-tuned to tell C classes and background apart (`train=True`); its last layer is then thrown away.
2. A linear support vector machine for each class learns from the second dense layer
   (`cvjax.tasks.detection.staged.svm`).
3. A ridge regression for each class learns to move boxes, from the last pooled map
   (`cvjax.tasks.detection.staged.ridge`).

What stages 2 and 3 found lies among the parameters, in `svm` and `regressor` (`cvjax.tasks.detection.staged.stages`
puts it there); until then these are zero, and `scorer="softmax"` scores with the layer of stage 1.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.encoder import make_encoder
from cvjax.models.detection.regions import class_loss, on_image, sample_regions, select_detections
from cvjax.nn import gaussian, row_keys
from cvjax.ops.detection.boxes import decode


class Description(NamedTuple):
    """What the net says about regions.

    Attributes:
      pooled: float32 [B, R, D], the last pooled map, flattened: what boxes are regressed from.
      hidden: float32 [B, R, hidden], the second dense layer's: what the support vector machines see.
    """

    pooled: jax.Array
    hidden: jax.Array


class StagedDetector(nn.Module):
    """A classifier of regions; subclasses say how it sees them. See `cvjax.models.detection.detector`.

    Attributes:
      num_classes: C, without background.
      encoder: name of a classifier with dense layers, whose parameters lie under `backbone`.
      encoder_options: of that classifier, such as `channels` and `hidden`.
      in_channels: of the images.
      scorer: `svm`, with boxes that the regressor has moved, or `softmax`, with the regions as they are.
      regions: drawn from each image in training.
      positive_share: most of them that are objects.
      threshold: least IoU of a region with the object that it is taken for.
      floor: least IoU of background with an object.
      nms_threshold: IoU above which the better of two boxes of a class suppresses the other.
      score_threshold: least score of what is reported; None is -1, the machines' margin, and 0.05 of a softmax.
      max_detections: K, of an image.
      dropout: of the two dense layers, in training.
      dtype: of the computation; parameters, losses and detections are float32.
      axis_name: the device axis under pmap, for BatchNorm, dropout and the drawing of regions.
      bn_momentum: decay of BatchNorm's running averages, where the encoder has some.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    needs_proposals = True

    num_classes: int
    encoder: str = ""
    encoder_options: Mapping[str, Any] = FrozenDict()
    in_channels: int = 3
    scorer: Literal["svm", "softmax"] = "svm"
    regions: int = 64
    positive_share: float = 0.25
    threshold: float = 0.5
    floor: float = 0.0
    nms_threshold: float = 0.3
    score_threshold: float | None = None
    max_detections: int = 100
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    @property
    def shown_score(self) -> float:
        """Machines say a signed distance, the net's own layer a probability."""
        return 0.0 if self.scorer == "svm" else 0.5

    def setup(self) -> None:
        if self.scorer not in ("svm", "softmax"):
            raise ConfigError(f"scorer is 'svm' or 'softmax', not {self.scorer!r}")
        passed_on = ("in_channels", "dropout", "axis_name", "bn_momentum", "freeze_bn")
        self.backbone = make_encoder(
            self.encoder, self.dtype, self.encoder_options, {name: getattr(self, name) for name in passed_on}
        )
        self.classifier = nn.Dense(self.num_classes + 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        # In float32 whatever the net computes in, as they were fitted.
        linear = partial(nn.Dense, kernel_init=nn.initializers.zeros, dtype=jnp.float32)
        self.svm = linear(self.num_classes)
        self.regressor = linear(self.num_classes * 4)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The encoder's maps; arguments and errors are its own."""
        return self.backbone.features(images, train)

    def describe(self, images: jax.Array, sizes: jax.Array, boxes: jax.Array, train: bool = False) -> Description:
        """What the net says about regions of images.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          sizes: [B, 2], height and width of what of each image is no padding.
          boxes: [B, R, 4].
          train: dropout, and the batch's statistics.
        """
        raise NotImplementedError

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects, or with `train=True` and `truth` gives the loss `class` of the first stage.

        Args:
          images, sizes: as for `describe`.
          proposals: where objects may be.
          truth: the objects.
          train: dropout (stream `dropout`), the drawing of regions (stream `sample`), the batch's statistics.

        Raises:
          ConfigError: no proposals, or images that it cannot take.
        """
        proposals = on_image(proposals, sizes, type(self).__name__)
        if train and truth is not None:
            keys = row_keys(self, "sample", images.shape[0])
            sample = sample_regions(
                keys,
                proposals,
                truth,
                size=self.regions,
                positive_share=self.positive_share,
                threshold=self.threshold,
                floor=self.floor,
            )
            described = self.describe(images, sizes, sample.boxes, train)
            return {"class": class_loss(self.classifier(described.hidden), sample)}
        described = self.describe(images, sizes, proposals.boxes, train)
        scores, boxes = self.score(described, proposals.boxes)
        least = self.score_threshold
        if least is None:
            least = -1.0 if self.scorer == "svm" else 0.05
        return select_detections(
            boxes,
            scores,
            proposals.valid,
            sizes,
            nms_threshold=self.nms_threshold,
            score_threshold=least,
            max_detections=self.max_detections,
        )

    def score(self, described: Description, boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scores float32 [B, R, C] of regions, and the boxes [B, R, C, 4] that each class would have."""
        shape = (*boxes.shape[:2], self.num_classes, 4)
        here = jnp.broadcast_to(boxes[:, :, None], shape)
        if self.scorer == "softmax" or self.is_initializing():
            scores = nn.softmax(self.classifier(described.hidden).astype(jnp.float32))[..., 1:]
        if self.scorer == "svm" or self.is_initializing():  # so that all parameters exist
            scores, deltas = self.svm(described.hidden), self.regressor(described.pooled)
            here = decode(deltas.reshape(shape), here)
        return scores, here
