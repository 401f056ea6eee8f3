"""Faster R-CNN (Ren et al., 1506.01497) but for its maps: proposals by a network, and a second stage on those.

Stages can be trained one by one, as in the paper's four steps (section 3.2). Each starts from the last one's weights:

1. `train_detector=False`: the proposals alone, from ImageNet's weights.
2. `train_rpn=False`, from ImageNet's weights again: the second stage alone, on the proposals of step 1, which are
   given (`propose` makes them).
3. `train_detector=False, freeze_backbone=True`, from step 2: new proposals on its maps, which stay as they are.
4. `train_rpn=False, freeze_backbone=True`, from step 3: the second stage once more, on the same maps.

What is frozen gets no gradient. Weight decay and momentum would still move it; `OptimizerConfig.frozen` stops these.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cvjax.errors import ConfigError
from cvjax.models.detection.box_predictor import BoxPredictor
from cvjax.models.detection.detector import Detections, Proposals, Truth
from cvjax.models.detection.regions import BoxWeights, box_loss, class_loss, sample_regions, select_detections
from cvjax.models.detection.rpn import Level, RPNHead, Selection, propose, rpn_losses
from cvjax.nn import row_keys
from cvjax.ops.detection.boxes import decode

_LEAST_SIDE = 1e-2  # of a detection in pixels, torchvision's


class RegionDetector(nn.Module):
    """A two-stage detector, see the module; subclasses add the maps, their anchors, and the layers on a region.

    Pairs are (in training, in evaluation).

    Attributes:
      num_classes: without background.
      in_channels: of the images.
      rpn_channels: of the proposal network's 3x3 convolution.
      anchor_ratios: height by width of the anchors.
      rpn_before: best anchors of each map that suppression looks at.
      rpn_after: proposals of an image.
      rpn_nms_threshold: IoU above which the worse of two proposals is dropped.
      rpn_least_side: shorter proposals are dropped, in pixels.
      rpn_samples: anchors of an image that train.
      rpn_border: anchors that reach farther beyond their image do not train, in pixels; None: all do.
      rpn_beta, box_beta: where the losses of boxes become straight lines, see `smooth_l1`.
      regions: regions of an image that train the second stage.
      positive_share: at most this part of them holds an object.
      floor: least IoU with an object of those that do not; the paper's four steps have 0.1, which makes hard
        negatives of them, and end-to-end training 0.
      box_weights: of the second stage's targets, see `cvjax.ops.detection.boxes.encode`.
      score_threshold: detections with a probability of this or less are dropped.
      nms_threshold: IoU above which the worse of two detections of a class is dropped.
      max_detections: of an image.
      train_rpn: training has the losses of the proposals.
      train_detector: training has the losses of the second stage.
      freeze_backbone: no gradients reach the maps that both stages share, and their BatchNorm is as in evaluation.
      dtype: of the layers' computation; parameters, boxes, scores and losses are float32.
      axis_name: the device axis under pmap: BatchNorm's statistics, dropout and the draws of the stream `sample`.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    in_channels: int = 3
    rpn_channels: int = 512
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_before: tuple[int, int] = (12000, 6000)
    rpn_after: tuple[int, int] = (2000, 300)
    rpn_nms_threshold: float = 0.7
    rpn_least_side: float = 16.0
    rpn_samples: int = 256
    rpn_border: float | None = 0.0
    rpn_beta: float = 1 / 9
    regions: int = 128
    positive_share: float = 0.25
    floor: float = 0.0
    box_beta: float = 1.0
    box_weights: BoxWeights = (10.0, 10.0, 5.0, 5.0)
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    max_detections: int = 100
    train_rpn: bool = True
    train_detector: bool = True
    freeze_backbone: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        self._check_fields()
        self.backbone = self.make_backbone()
        self.rpn = RPNHead(self.rpn_channels, self.anchors_of_place(), self.dtype)
        self.predictor = BoxPredictor(self.num_classes, self.dtype)

    def make_backbone(self) -> nn.Module:
        """The part whose parameters may come from an ImageNet classifier; it has `features(images, train)`."""
        raise NotImplementedError

    def anchors_of_place(self) -> int:
        """Anchors of one place of a map."""
        raise NotImplementedError

    def anchors(self, image_size: tuple[int, int], maps: list[jax.Array]) -> list[np.ndarray]:
        """float32 [H * W * A, 4] for each map [B, H, W, C], in pixels of images of (height, width)."""
        raise NotImplementedError

    def select_maps(self, features: dict[str, jax.Array]) -> list[jax.Array]:
        """Of `features`, the maps that both stages read."""
        raise NotImplementedError

    def pool_regions(self, maps: list[jax.Array], boxes: jax.Array) -> jax.Array:
        """The maps of one image [1, H, W, C] and boxes [R, 4] -> [R, h, w, C]. Has no parameters."""
        raise NotImplementedError

    def embed_regions(self, regions: jax.Array, train: bool) -> jax.Array:
        """What `pool_regions` gives, of all images, -> float [R, hidden]."""
        raise NotImplementedError

    def layer_options(self) -> dict[str, Any]:
        """The fields that every backbone takes."""
        return {
            "in_channels": self.in_channels,
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "bn_momentum": self.bn_momentum,
            "freeze_bn": self.freeze_bn,
        }

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Named maps from shallow to deep, see the class of the backbone.

        Raises:
          ConfigError: images that it cannot take.
        """
        return self.backbone.features(images, train and not self.freeze_backbone)

    def __call__(
        self,
        images: jax.Array,
        sizes: jax.Array | None = None,
        proposals: Proposals | None = None,
        truth: Truth | None = None,
        train: bool = False,
    ) -> Detections | dict[str, jax.Array]:
        """Detects objects, or measures how badly; see `cvjax.models.detection.detector`.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          sizes: [B, 2], height and width of what is not padding; None: there is no padding.
          proposals: to be used instead of those of the net.
          truth: the objects; for training alone.
          train: the losses, with dropout (stream `dropout`), the batch's BatchNorm statistics, and random anchors and
            regions (stream `sample`).

        Returns:
          `Detections`, K = max_detections; or with `train` float32 [B] under `rpn_object` and `rpn_box` (with
          `train_rpn`), `class` and `box` (with `train_detector`).

        Raises:
          ConfigError: images that it cannot take, or training without truth.
        """
        if train and truth is None:
            raise ConfigError("a detector that trains needs the objects: pass truth, or train=False")
        sizes = _whole(images) if sizes is None else sizes
        maps, building = self._maps(images, train), self.is_initializing()
        rpn_trains = train and self.train_rpn
        levels = self._levels(images, maps) if proposals is None or rpn_trains or building else []
        losses: dict[str, jax.Array] = {}
        if rpn_trains:
            losses |= rpn_losses(
                levels,
                sizes,
                truth,
                self._keys(images),
                samples=self.rpn_samples,
                beta=self.rpn_beta,
                border=self.rpn_border,
            )
        if train and not self.train_detector and not building:
            return losses
        proposals = propose(levels, sizes, self._selection(train)) if proposals is None else proposals
        if not train:
            logits, deltas = self._second_stage(maps, proposals.boxes, train)
            return select_detections(
                decode(deltas[:, :, 1:], proposals.boxes[:, :, None], self.box_weights),
                nn.softmax(logits)[..., 1:],
                proposals.valid,
                sizes,
                nms_threshold=self.nms_threshold,
                score_threshold=self.score_threshold,
                max_detections=self.max_detections,
                least_side=_LEAST_SIDE,
            )
        drawn = sample_regions(
            self._keys(images),
            proposals,
            truth,
            size=self.regions,
            positive_share=self.positive_share,
            floor=self.floor,
        )
        logits, deltas = self._second_stage(maps, drawn.boxes, train)
        if not self.train_detector:
            return losses
        box = box_loss(deltas[:, :, 1:], drawn, self.box_weights, self.box_beta)
        return losses | {"class": class_loss(logits, drawn), "box": box}

    def propose(self, images: jax.Array, sizes: jax.Array | None = None) -> Proposals:
        """The proposals of evaluation: the same arguments and errors as for a call.

        Returns:
          `Proposals`, best first, P = rpn_after[1].
        """
        sizes = _whole(images) if sizes is None else sizes
        return propose(self._levels(images, self._maps(images, False)), sizes, self._selection(False))

    def _maps(self, images: jax.Array, train: bool) -> list[jax.Array]:
        maps = self.select_maps(self.features(images, train))
        return lax.stop_gradient(maps) if self.freeze_backbone else maps

    def _levels(self, images: jax.Array, maps: list[jax.Array]) -> list[Level]:
        anchors = self.anchors(images.shape[1:3], maps)
        return [Level(*self.rpn(features), boxes) for features, boxes in zip(maps, anchors)]

    def _second_stage(self, maps: list[jax.Array], boxes: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Boxes [B, R, 4] -> logits [B, R, 1 + C] and deltas [B, R, 1 + C, 4]."""
        # Image by image, so that under a mesh no device needs the maps of another.
        pooled = jax.vmap(lambda maps, boxes: self.pool_regions([m[None] for m in maps], boxes))(maps, boxes)
        flat = pooled.reshape(-1, *pooled.shape[2:])
        logits, deltas = self.predictor(self.embed_regions(flat, train))
        return logits.reshape(*boxes.shape[:2], -1), deltas.reshape(*boxes.shape[:2], -1, 4)

    def _keys(self, images: jax.Array) -> jax.Array:
        return row_keys(self, "sample", images.shape[0])

    def _selection(self, train: bool) -> Selection:
        pick = 0 if train else 1
        return Selection(self.rpn_before[pick], self.rpn_after[pick], self.rpn_nms_threshold, self.rpn_least_side)

    def _check_fields(self) -> None:
        if self.num_classes < 1:
            raise ConfigError(f"a detector has at least one class beside background, not {self.num_classes}")
        counts = (*self.rpn_before, *self.rpn_after, self.rpn_samples, self.regions, self.max_detections)
        if min(counts) < 1:
            raise ConfigError("rpn_before, rpn_after, rpn_samples, regions and max_detections are at least 1 each")
        if min(*self.box_weights, self.rpn_beta, self.box_beta) <= 0:
            raise ConfigError("box_weights, rpn_beta and box_beta are above 0")
        if not 0 <= self.positive_share <= 1 or not 0 <= self.floor <= 0.5:
            raise ConfigError(
                f"positive_share is a part of the regions and floor an IoU of at most 0.5; they are "
                f"{self.positive_share} and {self.floor}"
            )


def _whole(images: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(images.shape[1:3], jnp.int32), (images.shape[0], 2))
