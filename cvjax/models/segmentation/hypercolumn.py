"""Hypercolumns (Hariharan, Arbelaez, Girshick and Malik, 1411.5752): what all depths of a net say about a pixel.

A pixel's hypercolumn is the stack of the activations above it, at several depths of VGG-16, each map interpolated to
the image's size. A linear classifier is never applied to the stack itself: interpolation is linear, too, so each map is
scored at its own resolution, and the scores are interpolated and added, as the paper does. The result is the same up to
rounding, without the memory for a stack of 4,736 channels a pixel; `hypercolumns` computes that stack.

The net classifies all pixels of an image, or the pixels of boxes into object and background (`method="masks"`), where a
K x K grid of classifiers divides the box, as what an object looks like depends on where in its box one looks.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.vgg import VGG
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNormOptions, TorchConv, Upsample, Upsampling, gaussian
from cvjax.ops.detection.roi import roi_align
from cvjax.ops.resize import bilinear_matrix
from cvjax.ops.upsample import upsample

STRIDES = {f"stage{i}": 2 ** (i - 1) for i in range(1, 6)} | {f"pool{i}": 2**i for i in range(1, 6)} | {"fc7": 32}
"""Maps that may be levels of a hypercolumn, and the pixels of the image per pixel of each."""


class Hypercolumn(nn.Module):
    """Classifies hypercolumns linearly: each map of a convolutional VGG is scored, and the scores are added.

    All layers pad by half their window, and poolings round up, so that pixel j of a map of stride s lies over the
    pixels [s * j, s * (j + 1)) of the image.

    Attributes:
      num_classes: Channels of the logits.
      backbone: VGG, whose dense layers slide over the map and may start from ImageNet's weights, too.
      in_channels: Channels of the images.
      levels: Names of the maps that a hypercolumn is made of, out of `STRIDES`; by default those of the paper's
        example.
      kernel_size: Side of what each classifier sees of a map, in its pixels; 1 is the hypercolumn alone.
      upsampling: Kind of the scores' upsampling, see `cvjax.nn.Upsampling`; None, the paper's, interpolates without
        parameters.
      grid: Number of classifiers along each side of a box, K.
      mask_size: Number of pixels along each side of a mask, S; 50 in the paper.
      dtype: Type of the computation; parameters, interpolation and logits are float32.
      norm: Options of the backbone's BatchNorms, where it has some; it keeps its own epsilon.
    """

    num_classes: int
    backbone: VGG
    in_channels: int = 3
    levels: tuple[str, ...] = ("pool2", "stage4", "fc7")
    kernel_size: int = 1
    upsampling: Upsampling | None = None
    grid: int = 5
    mask_size: int = 50
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        self.backbone = configure_backbone(
            self.backbone,
            self.norm,
            in_channels=self.in_channels,
            output_stride=32,
            pool_size=2,
            ceil_mode=True,
            fully_convolutional=True,
            dtype=self.dtype,
        )
        super().__post_init__()

    def setup(self) -> None:
        if not self.levels or not set(self.levels) <= set(STRIDES) or len(set(self.levels)) < len(self.levels):
            raise ConfigError(f"levels are some of {', '.join(STRIDES)}, each once, not {self.levels}")
        if min(self.grid, self.mask_size) < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(
                f"grid and mask_size are at least 1 and kernel_size is odd, not {self.grid}, {self.mask_size} and "
                f"{self.kernel_size}"
            )
        for level in self.levels:
            setattr(self, f"score_{level}", self._classifier(self.num_classes, level))
            setattr(self, f"mask_{level}", self._classifier(self.grid**2, level))
            if self.upsampling is not None:
                setattr(self, f"up_{level}", Upsample(self.num_classes, STRIDES[level], self.upsampling))

    def _classifier(self, features: int, level: str) -> TorchConv:
        """Builds the classifier of one map's part of a hypercolumn; the last part has the bias."""
        return TorchConv(
            features,
            self.kernel_size,
            use_bias=level == self.levels[-1],
            dtype=self.dtype,
            kernel_init=gaussian(0.01 / len(self.levels)),
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `VGG.features`, and `fc7`, the second dense layer's.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        check_images(images, self.in_channels)
        maps = self.backbone.features(images, train)
        return maps | {"fc7": self.backbone.head(jnp.pad(maps["pool5"], ((0, 0), (3, 3), (3, 3), (0, 0))), train)}

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Classifies the pixels of images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Turns on dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images that it cannot take, see `features`.
        """
        maps, size, total = self.features(images, train), images.shape[1:3], 0.0
        for level in self.levels:
            scores = getattr(self, f"score_{level}")(maps[level]).astype(jnp.float32)
            if self.upsampling is None:
                total += upsample(scores, STRIDES[level], size)
            else:
                total += getattr(self, f"up_{level}")(scores, size)
        if self.is_initializing():
            for level in self.levels:  # so that their parameters exist
                getattr(self, f"mask_{level}")(maps[level])
        return total

    def hypercolumns(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns the stack itself, float32 [B, H, W, C], the maps in the order of `levels`; it is large."""
        maps = self.features(images, train)
        size = images.shape[1:3]
        return jnp.concatenate(
            [upsample(maps[level].astype(jnp.float32), STRIDES[level], size) for level in self.levels], axis=-1
        )

    def masks(self, images: jax.Array, boxes: jax.Array, train: bool = False) -> jax.Array:
        """Segments the object of each box from its background.

        A box is divided into grid x grid cells, each with a classifier of its own, the same in all boxes. A pixel's
        probability is interpolated between those that the classifiers of the nearest cells give it. (The paper has a
        set of such classifiers for each class; here, one set serves all.)

        Args:
          images: Images, as for the call.
          boxes: Boxes [B, N, 4], see `cvjax.ops.detection.boxes`, in pixels; padding may be anything finite.
          train: Turns on dropout and the batch's statistics, as for the call.

        Returns:
          Logits [B, N, S, S], float32, where S is `mask_size`: row i and column j of S x S pixels that divide the box.

        Raises:
          ConfigError: Images that it cannot take, see `features`.
        """
        chex.assert_shape(boxes, (images.shape[0], None, 4))
        batch, count = boxes.shape[:2]
        maps, side = self.features(images, train), (self.mask_size, self.mask_size)
        index = jnp.repeat(jnp.arange(batch), count)
        scores = 0.0
        for level in self.levels:
            here = getattr(self, f"mask_{level}")(maps[level]).astype(jnp.float32)
            scores += roi_align(
                here,
                boxes.reshape(-1, 4),
                index,
                side,
                spatial_scale=1 / STRIDES[level],
                sampling_ratio=1,
                aligned=True,
            )
        return interpolate_classifiers(scores).reshape(batch, count, *side)


def interpolate_classifiers(scores: jax.Array) -> jax.Array:
    """Returns the logits of interpolated probabilities: p(pixel) = sum over k of a_k(pixel) * sigmoid(score_k(pixel)).

    Args:
      scores: Scores [..., S, S, K * K] of each classifier of a K x K grid, row by row, for each pixel of a box.

    Returns:
      Logits [..., S, S], float32; a_k are the weights of bilinear interpolation between the middles of the cells.
    """
    height, width, classifiers = scores.shape[-3:]
    grid = round(classifiers**0.5)
    rows, columns = (bilinear_matrix(grid, length) for length in (height, width))
    weights = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(height, width, classifiers)
    scores = scores.astype(jnp.float32)
    object_, background = (
        jax.nn.logsumexp(jax.nn.log_sigmoid(signed), axis=-1, b=weights) for signed in (scores, -scores)
    )
    return object_ - background


VARIANTS = (
    Variant(
        ModelInfo(
            name="hypercolumn_vgg16",
            task="segmentation",
            paper="1411.5752",
            year=2014,
            image_size=500,
            params=134_478_446,
            gmacs=None,
            params_classes=21,
        ),
        Hypercolumn,
        {"backbone": VGG(num_classes=0, parent=None)},
    ),
)
