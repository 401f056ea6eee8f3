"""Hypercolumns (Hariharan, Arbelaez, Girshick and Malik, 1411.5752): maps of all depths of a net describe a pixel.

A pixel's hypercolumn is the stack of the activations above it, at several depths of VGG-16. Each map is interpolated to
the image's size. No linear classifier is applied to the stack itself. Interpolation is linear, too, so each map is
scored in its own size, and the scores are interpolated and added, as the paper does. The result is the same up to
rounding, and the stack of 4,736 channels a pixel is never in memory. The method `hypercolumns` makes the stack.

The net classifies all pixels of an image. Or it divides the pixels of boxes into object and background
(`method="masks"`). There, a K x K grid of classifiers divides the box, because an object looks different in different
parts of its box.
"""

import operator
from functools import reduce
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.vgg import VGG
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNormOptions, TorchConv, Upsample, Upsampling, gaussian
from cvjax.ops.detection.roi import roi_align
from cvjax.ops.geometry import pair
from cvjax.ops.resize import bilinear_matrix
from cvjax.ops.upsample import upsample

STRIDES = {f"stage{i}": 2 ** (i - 1) for i in range(1, 6)} | {f"pool{i}": 2**i for i in range(1, 6)} | {"fc7": 32}
"""Maps that may be levels, with the pixels of the image per pixel of each."""


class Hypercolumn(nn.Module):
    """Classifies pixels by a convolutional VGG and linear classifiers of the stack of its maps.

    All layers pad by half their window, and poolings round up. So pixel j of a map of stride s lies over the pixels [s
    * j, s * (j + 1)) of the image.

    Attributes:
      num_classes: Channels of the logits.
      backbone: VGG, whose dense layers slide over its last map.
      in_channels: Channels of the images.
      levels: Maps that a hypercolumn is made of, from `STRIDES`. The default is the paper's example.
      kernel_size: Side of the part of a map that each classifier sees, in its pixels; 1 is the hypercolumn alone.
      upsampling: Upsampling of the scores, see `cvjax.nn.Upsampling`. None, the paper's, interpolates without
        parameters.
      grid: Number of classifiers along each side of a box, K.
      mask_size: Number of pixels along each side of a mask, S; 50 in the paper.
      dropout: Rate of dropout behind the two hidden dense layers.
      dtype: Type of the computation; parameters, interpolation and logits are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    num_classes: int
    backbone: VGG = VGG(0, ceil_mode=True, fully_convolutional=True)
    in_channels: int = 3
    levels: tuple[str, ...] = ("pool2", "stage4", "fc7")
    kernel_size: int = 1
    upsampling: Upsampling | None = None
    grid: int = 5
    mask_size: int = 50
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, in_channels=self.in_channels, dropout=self.dropout, dtype=self.dtype, norm=self.norm)
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
        """Makes the classifier of one map of a hypercolumn; only the classifier of the last level has a bias."""
        return TorchConv(
            features,
            self.kernel_size,
            use_bias=level == self.levels[-1],
            dtype=self.dtype,
            kernel_init=gaussian(0.01 / len(self.levels)),
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `VGG.features`, and `fc7`, the output of the second dense layer.

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
          train: Use dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images that it cannot take, see `features`.
        """
        maps, size, parts = self.features(images, train), pair(images.shape[1:3]), []
        for level in self.levels:
            scores = getattr(self, f"score_{level}")(maps[level]).astype(jnp.float32)
            if self.upsampling is None:
                parts.append(upsample(scores, STRIDES[level], size))
            else:
                parts.append(getattr(self, f"up_{level}")(scores, size))
        if self.is_initializing():
            for level in self.levels:  # so that their parameters exist
                getattr(self, f"mask_{level}")(maps[level])
        return reduce(operator.add, parts)

    def hypercolumns(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns the stack itself, float32 [B, H, W, C], with the maps in the order of `levels`; it is large."""
        maps = self.features(images, train)
        size = pair(images.shape[1:3])
        return jnp.concatenate(
            [upsample(maps[level].astype(jnp.float32), STRIDES[level], size) for level in self.levels], axis=-1
        )

    def masks(self, images: jax.Array, boxes: jax.Array, train: bool = False) -> jax.Array:
        """Tells the object of each box from its background.

        A box is divided into grid x grid cells. Each cell has a classifier of its own, the same in all boxes. A pixel's
        probability is interpolated between the results of the classifiers of the nearest cells. (The paper has a set of
        such classifiers for each class; here, one set serves all.)

        Args:
          images: Images, as for the call.
          boxes: Boxes [B, N, 4] in pixels, see `cvjax.ops.detection.boxes`. Boxes of the padding may have any finite
            numbers.
          train: Use dropout and the batch's statistics, as for the call.

        Returns:
          Logits [B, N, S, S], float32, where S is `mask_size`. Row i and column j are a pixel of the S x S pixels that
          divide the box.

        Raises:
          ConfigError: Images that it cannot take, see `features`.
        """
        chex.assert_shape(boxes, (images.shape[0], None, 4))
        batch, count = boxes.shape[:2]
        maps, side = self.features(images, train), (self.mask_size, self.mask_size)
        index = jnp.repeat(jnp.arange(batch), count)
        scores = []
        for level in self.levels:
            here = getattr(self, f"mask_{level}")(maps[level]).astype(jnp.float32)
            seen = roi_align(
                here,
                boxes.reshape(-1, 4),
                index,
                side,
                spatial_scale=1 / STRIDES[level],
                sampling_ratio=1,
                aligned=True,
            )
            scores.append(seen)
        return interpolate_classifiers(reduce(operator.add, scores)).reshape(batch, count, *side)


def interpolate_classifiers(scores: jax.Array) -> jax.Array:
    """Returns the logits of interpolated probabilities: p(pixel) = sum over k of a_k(pixel) * sigmoid(score_k(pixel)).

    Args:
      scores: Scores [..., S, S, K * K] of each classifier of a K x K grid, row by row, for each pixel of a box.

    Returns:
      Logits, float32 [..., S, S]. The a_k are the weights of bilinear interpolation between the middles of the cells.
    """
    height, width, classifiers = scores.shape[-3:]
    grid = round(classifiers**0.5)
    rows, columns = (bilinear_matrix(grid, length) for length in (height, width))
    weights = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(height, width, classifiers)
    weights, scores = jnp.expand_dims(weights, range(scores.ndim - 3)), scores.astype(jnp.float32)
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
        {},
    ),
)
