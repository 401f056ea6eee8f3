"""How a decoder doubles its maps, as one option."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.nn import ConvTranspose, ResizeConv, TorchConv, bilinear
from cvjax.ops.conv import conv_general_dilated

METHODS = ("transposed", "transposed_fixed", "nearest", "bilinear")


class Doubling(nn.Module):
    """Maps of twice the height and width.

    Attributes:
      features: output channels.
      method: "transposed", a learned 2x2 kernel with stride 2, as U-Net's up-convolutions (1505.04597);
        "transposed_fixed", a 1x1 convolution and the bilinear kernel of FCN (1411.4038), which is not trained;
        "nearest" and "bilinear", resizing before a 3x3 convolution.
      dtype: of the computation.
    """

    features: int
    method: str = "transposed"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2 H, 2 W, features].

        Raises:
          ConfigError: an unknown method.
        """
        if self.method not in METHODS:
            raise ConfigError(f"upsampling is one of {', '.join(METHODS)}, not {self.method!r}")
        # Each output sees one tap of the 2x2 kernel, so a quarter of what `fan_in` counts: this keeps the variance.
        init = nn.initializers.variance_scaling(4.0, "fan_in", "normal")
        if self.method == "transposed":
            return ConvTranspose(
                self.features, (2, 2), (2, 2), "VALID", dtype=self.dtype, kernel_init=init, name="transposed"
            )(x)
        if self.method == "transposed_fixed":
            x = TorchConv(self.features, 1, dtype=self.dtype, name="conv")(x)
            kernel = bilinear()(jax.random.key(0), (4, 4, 1, 1), x.dtype)
            return conv_general_dilated(
                x,
                jnp.tile(kernel, (1, 1, 1, self.features)),
                (1, 1),
                ((2, 2), (2, 2)),
                lhs_dilation=(2, 2),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.features,
            )
        return ResizeConv(self.features, method=self.method, dtype=self.dtype, name="resize")(x)
