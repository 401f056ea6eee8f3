"""Atrous spatial pyramid pooling as of DeepLab v3 (Chen et al., 1706.05587)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.nn import BatchNormOptions, ConvBNReLU, Dropout, SeparableConv, data_devices

# Dilations at output stride 16, for crops of about 513 pixels.
PAPER_RATES = (6, 12, 18)


def aspp_rates(output_stride: int, at_16: tuple[int, ...] = PAPER_RATES) -> tuple[int, ...]:
    """Returns the dilations of the atrous branches, in pixels of the map, from those at output stride 16.

    The rates follow the map's resolution, so that the field of view in the image stays the same. They double at output
    stride 8 and halve at 32 (1706.05587, section 3.3).

    Args:
      output_stride: Pixels of the image per pixel of the map: 8, 16 or 32.
      at_16: Dilations at output stride 16.

    Raises:
      ConfigError: An output stride other than 8, 16 or 32, or a rate below 1.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride is 8, 16 or 32, not {output_stride}")
    if min(at_16) < 1:
        raise ConfigError(f"aspp_rates are at least 1, not {at_16}")
    return tuple(max(1, rate * 16 // output_stride) for rate in at_16)


class ASPP(nn.Module):
    """Applies a 1x1 branch, three atrous 3x3 branches and image pooling side by side, and projects them to `features`.

    Attributes:
      features: Channels of every branch and of the output.
      rates: Dilations of the atrous branches, see `aspp_rates`.
      separable: Use atrous separable convolutions in those branches (DeepLab v3+).
      dropout: Rate of dropout after the projection.
      dtype: Type of the computation.
      norm: Options of the BatchNorms.
      project_kernel: Side of the projection's kernel, in pixels; mmsegmentation has 3.
      inner_norm: Have BatchNorm inside separable convolutions, see `cvjax.nn.SeparableConv`.
    """

    features: int = 256
    rates: tuple[int, ...] = PAPER_RATES
    separable: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()
    project_kernel: int = 1
    inner_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H, W, features].

        Raises:
          ConfigError: A training batch of one image, in which BatchNorm would make the pooled branch a constant; a
            projection whose kernel has no middle.
        """
        if self.project_kernel < 1 or self.project_kernel % 2 == 0:
            raise ConfigError(
                f"the kernel of ASPP's projection has an odd side, such as 1 or 3, not {self.project_kernel}"
            )
        common = {"dtype": self.dtype, "norm": self.norm}
        branches = [ConvBNReLU(self.features, 1, name="conv1x1", **common)(x, train)]
        for i, rate in enumerate(self.rates, start=1):
            layer = partial(SeparableConv, inner_norm=self.inner_norm) if self.separable else ConvBNReLU
            branches.append(layer(self.features, 3, dilation=rate, name=f"atrous{i}", **common)(x, train))

        self._check_batch(x.shape[0], train)
        # The mean is a sum over thousands of pixels: in float32 whatever the dtype of the maps.
        pooled = x.mean(axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)
        pooled = ConvBNReLU(self.features, 1, name="pooling", **common)(pooled, train)
        # Enlarging one pixel is a broadcast.
        branches.append(jnp.broadcast_to(pooled, (*x.shape[:3], self.features)))

        project = ConvBNReLU(self.features, self.project_kernel, name="project", **common)
        x = project(jnp.concatenate(branches, axis=-1), train)
        return Dropout(self.dropout, name="dropout")(x, train)

    def _check_batch(self, rows: int, train: bool) -> None:
        if not train or self.norm.frozen or self.is_initializing():
            return
        if rows * data_devices() == 1:
            raise ConfigError(
                "image pooling normalizes one value per image and channel, and a training batch of one image "
                "has no variance; use a batch of at least 2 images, or freeze BatchNorm (--model.norm.frozen)"
            )
