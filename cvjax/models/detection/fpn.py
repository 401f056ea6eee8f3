"""The feature pyramid (Lin et al., 1612.03144): maps of all strides that are alike in channels and in meaning."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import TorchConv
from cvjax.ops.geometry import pair
from cvjax.ops.upsample import upsample

LEVELS = ("fpn_0", "fpn_1", "fpn_2", "fpn_3", "fpn_pool")
"""Names of the pyramid's maps among a detector's features. Strides are 4 to 32, and 64."""


class FeaturePyramid(nn.Module):
    """Brings each map to a number of channels, and adds to it the next coarser map of the pyramid, enlarged.

    Attributes:
      features: Channels of the pyramid.
      levels: Number of maps of the backbone.
      dtype: Type of the computation.
    """

    features: int = 256
    levels: int = 4
    dtype: Any = jnp.float32

    def setup(self) -> None:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")  # torchvision's
        self.inner = [TorchConv(self.features, 1, dtype=self.dtype, kernel_init=init) for _ in range(self.levels)]
        self.layer = [TorchConv(self.features, 3, dtype=self.dtype, kernel_init=init) for _ in range(self.levels)]

    def __call__(self, maps: list[jax.Array]) -> list[jax.Array]:
        """Turns the backbone's maps into the maps of the pyramid and one more, from fine to coarse.

        Args:
          maps: Maps of the backbone from fine to coarse, each half as large as the last, sides rounded up.

        Returns:
          Maps [B, H_l, W_l, features] of the sizes of the backbone's maps, and one more with every second pixel of the
          last.
        """
        pyramid: list[jax.Array] = []
        coarser = None
        for features, inner, layer in zip(maps[::-1], self.inner[::-1], self.layer[::-1]):
            x = inner(features)
            if coarser is not None:
                x = x + upsample(coarser, 2, pair(x.shape[1:3]), method="nearest")
            pyramid.insert(0, layer(x))
            coarser = x
        return [*pyramid, pyramid[-1][:, ::2, ::2]]
