"""Defines one layer for the four ways in which decoders upsample."""

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cvjax.errors import ConfigError
from cvjax.nn.conv import Conv
from cvjax.nn.conv_transpose import ConvTranspose
from cvjax.nn.initializers import Initializer, lecun_normal
from cvjax.ops.upsample import bilinear_filter, check_upsampling, transposed_window, upsample
from cvjax.shapes import Array

Upsampling = Literal["transposed", "transposed_fixed", "nearest", "bilinear"]
"""`transposed`: transposed convolution, learned. `transposed_fixed`: the same with the bilinear kernel for good (FCN).
`nearest`, `bilinear`: enlarging by that, then a learned convolution, without checkerboards (Odena et al., 2016)."""


class Upsample(nn.Module):
    """Enlarges maps by a whole factor to exactly a given size, in one of the ways of `Upsampling`.

    All of them start as interpolation: bilinear, or of the nearest pixel. If the number of channels stays, each channel
    is enlarged for itself. If it changes, channels are mixed by a random matrix first (LeCun normal). Parameters lie
    under `conv`, or under `project` for a fixed kernel. The fixed kernel has no parameters if the channels stay and no
    bias is asked for.

    Attributes:
      features: Number of output channels.
      stride: Factor on height and width.
      upsampling: Way to upsample, see `Upsampling`.
      kernel_size: Side of the learned kernel. None is 2 * stride - stride % 2 for a transposed convolution, as bilinear
        interpolation needs it, and 3 for the convolution after enlarging.
      kernel_init: Initializer of the learned kernel; None starts as interpolation.
      use_bias: Whether to add a learned vector.
      dtype: Type of the computation.
    """

    features: int
    stride: int = 2
    upsampling: Upsampling = "transposed"
    kernel_size: int | None = None
    kernel_init: Initializer | None = None
    use_bias: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        size: tuple[int, int] | None = None,
        offset: tuple[int, int] = (0, 0),
    ) -> Float[jax.Array, "batch rows columns features"]:
        """Enlarges [B, H, W, C] to [B, *size, features].

        Args:
          x: Maps to enlarge.
          size: Height and width of the result, in pixels; None is (stride * H, stride * W).
          offset: Start of the result, in rows and columns of the enlarged map, see `cvjax.ops.upsample`. Beyond that
            map the result is zero for transposed convolutions, and continues the map's border for the others.

        Raises:
          ConfigError: The upsampling has another name.
          ValueError: The factor or size is below 1.
        """
        size = check_upsampling(x, self.stride, size)
        if self.upsampling == "transposed":
            return self._transposed(x, size, offset)
        if self.upsampling == "transposed_fixed":
            if self.use_bias or x.shape[-1] != self.features:
                x = self._conv(1, "project")(x)
            return upsample(x, self.stride, size, offset, "transposed")
        if self.upsampling in ("nearest", "bilinear"):
            return self._conv(self.kernel_size or 3, "conv")(upsample(x, self.stride, size, offset, self.upsampling))
        raise ConfigError(f"upsampling is {', '.join(get_args(Upsampling))}, not {self.upsampling!r}")

    def _transposed(self, x: jax.Array, size: tuple[int, int], offset: tuple[int, int]) -> jax.Array:
        side = self.kernel_size or 2 * self.stride - self.stride % 2
        (rows, above), (columns, left) = (
            transposed_window(source, target, self.stride, side, start)
            for source, target, start in zip(x.shape[1:3], size, offset)
        )
        return ConvTranspose(
            self.features,
            (side, side),
            (self.stride, self.stride),
            (above, left),
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init or _spread(bilinear_filter(side)),
            name="conv",
        )(x[:, rows, columns])

    def _conv(self, side: int, name: str) -> Conv:
        return Conv(
            self.features,
            (side, side),
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init or _spread(np.eye(side)[side // 2]),
            name=name,
        )


def _spread(profile: np.ndarray) -> Initializer:
    """Returns an initializer of the profile along both axes, times a matrix of channels.

    The matrix keeps the channels, or mixes them at random if their number changes.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        channels, features = shape[2:]
        mix = jnp.eye(channels) if channels == features else lecun_normal()(key, (channels, features))
        return jnp.asarray(np.outer(profile, profile)[:, :, None, None] * mix[None, None], dtype)

    return init
