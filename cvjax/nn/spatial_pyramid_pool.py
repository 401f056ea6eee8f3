"""Defines spatial pyramid pooling (He et al., 1406.4729): a vector of one length from maps of any size."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from cvjax.ops.pool import avg_pool, max_pool
from cvjax.shapes import Array


class SpatialPyramidPool(nn.Module):
    """Pools maps over grids of bins and joins the results to one vector.

    Bins cover the map whatever its size (see `cvjax.ops.adaptive_pool`); at the paper's 13x13 they are its windows.

    Attributes:
      levels: Numbers of bins along each side, one for each grid.
      method: "max" (the paper's) or "avg".
      windows: Side and stride of the windows of each grid, for maps of one size; () divides maps of any size. The
        definition that SPP_net's ImageNet nets were trained by has ((3, 2), (5, 4), (7, 7), (13, 13)), on 13x13 pixels.
    """

    levels: Sequence[int] = (6, 3, 2, 1)
    method: str = "max"
    windows: Sequence[tuple[int, int]] = ()

    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[jax.Array, "batch bins"]:
        """Pools [B, H, W, C] to [B, sum of squared levels * C].

        The order is grid by grid, bins in rows from the top, then channels.

        Raises:
          ValueError: The method is unknown, or the windows do not give these grids.
        """
        pools = {"max": adaptive_max_pool, "avg": adaptive_avg_pool}
        if self.method not in pools:
            raise ValueError(f"SpatialPyramidPool knows the methods {sorted(pools)}, not {self.method!r}")
        if self.windows:
            grids = [self._by_window(x, *window) for window in self.windows]
            if [grid.shape[1:3] for grid in grids] != [(level, level) for level in self.levels]:
                raise ValueError(
                    f"SpatialPyramidPool: windows (side, stride) {tuple(self.windows)} do not make grids of "
                    f"{tuple(self.levels)} bins of a map of {x.shape[1]} x {x.shape[2]} pixels"
                )
        else:
            grids = [pools[self.method](x, (level, level)) for level in self.levels]
        return jnp.concatenate([grid.reshape(x.shape[0], -1) for grid in grids], axis=-1)

    def _by_window(self, x: jax.Array, side: int, stride: int) -> jax.Array:
        if self.method == "max":
            return max_pool(x, side, stride, 0, ceil_mode=True)
        return avg_pool(x, side, stride, 0, count_include_pad=False, ceil_mode=True)
