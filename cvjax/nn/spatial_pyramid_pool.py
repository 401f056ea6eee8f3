"""Defines spatial pyramid pooling (He et al., 1406.4729): a vector of one length from maps of any size."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from cvjax.shapes import Array


class SpatialPyramidPool(nn.Module):
    """Pools maps over grids of bins and joins the results to one vector.

    Bins cover the map whatever its size (see `cvjax.ops.adaptive_pool`); at the paper's 13x13 they are its windows.

    Attributes:
      levels: Numbers of bins along each side, one for each grid.
      method: "max" (the paper's) or "avg".
    """

    levels: Sequence[int] = (6, 3, 2, 1)
    method: str = "max"

    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[jax.Array, "batch bins"]:
        """Pools [B, H, W, C] to [B, sum of squared levels * C].

        The order is grid by grid, bins in rows from the top, then channels.

        Raises:
          ValueError: The method is unknown.
        """
        pools = {"max": adaptive_max_pool, "avg": adaptive_avg_pool}
        if self.method not in pools:
            raise ValueError(f"SpatialPyramidPool knows the methods {sorted(pools)}, not {self.method!r}")
        grids = [pools[self.method](x, (level, level)) for level in self.levels]
        return jnp.concatenate([grid.reshape(x.shape[0], -1) for grid in grids], axis=-1)
