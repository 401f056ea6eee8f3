"""Decoders of U-Nets double their maps in one of these ways."""

from typing import Any, Literal, cast, get_args

import flax.linen as nn
import jax

from cvjax.errors import ConfigError
from cvjax.nn import BatchNormOptions, ConvBNReLU, Upsample, Upsampling
from cvjax.ops.resize import resize

Doubling = Literal[Upsampling, "nearest_bare", "corners_bare", "bilinear_pointwise"]
"""Those of `cvjax.nn.Upsampling`, and three of releases. `nearest_bare`: repeats each pixel, without a layer
(segmentation_models_pytorch). `corners_bare`: bilinear with the corners' centers on each other, without a layer
(milesial's bilinear U-Net). `bilinear_pointwise`: bilinear, then a 1x1 convolution with BatchNorm and ReLU
(mmsegmentation). The bare ones keep the number of channels."""


class Stretch(nn.Module):
    """Doubles height and width by interpolation, without the learned 3x3 convolution that `cvjax.nn.Upsample` has.

    Attributes:
      features: Channels of a 1x1 convolution with BatchNorm and ReLU behind it; None has no layer.
      method: "nearest" or "bilinear", see `cvjax.ops.resize`.
      align_corners: See `cvjax.ops.resize`.
      dtype: Type of the computation.
      norm: Options of the BatchNorm.
    """

    features: int | None
    method: str
    align_corners: bool = False
    dtype: Any = None
    norm: BatchNormOptions = BatchNormOptions()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Enlarges [B, H, W, C] to [B, 2 * H, 2 * W, features or C]."""
        x = resize(x, (2 * x.shape[1], 2 * x.shape[2]), self.method, self.align_corners)
        if self.features is None:
            return x
        return ConvBNReLU(self.features, 1, dtype=self.dtype, norm=self.norm, name="project")(x, train)


def doubling(features: int, upsampling: Upsampling, dtype: Any) -> Upsample:
    """Makes a decoder's layer to twice the height and width.

    A transposed convolution is the paper's, 2x2 with a bias.
    """
    if upsampling != "transposed":
        return Upsample(features, 2, upsampling, use_bias=True, dtype=dtype)
    # Each output sees one tap of the kernel, so a quarter of what `fan_in` counts: this keeps the variance.
    init = nn.initializers.variance_scaling(4.0, "fan_in", "normal")
    return Upsample(features, 2, kernel_size=2, kernel_init=init, use_bias=True, dtype=dtype)


def any_doubling(features: int, way: Doubling, dtype: Any, norm: BatchNormOptions) -> Upsample | Stretch:
    """Makes a decoder's layer to twice the height and width in any of the ways; `doubled` calls it.

    Args:
      features: Channels of the result; the bare ways have those of their input.
      way: Way to double, see `Doubling`.
      dtype: Type of the computation.
      norm: Options of the BatchNorm, where there is one.

    Raises:
      ConfigError: The way has another name.
    """
    if way in get_args(Upsampling):
        return doubling(features, cast(Upsampling, way), dtype)
    if way == "nearest_bare":
        return Stretch(None, "nearest")
    if way == "corners_bare":
        return Stretch(None, "bilinear", align_corners=True)
    if way == "bilinear_pointwise":
        return Stretch(features, "bilinear", dtype=dtype, norm=norm)
    raise ConfigError(f"upsampling is {', '.join(get_args(Doubling))}, not {way!r}")


def doubled(layer: Upsample | Stretch, x: jax.Array, train: bool) -> jax.Array:
    """Returns the result of a layer that `any_doubling` has made: [B, H, W, C] becomes [B, 2 * H, 2 * W, features]."""
    return layer(x, train) if isinstance(layer, Stretch) else layer(x)
