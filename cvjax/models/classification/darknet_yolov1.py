"""The classifiers that YOLO starts from (Redmon et al., 1506.02640, section 2.2), after GoogLeNet and NIN.

1x1 convolutions narrow the input of the 3x3 ones, and poolings halve the map between stages. `darknet_yolov1` has the
detector's first 20 convolutions, an average over the map and a dense layer. It is trained at 224 pixels before the
detector goes on at 448. `darknet_yolov1_tiny` is the same for the first 7 convolutions of the fast version. A
detector's `backbone` takes their weights, see `cvjax.weights.warm_start`.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNormOptions, TorchConv, he_normal, max_pool

# A convolution: (side of the kernel, features, stride). A stage: convolutions; pooling lies between stages.
Stage = tuple[tuple[int, int, int], ...]
_NARROW = ((1, 256, 1), (3, 512, 1))
_WIDE = ((1, 512, 1), (3, 1024, 1))
FULL: tuple[Stage, ...] = (
    ((7, 64, 2),),
    ((3, 192, 1),),
    ((1, 128, 1), (3, 256, 1), *_NARROW),
    (*_NARROW * 4, *_WIDE),
    _WIDE * 2,
)
TINY: tuple[Stage, ...] = tuple(((3, features, 1),) for features in (16, 32, 64, 128, 256, 512, 1024))


def leaky(x: jax.Array) -> jax.Array:
    """Rectifies, and lets a tenth of negative values through (equation 2)."""
    return nn.leaky_relu(x, 0.1)


def total_stride(stages: tuple[Stage, ...]) -> int:
    """Returns the pixels of the image per pixel of the last stage's map."""
    return 2 ** (len(stages) - 1) * math.prod(stride for stage in stages for *_, stride in stage)


class ConvLeaky(nn.Module):
    """Applies a convolution and a leaky rectifier, with BatchNorm in the place of the bias if `batch_norm`.

    Attributes:
      features: Output channels.
      kernel_size: Side of the kernel in pixels. Half of it is padded on each side.
      stride: Step between outputs in pixels.
      batch_norm: Whether to normalize.
      dtype, norm: Type of the computation and options of the BatchNorm, as for `Classifier`.
    """

    features: int
    kernel_size: int
    stride: int = 1
    batch_norm: bool = False
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), features]."""
        x = TorchConv(
            self.features,
            self.kernel_size,
            self.stride,
            use_bias=not self.batch_norm,
            kernel_init=he_normal("fan_in"),
            dtype=self.dtype,
            name="conv",
        )(x)
        if self.batch_norm:
            x = self.norm.build(dtype=self.dtype, name="bn")(x, use_running_average=not train)
        return leaky(x)


class DarknetYOLO(Classifier):
    """Classifies images by stages of convolutions with pooling between them, an average and a dense layer.

    Its other attributes are those of `Classifier`.

    Attributes:
      stages: Stages, each a tuple of rows (side of the kernel, features, stride).
      width: Factor on the features of all convolutions.
      batch_norm: Normalize after every convolution. The paper does not; it lets such a net train from scratch.
    """

    stages: tuple[Stage, ...] = FULL
    width: float = 1.0
    batch_norm: bool = False

    def setup(self) -> None:
        conv = partial(
            ConvLeaky,
            batch_norm=self.batch_norm,
            dtype=self.dtype,
            norm=self.norm,
        )
        for number, stage in enumerate(self.stages, start=1):
            rows = [conv(scaled(features, self.width), side, stride) for side, features, stride in stage]
            setattr(self, f"stage{number}", rows)
        self._make_head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stage1`, `stage2`, ..., each before its pooling. Strides are 2, 4, 8, 16, 32, and for the tiny net 1, 2, ...,
          64. Sides are rounded up.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x, maps = images.astype(self.dtype), {}
        for number in range(1, len(self.stages) + 1):
            if number > 1:
                x = max_pool(x, 2, 2, 0, ceil_mode=True)
            for conv in getattr(self, f"stage{number}"):
                x = conv(x, train)
            maps[f"stage{number}"] = x
        return maps


def scaled(features: int, width: float) -> int:
    """Returns the number of channels of a net that is `width` times as wide, at least 1."""
    return max(1, round(width * features))


def _variant(name: str, stages: tuple[Stage, ...], params: int) -> Variant:
    info = ModelInfo(
        name=name,
        task="classification",
        paper="1506.02640",
        year=2015,
        image_size=224,
        params=params,
        gmacs=None,
        params_classes=1000,
    )
    return Variant(info, DarknetYOLO, {"stages": stages})


VARIANTS = (
    _variant("darknet_yolov1", FULL, 23_428_136),
    _variant("darknet_yolov1_tiny", TINY, 7_317_384),
)
