"""Makes a few dense convolutions of one with many groups, where platform or partitioner know dense ones better."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops.geometry import Geometry
from cvjax.shapes import Array

# Groups are merged into dense kernels of about this many channels: up to here wider matrix products outweigh the zeros
# in them, beyond they do not (32 groups of 8: merged to 64 channels 0.6 times as fast as to 32, to 128 0.3 times).
_MERGED_CHANNELS = 32
# More convolutions side by side than this take longer to compile than they save.
_MOST_MERGED = 16


def convolve_merged(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
    convolve: Callable[..., jax.Array],
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves with groups merged into a few dense kernels, with zeros between the groups.

    Args:
      x: Maps [B, H, W, C].
      kernel: Kernel [kh, kw, C // groups, F].
      geometry: Sizes, steps and padding of the convolution.
      convolve: Function of the same first three arguments that computes a convolution of one group.
    """
    kh, kw, inside, features = kernel.shape
    outside = features // geometry.groups
    merged = _merging(geometry.groups, inside, outside)
    count = geometry.groups // merged
    blocks = kernel.reshape(kh, kw, inside, count, merged, outside).transpose(3, 0, 1, 4, 2, 5)
    diagonal = jnp.eye(merged, dtype=kernel.dtype)[None, None, None, :, None, :, None]
    dense = blocks[:, :, :, :, :, None] * diagonal
    dense = dense.reshape(count, kh, kw, merged * inside, merged * outside)
    one = replace(geometry, groups=1)
    parts = [convolve(part, dense[i], one) for i, part in enumerate(jnp.split(x, count, axis=-1))]
    return jnp.concatenate(parts, axis=-1)


def gradient_merged(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns features"],
    geometry: Geometry,
    kernel_gradient: Callable[..., jax.Array],
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Computes the gradients of the merged kernels, and returns the blocks on their diagonals.

    Args:
      x: Maps [B, H, W, C].
      ct: Cotangent of the output [B, H', W', F].
      geometry: Sizes, steps and padding of the convolution.
      kernel_gradient: Function of the same first three arguments that computes the gradient for one group.
    """
    inside, outside = x.shape[-1] // geometry.groups, ct.shape[-1] // geometry.groups
    merged = _merging(geometry.groups, inside, outside)
    count = geometry.groups // merged
    one = replace(geometry, groups=1)
    parts = zip(jnp.split(x, count, axis=-1), jnp.split(ct, count, axis=-1))
    dense = jnp.stack([kernel_gradient(a, b, one) for a, b in parts])
    kh, kw = geometry.kernel_size
    blocks = dense.reshape(count, kh, kw, merged, inside, merged, outside)
    diagonal = jnp.stack([blocks[:, :, :, i, :, i] for i in range(merged)])  # [merged, count, kh, kw, inside, outside]
    return diagonal.transpose(2, 3, 4, 1, 0, 5).reshape(kh, kw, inside, ct.shape[-1])


def _merging(groups: int, inside: int, outside: int) -> int:
    """Returns the number of groups that make one dense kernel."""
    divisors = [m for m in range(1, groups + 1) if groups % m == 0 and groups // m <= _MOST_MERGED]
    return min(divisors, key=lambda m: (max(m * max(inside, outside), _MERGED_CHANNELS), -m))
