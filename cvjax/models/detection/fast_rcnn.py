"""Fast R-CNN (Girshick, 1504.08083): one pass over the image, and every region read from its last map.

Each region is pooled to a grid of fixed size and goes through the classifier's two dense layers. Two more layers then
classify and move it at once. They are learned together with all layers before them. A training step reads many regions
of few images, which share their convolutions.

Most of the time of a test goes into the dense layers, since there are thousands of regions. `svd_ranks` divides each of
them into two thinner ones. `cvjax.weights.compress` makes their weights from those of a trained net.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbones import adopt
from cvjax.models.blocks.dense_head import DenseHead
from cvjax.models.classification.alexnet import AlexNet
from cvjax.models.classification.vgg import VGG
from cvjax.models.classification.zfnet import ZFNet
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.inclusive import pooled_corners
from cvjax.models.detection.region_classifier import STRIDE, cut_of
from cvjax.models.detection.regions import (
    RegressionWeights,
    box_loss,
    class_loss,
    on_image,
    sample_regions,
    select_detections,
)
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.nn import BatchNormOptions, gaussian, row_keys
from cvjax.ops.detection.boxes import decode
from cvjax.ops.detection.roi import roi_pool


class FastRCNN(nn.Module):
    """Detects objects by a convolutional body, RoI pooling, dense layers and two heads.

    `cvjax.models.detection.detector` describes its inputs and outputs.

    Attributes:
      num_classes: Number of classes without background, C.
      backbone: Classifier with dense layers: a VGG, an AlexNet or a ZFNet.
      in_channels: Channels of the images.
      rois_per_image: Number of regions drawn from each image in training; the paper draws 64 of each of two images.
      positive_fraction: Largest fraction of them that are objects.
      fg_iou: IoU with an object from which a region is taken for it.
      bg_iou_low: Least IoU of background with an object.
      bbox_reg_weights: Weights of the regression's targets, which bring them to a variance of about 1.
      svd_ranks: Ranks of fc6 and fc7, for two thin layers in the place of each; None for full ones.
      nms_threshold: IoU above which the worse of two boxes of a class is dropped.
      score_threshold: Probability that a detection must exceed.
      max_detections: Largest number of detections of an image, K.
      inclusive_boxes: Whether boxes' corners are pixels that belong to them, as in the authors' release; see
        `cvjax.models.detection.inclusive`. Boxes that go in and out are half-open in any case.
      dropout: Rate of dropout behind the two dense layers.
      dtype: Type of the computation; parameters, losses and detections are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    needs_proposals = True

    num_classes: int
    backbone: nn.Module = default_module(VGG(0, ceil_mode=True))
    in_channels: int = 3
    rois_per_image: int = 64
    positive_fraction: float = 0.25
    fg_iou: float = 0.5
    bg_iou_low: float = 0.1
    bbox_reg_weights: RegressionWeights = (10.0, 10.0, 5.0, 5.0)
    svd_ranks: tuple[int, int] | None = None
    nms_threshold: float = 0.3
    score_threshold: float = 0.05
    max_detections: int = 100
    inclusive_boxes: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(
            self,
            in_channels=self.in_channels,
            dropout=self.dropout,
            dtype=self.dtype,
            norm=self.norm,
            **cut_of(self.backbone).sliding,
        )
        super().__post_init__()

    def setup(self) -> None:
        if self.svd_ranks is not None:
            self.dense = DenseHead(
                0,
                window=cut_of(self.backbone).window,
                hidden=self.backbone.hidden,
                dropout=self.dropout,
                ranks=self.svd_ranks,
                dtype=self.dtype,
            )
        dense = partial(nn.Dense, dtype=self.dtype)
        # The deviations are the paper's (section 2.3).
        self.classifier = dense(self.num_classes + 1, kernel_init=gaussian(0.01))
        self.regressor = dense(self.num_classes * 4, kernel_init=gaussian(0.001))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps; arguments and errors are its own."""
        return self.backbone.features(images, train)

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects objects, or with `train=True` and `truth` returns the losses `class` and `box`.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          sizes: Height and width of the real part of each image, [B, 2].
          proposals: Boxes where objects may be.
          truth: Objects of the images.
          train: Use dropout (stream `dropout`), draw regions (stream `sample`), and use the batch's statistics.

        Raises:
          ConfigError: No proposals, or images that it cannot take.
        """
        proposals = on_image(proposals, sizes, type(self).__name__)
        maps = self.features(images, train)[cut_of(self.backbone).level]
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
            logits, deltas = self.classify(maps, sample.boxes, train)
            return {"class": class_loss(logits, sample), "box": box_loss(deltas, sample, self.bbox_reg_weights)}
        logits, deltas = self.classify(maps, proposals.boxes, train)
        return select_detections(
            decode(deltas, proposals.boxes[:, :, None], self.bbox_reg_weights),
            nn.softmax(logits)[..., 1:],
            proposals.valid,
            sizes,
            nms_threshold=self.nms_threshold,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
            inclusive=self.inclusive_boxes,
        )

    def classify(self, maps: jax.Array, boxes: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Classifies regions by the heads.

        Args:
          maps: Maps of the backbone, [B, h, w, D].
          boxes: Boxes [B, R, 4] in pixels of the images.
          train: Whether to use dropout.

        Returns:
          Logits [B, R, C + 1], background first, and deltas [B, R, C, 4], float32.
        """
        batch, count = boxes.shape[:2]
        window = cut_of(self.backbone).window
        # Image by image, so that under a mesh the maps of each stay on its device.
        pool = partial(roi_pool, output_size=(window, window), spatial_scale=1 / STRIDE)
        corners = pooled_corners(boxes, self.inclusive_boxes)
        pooled = jax.vmap(lambda m, b: pool(m[None], b, jnp.zeros(count, jnp.int32)))(maps, corners)
        head = self.backbone.head if self.svd_ranks is None else self.dense
        hidden = head(pooled.reshape(batch * count, window, window, -1), train).reshape(batch, count, -1)
        logits, deltas = (layer(hidden).astype(jnp.float32) for layer in (self.classifier, self.regressor))
        return logits, deltas.reshape(batch, count, self.num_classes, 4)


def _variant(name: str, params: int, backbone: nn.Module) -> Variant:
    info = ModelInfo(
        name=f"fast_rcnn_{name}",
        task="detection",
        paper="1504.08083",
        year=2015,
        image_size=600,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, FastRCNN, {"backbone": backbone})


# VGG_CNN_M_1024 (Chatfield et al., 1405.3531): a wider ZFNet with the paddings of its authors.
_CNN_M = ZFNet(
    0, channels=(96, 256, 512, 512, 512), paddings=(0, 1), pool_padding=0, ceil_mode=True, hidden=(4096, 1024)
)
VARIANTS = (
    _variant("vgg16", 134_674_341, VGG(0, ceil_mode=True)),
    _variant("vgg_cnn_m", 86_329_061, _CNN_M),
    _variant("alexnet", 57_417_637, AlexNet(0, stem_padding=5, pool_padding=1)),
)
