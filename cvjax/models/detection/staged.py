"""R-CNN and SPPnet share this detector: a net that describes regions, and classifiers that are learned after it.

1. The net is fine-tuned to tell C classes and background apart (`train=True`); its last layer is then thrown away.
2. A linear support vector machine for each class learns from the second dense layer
   (`cvjax.tasks.detection.staged.svm`).
3. A ridge regression for each class learns to move boxes, from the last pooled map
   (`cvjax.tasks.detection.staged.ridge`).

The results of stages 2 and 3 lie among the parameters, in `svm` and `regressor` (`cvjax.tasks.detection.staged.stages`
puts them there). Until then these are zero, and `scorer="softmax"` scores with the layer of stage 1.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.alexnet import AlexNet
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.region_classifier import cut_of
from cvjax.models.detection.regions import class_loss, on_image, sample_regions, select_detections
from cvjax.models.schema import default_module
from cvjax.nn import BatchNormOptions, gaussian, row_keys
from cvjax.ops.detection.boxes import decode


class Description(NamedTuple):
    """Holds the net's description of regions.

    Attributes:
      pooled: Last pooled map, flattened, float32 [B, R, D]. Boxes are regressed from it.
      hidden: Output of the second dense layer, float32 [B, R, hidden]. The support vector machines see it.
    """

    pooled: jax.Array
    hidden: jax.Array


class StagedDetector(nn.Module):
    """Detects objects by a classifier of regions; a subclass says in `describe` how it sees them.

    `cvjax.models.detection.detector` describes its inputs and outputs.

    Attributes:
      num_classes: Number of classes without background, C.
      backbone: Classifier with dense layers: an AlexNet, a VGG or a ZFNet.
      in_channels: Channels of the images.
      scorer: Scores of the detections. `svm` takes the support vector machines, and boxes that the regressor has moved.
        `softmax` takes the fine-tuned net's own scores, and the regions as they are.
      rois_per_image: Number of regions drawn from each image in training.
      positive_fraction: Largest fraction of them that are objects.
      fg_iou: IoU with an object from which a region is taken for it.
      bg_iou_low: Least IoU of background with an object.
      nms_threshold: IoU above which the worse of two boxes of a class is dropped.
      score_threshold: Score that a detection must exceed. None is -1, the margin of the support vector machines, or
        0.05 for a softmax.
      max_detections: Largest number of detections of an image, K.
      dropout: Rate of dropout behind the two dense layers.
      dtype: Type of the computation; parameters, losses and detections are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    needs_proposals = True

    num_classes: int
    backbone: nn.Module = default_module(AlexNet(0))
    in_channels: int = 3
    scorer: Literal["svm", "softmax"] = "svm"
    rois_per_image: int = 64
    positive_fraction: float = 0.25
    fg_iou: float = 0.5
    bg_iou_low: float = 0.0
    nms_threshold: float = 0.3
    score_threshold: float | None = None
    max_detections: int = 100
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        cut_of(self.backbone)  # says whether it can classify regions
        adopt(self, in_channels=self.in_channels, dropout=self.dropout, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    @property
    def display_threshold(self) -> float:
        """Returns the score from which a detection is worth showing.

        It is 0 for the signed distances of SVMs, and 0.5 for the probabilities of the net.
        """
        return 0.0 if self.scorer == "svm" else 0.5

    def setup(self) -> None:
        if self.scorer not in ("svm", "softmax"):
            raise ConfigError(f"scorer is 'svm' or 'softmax', not {self.scorer!r}")
        self.classifier = nn.Dense(self.num_classes + 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        # In float32 whatever the net computes in, as they were fitted.
        linear = partial(nn.Dense, kernel_init=nn.initializers.zeros, dtype=jnp.float32)
        self.svm = linear(self.num_classes)
        self.regressor = linear(self.num_classes * 4)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps; arguments and errors are its own."""
        return self.backbone.features(images, train)

    def describe(self, images: jax.Array, sizes: jax.Array, boxes: jax.Array, train: bool = False) -> Description:
        """Describes regions of images.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          sizes: Height and width of the real part of each image, [B, 2].
          boxes: Boxes [B, R, 4].
          train: Use dropout, and the batch's statistics.
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
        """Detects objects, or with `train=True` and `truth` returns the loss `class` of the first stage.

        Args:
          images, sizes: Images and the sizes of their real parts, as for `describe`.
          proposals: Boxes where objects may be.
          truth: Objects of the images.
          train: Use dropout (stream `dropout`), draw regions (stream `sample`), and use the batch's statistics.

        Raises:
          ConfigError: No proposals, or images that it cannot take.
        """
        proposals = on_image(proposals, sizes, type(self).__name__)
        if train and truth is not None:
            keys = row_keys(self, "sample", images.shape[0])
            sample = sample_regions(
                keys,
                proposals,
                truth,
                size=self.rois_per_image,
                positive_fraction=self.positive_fraction,
                fg_iou=self.fg_iou,
                bg_iou_low=self.bg_iou_low,
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
        """Returns scores of regions, float32 [B, R, C], and the boxes [B, R, C, 4] that each class gives to them."""
        shape = (*boxes.shape[:2], self.num_classes, 4)
        here = jnp.broadcast_to(boxes[:, :, None], shape)
        scores = None
        if self.scorer == "softmax" or self.is_initializing():
            scores = nn.softmax(self.classifier(described.hidden).astype(jnp.float32))[..., 1:]
        if scores is None or self.is_initializing():  # so that all parameters exist
            scores, deltas = self.svm(described.hidden), self.regressor(described.pooled)
            here = decode(deltas.reshape(shape), here)
        return scores, here
