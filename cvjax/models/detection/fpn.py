"""The feature pyramid (Lin et al., 1612.03144): maps of all strides that are alike in channels and in meaning."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import TorchConv
from cvjax.ops.geometry import pair
from cvjax.ops.upsample import upsample

LEVELS = ("fpn_0", "fpn_1", "fpn_2", "fpn_3", "fpn_pool")
"""Names of the pyramid's maps among a detector's features: strides 4 to 32, and 64."""


class FeaturePyramid(nn.Module):
    """From coarse to fine, each map is brought to a number of channels and added to the coarser one, enlarged.

    Attributes:
      features: Channels of the pyramid.
      levels: Number of maps of the backbone.
      dtype: Type of the computation.
    """

    features: int = 256
    levels: int = 4
    dtype: Any = jnp.float32

    def setup(self) -> None:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
        self.inner = [TorchConv(self.features, 1, dtype=self.dtype, kernel_init=init) for _ in range(self.levels)]
        self.layer = [TorchConv(self.features, 3, dtype=self.dtype, kernel_init=init) for _ in range(self.levels)]

    def __call__(self, maps: list[jax.Array]) -> list[jax.Array]:
        """Maps from fine to coarse, each half as large as the last, sides rounded up -> as many and one more.

        They are [B, H_l, W_l, features]; the last one is every other pixel of the one before.
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
