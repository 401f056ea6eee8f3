"""Faster R-CNN (Ren et al., 1506.01497): proposals by a network on the backbone's maps, and a second stage on those.

On a VGG or ZF backbone, as in the paper, both stages read one map of stride 16. A region is max-pooled to the size that
the classifier's dense layers see. These layers start from ImageNet's weights too. With a feature pyramid, see
`cvjax.models.detection.faster_rcnn_fpn`.

Stages can be trained one by one, as in the paper's four steps (section 3.2). Each starts from the last one's weights:

1. `train_detector=False`: the proposals alone, from ImageNet's weights.
2. `train_rpn=False`, from ImageNet's weights again: the second stage alone. It trains on the proposals of step 1, which
   are given (`propose` makes them).
3. `train_detector=False, freeze_backbone=True`, from step 2: new proposals on its maps, which stay as they are.
4. `train_rpn=False, freeze_backbone=True`, from step 3: the second stage once more, on the same maps.

Frozen layers get no gradient. Weight decay and momentum would still move them; `OptimizerConfig.frozen` stops these.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.blocks.dense_head import DenseHead
from cvjax.models.classification.resnet import STAGES
from cvjax.models.classification.vgg import VGG
from cvjax.models.classification.zfnet import ZFNet
from cvjax.models.detection.box_predictor import BoxPredictor
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.faster_rcnn_checks import check_fields
from cvjax.models.detection.fpn import LEVELS, FeaturePyramid
from cvjax.models.detection.inclusive import pooled_corners
from cvjax.models.detection.region_classifier import STRIDE, cut_of
from cvjax.models.detection.regions import RegressionWeights, box_loss, class_loss, sample_regions, select_detections
from cvjax.models.detection.rpn import Level, RPNHead, Selection, propose, rpn_losses
from cvjax.models.detection.rpn_anchors import anchor_rows, net_anchors
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.nn import BatchNormOptions, row_keys
from cvjax.ops.detection.anchors import PAPER_SIZES
from cvjax.ops.detection.boxes import decode
from cvjax.ops.detection.corner_align import corner_align
from cvjax.ops.detection.roi import multilevel_roi_align, roi_pool
from cvjax.ops.geometry import pair

_MIN_SIZE = 1e-2  # of a detection in pixels, torchvision's


class FasterRCNN(nn.Module):
    """Detects objects by a backbone, a proposal network, and dense layers that classify the proposals.

    A feature pyramid may lie on the backbone.

    Pairs are (in training, in evaluation).

    Attributes:
      num_classes: Number of classes without background.
      backbone: Classifier with dense layers (VGG, ZFNet), or with a pyramid a net with maps `stage1` to `stage4`.
      fpn: Feature pyramid on the backbone's maps; None reads one map of stride 16.
      box_head: Two dense layers on a region; None takes the backbone's own.
      in_channels: Channels of the images.
      rpn_channels: Channels of the proposal network's 3x3 convolution, and of the pyramid.
      anchor_sizes: Square roots of the anchors' areas, in pixels. Without a pyramid, all lie on one map. With a
        pyramid, each of its five levels has one size (or a row of sizes).
      anchor_ratios: Ratios of height to width of the anchors.
      rpn_pre_nms_top_n: Number of best anchors of each map that suppression looks at.
      rpn_post_nms_top_n: Number of proposals of an image.
      rpn_nms_threshold: IoU above which the worse of two proposals is dropped.
      rpn_min_size: Least side of a proposal, in pixels.
      rpn_batch_size_per_image: Number of anchors of an image that train.
      rpn_border: Distance in pixels by which anchors that train may reach beyond their image; None trains all.
      rpn_beta: Distance from which the loss of anchors' boxes is a straight line, see `smooth_l1`.
      rois_per_image: Number of regions of an image that train the second stage.
      positive_fraction: Largest fraction of them that holds an object.
      bg_iou_low: Least IoU of background with an object. The paper's four steps have 0.1, which makes hard negatives of
        it. End-to-end training has 0.
      box_beta: Distance from which the loss of regions' boxes is a straight line.
      bbox_reg_weights: Weights of the second stage's targets, see `cvjax.ops.detection.boxes.encode`.
      score_threshold: Probability that a detection must exceed.
      nms_threshold: IoU above which the worse of two detections of a class is dropped.
      max_detections: Largest number of detections of an image.
      inclusive_boxes: Whether boxes' corners are pixels that belong to them, as in py-faster-rcnn and in jwyang's port;
        see `cvjax.models.detection.inclusive`. Boxes that go in and out are half-open in any case.
      round_anchors: Whether the sides of anchors of one map are rounded; chenyuntc's port does not.
      floor_pools: Drop the last row and column of an odd map in VGG's poolings, as the PyTorch ports do.
      region_reader: Operation that reads regions from one map: the paper's "roi_pool", or the "corner_align" that
        jwyang's published weights were trained with, see `cvjax.ops.detection.corner_align`.
      train_rpn: Have the losses of the proposals in training.
      train_detector: Have the losses of the second stage in training.
      freeze_backbone: Let no gradients reach the maps that both stages share. Their BatchNorm is then as in evaluation.
      dropout: Rate of dropout behind the backbone's dense layers, where the second stage takes them.
      dtype: Type of the layers' computation; parameters, boxes, scores and losses are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    num_classes: int
    backbone: nn.Module = default_module(VGG(0, ceil_mode=True))
    fpn: FeaturePyramid | None = None
    box_head: DenseHead | None = None
    in_channels: int = 3
    rpn_channels: int = 512
    anchor_sizes: tuple[float, ...] = PAPER_SIZES
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_pre_nms_top_n: tuple[int, int] = (12000, 6000)
    rpn_post_nms_top_n: tuple[int, int] = (2000, 300)
    rpn_nms_threshold: float = 0.7
    rpn_min_size: float = 16.0
    rpn_batch_size_per_image: int = 256
    rpn_border: float | None = 0.0
    rpn_beta: float = 1 / 9
    rois_per_image: int = 128
    positive_fraction: float = 0.25
    bg_iou_low: float = 0.0
    box_beta: float = 1.0
    bbox_reg_weights: RegressionWeights = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    max_detections: int = 100
    inclusive_boxes: bool = False
    round_anchors: bool = True
    floor_pools: bool = False
    region_reader: Literal["roi_pool", "corner_align"] = "roi_pool"
    train_rpn: bool = True
    train_detector: bool = True
    freeze_backbone: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        decided: dict[str, Any] = {"in_channels": self.in_channels, "dtype": self.dtype, "norm": self.norm}
        if self.fpn is None:
            decided |= {**cut_of(self.backbone).sliding, "dropout": self.dropout}
            if self.floor_pools:
                decided["ceil_mode"] = False
            adopt(self, **decided)
        else:
            adopt(self, **decided)
            adopt(self, "fpn", features=self.rpn_channels, dtype=self.dtype)
        if self.box_head is not None:
            adopt(self, "box_head", dtype=self.dtype)
        super().__post_init__()

    def setup(self) -> None:
        check_fields(self)
        rows = self._anchor_rows()
        self.rpn = RPNHead(self.rpn_channels, len(rows[0]) * len(self.anchor_ratios), self.dtype)
        self.predictor = BoxPredictor(self.num_classes, self.dtype)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps from shallow to deep, see its class, and with a pyramid the pyramid's.

        The pyramid's maps are `fpn_0` to `fpn_3` (strides 4 to 32) and `fpn_pool` (64). They have `rpn_channels`
        channels.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics, unless the backbone is frozen.

        Raises:
          ConfigError: Images that it cannot take.
        """
        maps = self.backbone.features(images, train and not self.freeze_backbone)
        if self.fpn is None:
            return maps
        return maps | dict(zip(LEVELS, self.fpn([maps[stage] for stage in STAGES])))

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array | None = None,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects objects, or with `train` returns the losses; see `cvjax.models.detection.detector`.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          sizes: Height and width of the real part of each image, [B, 2]; None means that there is no padding.
          proposals: Boxes to use instead of the net's own proposals.
          truth: Objects of the images, for training alone.
          train: Return the losses, with dropout (stream `dropout`), the batch's BatchNorm statistics, and random
            anchors and regions (stream `sample`).

        Returns:
          `Detections`, where K is `max_detections`. With `train` it is losses, float32 [B], under `rpn_object` and
          `rpn_box` (with `train_rpn`), and under `class` and `box` (with `train_detector`).

        Raises:
          ConfigError: Images that it cannot take, or training without truth.
        """
        if train and truth is None:
            raise ConfigError("a detector that trains needs the objects: pass truth, or train=False")
        sizes = _whole(images) if sizes is None else sizes
        maps, building = self._maps(images, train), self.is_initializing()
        rpn_trains = train and self.train_rpn
        levels = self._levels(images, maps) if proposals is None or rpn_trains or building else []
        losses: dict[str, jax.Array] = {}
        if rpn_trains:
            assert truth is not None  # as above
            losses |= rpn_losses(
                levels,
                sizes,
                truth,
                self._keys(images),
                samples=self.rpn_batch_size_per_image,
                beta=self.rpn_beta,
                border=self.rpn_border,
            )
        if train and not self.train_detector and not building:
            return losses
        proposals = propose(levels, sizes, self._selection(train)) if proposals is None else proposals
        if not train:
            logits, deltas = self._second_stage(maps, proposals.boxes, train)
            return select_detections(
                decode(deltas[:, :, 1:], proposals.boxes[:, :, None], self.bbox_reg_weights),
                nn.softmax(logits)[..., 1:],
                proposals.valid,
                sizes,
                nms_threshold=self.nms_threshold,
                score_threshold=self.score_threshold,
                max_detections=self.max_detections,
                min_size=_MIN_SIZE,
                inclusive=self.inclusive_boxes,
            )
        assert truth is not None
        drawn = sample_regions(
            self._keys(images),
            proposals,
            truth,
            size=self.rois_per_image,
            positive_fraction=self.positive_fraction,
            bg_iou_low=self.bg_iou_low,
        )
        logits, deltas = self._second_stage(maps, drawn.boxes, train)
        if not self.train_detector:
            return losses
        box = box_loss(deltas[:, :, 1:], drawn, self.bbox_reg_weights, self.box_beta)
        return losses | {"class": class_loss(logits, drawn), "box": box}

    def propose(self, images: jax.Array, sizes: jax.Array | None = None) -> Proposals:
        """Returns the proposals of evaluation; arguments and errors are those of a call.

        Returns:
          `Proposals`, best first, where P is `rpn_post_nms_top_n[1]`.
        """
        sizes = _whole(images) if sizes is None else sizes
        return propose(self._levels(images, self._maps(images, False)), sizes, self._selection(False))

    def _maps(self, images: jax.Array, train: bool) -> list[jax.Array]:
        """Returns the maps that both stages read."""
        features = self.features(images, train)
        maps = [features[cut_of(self.backbone).level]] if self.fpn is None else [features[level] for level in LEVELS]
        return lax.stop_gradient(maps) if self.freeze_backbone else maps

    def _levels(self, images: jax.Array, maps: list[jax.Array]) -> list[Level]:
        anchors = self.anchors(pair(images.shape[1:3]), maps)
        return [Level(*self.rpn(features), boxes) for features, boxes in zip(maps, anchors)]

    def anchors(self, image_size: tuple[int, int], maps: list[jax.Array]) -> list[np.ndarray]:
        """Returns the anchors of each map [B, H, W, C], float32 [H * W * A, 4], in pixels of images of that size."""
        return net_anchors(
            self._anchor_rows(),
            self.anchor_ratios,
            image_size,
            [pair(features.shape[1:3]) for features in maps],
            pyramid=self.fpn is not None,
            rounded=self.round_anchors,
        )

    def _anchor_rows(self) -> tuple[tuple[float, ...], ...]:
        return anchor_rows(self.anchor_sizes, self.fpn is not None)

    def _second_stage(self, maps: list[jax.Array], boxes: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Turns boxes [B, R, 4] into logits [B, R, 1 + C] and deltas [B, R, 1 + C, 4]."""
        # Image by image, so that under a mesh no device needs the maps of another.
        pooled = jax.vmap(lambda maps, boxes: self._pool([m[None] for m in maps], boxes))(maps, boxes)
        head = self.backbone.head if self.box_head is None else self.box_head
        hidden = head(pooled.reshape(-1, *pooled.shape[2:]), train)[:, 0, 0]
        logits, deltas = self.predictor(hidden)
        return logits.reshape(*boxes.shape[:2], -1), deltas.reshape(*boxes.shape[:2], -1, 4)

    def _pool(self, maps: list[jax.Array], boxes: jax.Array) -> jax.Array:
        """Reads boxes [R, 4] from the maps of one image [1, H, W, C], and returns [R, side, side, C]."""
        index = jnp.zeros(boxes.shape[:1], jnp.int32)
        if self.fpn is None:
            window = cut_of(self.backbone).window
            corners = pooled_corners(boxes, self.inclusive_boxes)
            read = corner_align if self.region_reader == "corner_align" else roi_pool
            return read(maps[0], corners, index, (window, window), spatial_scale=1 / STRIDE)
        assert self.box_head is not None  # see `check_fields`
        window = self.box_head.window
        # The coarsest level is for proposals alone.
        return multilevel_roi_align(maps[:-1], boxes, index, (window, window))

    def _keys(self, images: jax.Array) -> jax.Array:
        return row_keys(self, "sample", images.shape[0])

    def _selection(self, train: bool) -> Selection:
        pick = 0 if train else 1
        return Selection(
            self.rpn_pre_nms_top_n[pick],
            self.rpn_post_nms_top_n[pick],
            self.rpn_nms_threshold,
            self.rpn_min_size,
            self.inclusive_boxes,
        )


def _whole(images: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(images.shape[1:3], jnp.int32), (images.shape[0], 2))


def _variant(name: str, params: int, **settings: Any) -> Variant:
    info = ModelInfo(
        name=name,
        task="detection",
        paper="1506.01497",
        year=2015,
        image_size=600,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, FasterRCNN, settings)


VARIANTS = (
    _variant("faster_rcnn_vgg16", 137_073_622, backbone=VGG(0, ceil_mode=True)),
    _variant("faster_rcnn_zf", 59_292_438, backbone=ZFNet(0), rpn_channels=256),
)
