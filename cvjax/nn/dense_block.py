"""Computes a dense block (1608.06993) in training in one buffer, into which its layers write what they append.

Every layer reads all maps before it. As concatenations these are copied again and again, and each copy is kept,
normalized and averaged anew, though its channels' statistics never change: memory and time grow with the square of the
depth. Here one buffer holds all maps, and statistics are computed once, when a map is made. What a layer normalizes is
computed again for the gradient, as in Memory-Efficient Implementation of DenseNets (Pleiss et al., 1707.06990). One
buffer more collects the gradients that layers add to the maps before them.
"""

import dataclasses
from functools import partial
from typing import NamedTuple, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.nn.norm import affine_of, moments, normalized
from cvjax.ops.conv import conv2d
from cvjax.ops.dtypes import wider
from cvjax.ops.recompute import recomputed
from cvjax.shapes import Array

_PLACES = (0, 1, 2)


class Moments(NamedTuple):
    """Holds mean and variance of each channel of a batch, [C] each, float32."""

    mean: jax.Array
    var: jax.Array


class DenseLayerParams(NamedTuple):
    """Holds the parameters of a layer, which appends k channels to C.

    Attributes:
      scale1, bias1: Parameters of the BatchNorm of all maps before it, [C].
      kernel1: Kernel of the bottleneck, [1, 1, C, D].
      scale2, bias2: Parameters of the BatchNorm behind it, [D].
      kernel2: Kernel of the convolution that makes the new maps, [3, 3, D, k].
      kept: What the new maps are multiplied by, [B, H, W, k]: the mask of dropout, scaled. None drops nothing.
    """

    scale1: jax.Array
    bias1: jax.Array
    kernel1: jax.Array
    scale2: jax.Array
    bias2: jax.Array
    kernel2: jax.Array
    kept: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class DenseBlockOptions:
    """Holds what the layers of a block share.

    Attributes:
      epsilon: Number that BatchNorms add to the variance.
      dilation: Distance of the 3x3 kernels' taps, in pixels.
      keep_bottlenecks: Whether the bottlenecks' maps are kept for the gradient, or computed again.
    """

    epsilon: float
    dilation: int = 1
    keep_bottlenecks: bool = True


class DenseBlockResult(NamedTuple):
    """Holds what a block makes.

    Attributes:
      maps: Its input and what its L layers appended, [B, H, W, C + L k].
      moments: Statistics of these maps.
      inner: Statistics of each layer's bottleneck, for the running averages; no gradient flows through them.
    """

    maps: Float[jax.Array, "batch height width channels"]
    moments: Moments
    inner: tuple[Moments, ...]


def dense_block(
    options: DenseBlockOptions,
    x: Float[Array, "batch height width channels"],
    layers: tuple[DenseLayerParams, ...],
) -> DenseBlockResult:
    """Computes a block of dense layers, normalized by the batch's statistics (over all devices of a bound axis).

    A layer applies BatchNorm, ReLU and a 1x1 convolution to all maps before it, then BatchNorm, ReLU and a 3x3
    convolution, and appends the result.

    Args:
      options: What the layers share.
      x: Maps [B, H, W, C], in the dtype of the computation.
      layers: Parameters of the layers, in float32 or that dtype.

    Raises:
      AssertionError: Shapes do not fit together.
    """
    chex.assert_rank(x, 4)
    channels = x.shape[3]
    for layer in layers:
        chex.assert_shape(layer.kernel1, (1, 1, channels, None))
        channels += layer.kernel2.shape[3]
    maps, seen, inner = cast(DenseBlockResult, _block(options, x, layers))
    return DenseBlockResult(maps, seen, jax.tree.map(lax.stop_gradient, inner))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _block(options: DenseBlockOptions, x: jax.Array, layers: tuple[DenseLayerParams, ...]) -> DenseBlockResult:
    return _forward(options, x, layers)[0]


_Residuals = tuple[jax.Array, Moments, tuple[DenseLayerParams, ...], list[jax.Array] | None]


def _forward(
    options: DenseBlockOptions, x: jax.Array, layers: tuple[DenseLayerParams, ...]
) -> tuple[DenseBlockResult, _Residuals]:
    maps = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, sum(layer.kernel2.shape[3] for layer in layers))))
    means, variances, inner, bottlenecks = [], [], [], []
    statistics, channels = _moments(x), x.shape[3]
    for layer in layers:
        means.append(statistics.mean)
        variances.append(statistics.var)
        seen = Moments(jnp.concatenate(means), jnp.concatenate(variances))
        bottlenecks.append(_bottleneck(options, maps[..., :channels], seen, layer))
        y, within = _new_maps(options, bottlenecks[-1], layer)
        statistics = _moments(y)
        inner.append(within)
        maps = lax.dynamic_update_slice_in_dim(maps, y, channels, axis=3)
        channels += y.shape[3]
    seen = Moments(jnp.concatenate([*means, statistics.mean]), jnp.concatenate([*variances, statistics.var]))
    kept = bottlenecks if options.keep_bottlenecks else None
    return DenseBlockResult(maps, seen, tuple(inner)), (maps, seen, layers, kept)


def _backward(
    options: DenseBlockOptions, residuals: _Residuals, cts: DenseBlockResult
) -> tuple[jax.Array, tuple[DenseLayerParams, ...]]:
    maps, seen, layers, bottlenecks = residuals
    ct, ct_seen, gradients, channels = cts.maps, cts.moments, [], maps.shape[3]
    for number in reversed(range(len(layers))):
        layer, end = layers[number], channels
        channels -= layer.kernel2.shape[3]
        # All later layers have added to the gradients of this layer's maps and of their statistics.
        ct_new = ct[..., channels:end] + _through_moments(maps[..., channels:end], _between(ct_seen, channels, end))
        # With other biases, as XLA takes them, what is normalized is not what the forward pass has made.
        layer = layer._replace(bias1=recomputed(layer.bias1, ct_seen.mean), bias2=recomputed(layer.bias2, ct_seen.mean))
        seen_before = _between(seen, 0, channels)
        z, pull_bottleneck = jax.vjp(partial(_bottleneck, options), maps[..., :channels], seen_before, layer)
        # Where it was kept, nothing computes the one above: its gradient does not need it.
        z = z if bottlenecks is None else bottlenecks[number]
        _, pull_new, _ = jax.vjp(partial(_new_maps, options), z, layer, has_aux=True)
        ct_z, gradient = pull_new(ct_new)
        ct_x, ct_before, more = pull_bottleneck(ct_z)
        gradients.append(jax.tree.map(jnp.add, gradient, more))
        ct = lax.dynamic_update_slice_in_dim(ct, ct[..., :channels] + ct_x, 0, axis=3)
        ct_seen = Moments(*(a.at[:channels].add(b) for a, b in zip(ct_seen, ct_before)))
    ct_x = _through_moments(maps[..., :channels], _between(ct_seen, 0, channels))
    return ct[..., :channels] + ct_x, tuple(reversed(gradients))


_block.defvjp(_forward, _backward)


def _bottleneck(options: DenseBlockOptions, x: jax.Array, seen: Moments, layer: DenseLayerParams) -> jax.Array:
    """Applies BatchNorm, ReLU and the 1x1 convolution to the maps [B, H, W, C] that a layer sees: [B, H, W, D]."""
    y = _normalize(options, x, seen, layer.scale1, layer.bias1)
    return conv2d(nn.relu(y), layer.kernel1.astype(x.dtype))


def _new_maps(options: DenseBlockOptions, z: jax.Array, layer: DenseLayerParams) -> tuple[jax.Array, Moments]:
    """Makes a layer's maps [B, H, W, k] of its bottleneck [B, H, W, D], whose statistics are the second result."""
    within = _moments(z)
    y = nn.relu(_normalize(options, z, within, layer.scale2, layer.bias2))
    distance = options.dilation
    border = (distance, distance)
    kernel = layer.kernel2.astype(z.dtype)
    y = conv2d(y, kernel, padding=(border, border), dilation=(distance, distance))
    return y if layer.kept is None else y * layer.kept, within


def _normalize(
    options: DenseBlockOptions, x: jax.Array, statistics: Moments, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    return normalized(x, *affine_of(*statistics, scale, bias, options.epsilon)).astype(x.dtype)


def _moments(x: jax.Array) -> Moments:
    return Moments(*moments(x.astype(wider(x.dtype, jnp.float32)), _PLACES))


def _through_moments(x: jax.Array, ct: Moments) -> jax.Array:
    """Returns the gradient for maps that comes from their statistics."""
    _, pull = jax.vjp(_moments, x)
    (ct_x,) = pull(ct)
    return ct_x


def _between(statistics: Moments, start: int, end: int) -> Moments:
    return Moments(*(a[start:end] for a in statistics))
