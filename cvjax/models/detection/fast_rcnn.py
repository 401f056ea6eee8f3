"""Fast R-CNN (Girshick, 1504.08083): one pass over the image, and every region read from its last map.

Each region is pooled to a grid of fixed size, goes through the classifier's two dense layers, and is classified and
moved at once by two layers that are learnt together, with everything before them. A training step reads many regions of
few images, which share their convolutions.

Most of the time of a test goes into the dense layers, since there are thousands of regions: `svd_ranks` divides each
into two thinner ones, whose weights `cvjax.weights.compress` makes of those of a trained net.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from cvjax.models.classification.dense_head import DenseHead
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.encoder import STRIDE, make_encoder, tap_of
from cvjax.models.detection.regions import (
    BoxWeights,
    box_loss,
    class_loss,
    on_image,
    sample_regions,
    select_detections,
)
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import gaussian, row_keys
from cvjax.ops.detection.boxes import decode
from cvjax.ops.detection.roi import roi_pool


class FastRCNN(nn.Module):
    """A convolutional body, RoI pooling, dense layers, and two heads. See `cvjax.models.detection.detector`.

    Attributes:
      num_classes: C, without background.
      encoder: name of a classifier with dense layers, whose parameters lie under `backbone`.
      encoder_options: of that classifier, such as `widths` and `hidden`.
      in_channels: of the images.
      regions: drawn from each image in training; the paper draws 64 of each of two images.
      positive_share: most of them that are objects.
      threshold: least IoU of a region with the object that it is taken for.
      floor: least IoU of background with an object.
      box_weights: of the regression's targets, which bring them to a variance of about 1.
      svd_ranks: of fc6 and fc7, for two thin layers in the place of each; None for full ones.
      nms_threshold: IoU above which the better of two boxes of a class suppresses the other.
      score_threshold: least probability of what is reported.
      max_detections: K, of an image.
      dropout: of the two dense layers, in training.
      dtype: of the computation; parameters, losses and detections are float32.
      axis_name: the device axis under pmap, for BatchNorm, dropout and the drawing of regions.
      bn_momentum: decay of BatchNorm's running averages, where the encoder has some.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    needs_proposals = True

    num_classes: int
    encoder: str = "vgg16"
    encoder_options: Mapping[str, Any] = FrozenDict()
    in_channels: int = 3
    regions: int = 64
    positive_share: float = 0.25
    threshold: float = 0.5
    floor: float = 0.1
    box_weights: BoxWeights = (10.0, 10.0, 5.0, 5.0)
    svd_ranks: tuple[int, int] | None = None
    nms_threshold: float = 0.3
    score_threshold: float = 0.05
    max_detections: int = 100
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        tap = tap_of(self.encoder)
        passed_on = ("in_channels", "dropout", "axis_name", "bn_momentum", "freeze_bn")
        self.backbone = make_encoder(
            self.encoder,
            self.dtype,
            {**tap.options, **self.encoder_options},
            {name: getattr(self, name) for name in passed_on},
        )
        if self.svd_ranks is not None:
            full = self.backbone
            self.dense = DenseHead(
                0,
                window=tap.window,
                hidden=full.hidden,
                dropout=self.dropout,
                ranks=self.svd_ranks,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )
        dense = partial(nn.Dense, dtype=self.dtype)
        self.classifier = dense(self.num_classes + 1, kernel_init=gaussian(0.01))
        self.regressor = dense(self.num_classes * 4, kernel_init=gaussian(0.001))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The encoder's maps; arguments and errors are its own."""
        return self.backbone.features(images, train)

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects, or with `train=True` and `truth` gives the losses `class` and `box`.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          sizes: [B, 2], height and width of what of each image is no padding.
          proposals: where objects may be.
          truth: the objects.
          train: dropout (stream `dropout`), the drawing of regions (stream `sample`), the batch's statistics.

        Raises:
          ConfigError: no proposals, or images that it cannot take.
        """
        proposals = on_image(proposals, sizes, type(self).__name__)
        maps = self.features(images, train)[tap_of(self.encoder).map]
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
            logits, deltas = self.classify(maps, sample.boxes, train)
            return {"class": class_loss(logits, sample), "box": box_loss(deltas, sample, self.box_weights)}
        logits, deltas = self.classify(maps, proposals.boxes, train)
        return select_detections(
            decode(deltas, proposals.boxes[:, :, None], self.box_weights),
            nn.softmax(logits)[..., 1:],
            proposals.valid,
            sizes,
            nms_threshold=self.nms_threshold,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
        )

    def classify(self, maps: jax.Array, boxes: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """What the heads say about regions.

        Args:
          maps: [B, h, w, D], the encoder's.
          boxes: [B, R, 4], in pixels of the images.
          train: dropout.

        Returns:
          float32 logits [B, R, C + 1], background first, and deltas [B, R, C, 4].
        """
        batch, count = boxes.shape[:2]
        window = tap_of(self.encoder).window
        # Image by image, so that under a mesh the maps of each stay on its device.
        pool = partial(roi_pool, output_size=(window, window), spatial_scale=1 / STRIDE)
        pooled = jax.vmap(lambda m, b: pool(m[None], b, jnp.zeros(count, jnp.int32)))(maps, boxes)
        head = self.backbone.head if self.svd_ranks is None else self.dense
        hidden = head(pooled.reshape(batch * count, window, window, -1), train).reshape(batch, count, -1)
        logits, deltas = (layer(hidden).astype(jnp.float32) for layer in (self.classifier, self.regressor))
        return logits, deltas.reshape(batch, count, self.num_classes, 4)


def _variant(encoder: str, params: int) -> Variant:
    info = ModelInfo(
        name=f"fast_rcnn_{encoder}",
        task="detection",
        paper="1504.08083",
        year=2015,
        image_size=600,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, FastRCNN, {"encoder": encoder})


VARIANTS = (_variant("vgg16", 134_674_341), _variant("alexnet", 57_417_637))
