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

from cvjax.nn.norm import affine_of, mean_over_devices, moments, normalized
from cvjax.ops.channels import channel_means
from cvjax.ops.conv import conv2d
from cvjax.ops.dtypes import wider
from cvjax.ops.recompute import recomputed, written_once
from cvjax.shapes import Array

_PLACES = (0, 1, 2)
_NORMALIZING = 2  # rows of what is known of channels that a layer uses


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


# Maps, what is known of their channels, parameters, and bottlenecks where they are kept.
_Residuals = tuple[jax.Array, jax.Array, tuple[DenseLayerParams, ...], list[jax.Array] | None]


def _forward(
    options: DenseBlockOptions, x: jax.Array, layers: tuple[DenseLayerParams, ...]
) -> tuple[DenseBlockResult, _Residuals]:
    grown = sum(layer.kernel2.shape[3] for layer in layers)
    maps = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, grown)))
    # Buffers too, which all layers share: XLA makes kernels anew for vectors of another length, each of which takes
    # some 10 ms to compile.
    known, channels = jnp.pad(_known(options, x), ((0, 0), (0, grown))), x.shape[3]
    inner, bottlenecks = [], []
    for layer in layers:
        bottlenecks.append(_bottleneck(maps[..., :channels], known[:_NORMALIZING, :channels], layer))
        y, within = _new_maps(options, bottlenecks[-1], layer)
        inner.append(within)
        maps = lax.dynamic_update_slice_in_dim(maps, y, channels, axis=3)
        known = lax.dynamic_update_slice_in_dim(known, _known(options, y), channels, axis=1)
        channels += y.shape[3]
    # As whole vectors, which the layers' running averages read: they share those kernels, too.
    mean, var = written_once(known[0], known), written_once(known[2], known)
    kept = bottlenecks if options.keep_bottlenecks else None
    return DenseBlockResult(maps, Moments(mean, var), tuple(inner)), (maps, known, layers, kept)


def _backward(
    options: DenseBlockOptions, residuals: _Residuals, cts: DenseBlockResult
) -> tuple[jax.Array, tuple[DenseLayerParams, ...]]:
    maps, known, layers, bottlenecks = residuals
    ct, gradients, channels = cts.maps, [], maps.shape[3]
    # Of mean and deviation; the variance's is that of the block's result, which no layer adds to.
    ct_known, of_var = jnp.stack([cts.moments.mean, jnp.zeros_like(cts.moments.mean)]), cts.moments.var
    for number in reversed(range(len(layers))):
        layer, end = layers[number], channels
        channels -= layer.kernel2.shape[3]
        # All later layers have added to the gradients of this layer's maps and of their statistics.
        ct_new = written_once(_gradient(maps, known, ct, ct_known, of_var, (channels, end)), maps)
        # With other biases, as XLA takes them, what is normalized is not what the forward pass has made.
        layer = layer._replace(bias1=recomputed(layer.bias1, ct_known[0]), bias2=recomputed(layer.bias2, ct_known[0]))
        z, pull_bottleneck = jax.vjp(_bottleneck, maps[..., :channels], known[:_NORMALIZING, :channels], layer)
        # Where it was kept, nothing computes the one above: its gradient does not need it.
        z = z if bottlenecks is None else bottlenecks[number]
        _, pull_new, _ = jax.vjp(partial(_new_maps, options), z, layer, has_aux=True)
        ct_z, gradient = pull_new(ct_new)
        ct_x, ct_before, more = pull_bottleneck(ct_z)
        gradients.append(jax.tree.map(jnp.add, gradient, more))
        ct = lax.dynamic_update_slice_in_dim(ct, ct[..., :channels] + ct_x, 0, axis=3)
        ct_known = lax.dynamic_update_slice_in_dim(ct_known, ct_known[:, :channels] + ct_before, 0, axis=1)
    return _gradient(maps, known, ct, ct_known, of_var, (0, channels)), tuple(reversed(gradients))


_block.defvjp(_forward, _backward)


def _bottleneck(x: jax.Array, known: jax.Array, layer: DenseLayerParams) -> jax.Array:
    """Applies BatchNorm, ReLU and the 1x1 convolution to the maps [B, H, W, C] that a layer sees: [B, H, W, D].

    Of each channel mean and inverse deviation are known, [2, C].
    """
    mean, inverse = known
    factor = inverse * layer.scale1
    y = normalized(x, factor, layer.bias1 - mean * factor).astype(x.dtype)
    return conv2d(nn.relu(y), layer.kernel1.astype(x.dtype))


def _new_maps(options: DenseBlockOptions, z: jax.Array, layer: DenseLayerParams) -> tuple[jax.Array, Moments]:
    """Makes a layer's maps [B, H, W, k] of its bottleneck [B, H, W, D], whose statistics are the second result."""
    within = _moments(z)
    factor, offset = affine_of(*within, layer.scale2, layer.bias2, options.epsilon)
    y = nn.relu(normalized(z, factor, offset).astype(z.dtype))
    distance = options.dilation
    border = (distance, distance)
    kernel = layer.kernel2.astype(z.dtype)
    y = conv2d(y, kernel, padding=(border, border), dilation=(distance, distance))
    return y if layer.kept is None else y * layer.kept, within


def _moments(x: jax.Array) -> Moments:
    return Moments(*moments(x.astype(wider(x.dtype, jnp.float32)), _PLACES))


def _known(options: DenseBlockOptions, x: jax.Array) -> jax.Array:
    """Returns mean, inverse deviation and variance of each channel, [3, C]."""
    mean, var = _moments(x)
    return jnp.stack([mean, lax.rsqrt(var + options.epsilon), var])


def _gradient(
    maps: jax.Array, known: jax.Array, ct: jax.Array, ct_known: jax.Array, of_var: jax.Array, channels: tuple[int, int]
) -> jax.Array:
    """Returns the whole gradient for some of the maps: their own, and what comes from their statistics."""
    part = slice(*channels)
    (mean, inverse, var), (of_mean, of_inverse) = known, ct_known
    x = maps[..., part].astype(mean.dtype)
    # The variance is the mean square without the squared mean. This is for all channels of the block: a part of them
    # would be of another length.
    of_var = jnp.where(var == 0, 0, of_var - 0.5 * inverse**3 * of_inverse)  # as in `moments`
    of_mean = of_mean - 2 * mean * of_var
    _, pull = jax.vjp(mean_over_devices, channel_means(x, jnp.square(x)))
    ((of_mean, of_square),) = pull(jnp.stack([of_mean[part], of_var[part]]))
    pixels = x.size // x.shape[3]
    # By hand: as the gradient of `channel_means`, DenseNet-121's step has 46 loops more of 1,125 to compile.
    return ct[..., part] + normalized(x, 2 * of_square / pixels, of_mean / pixels).astype(ct.dtype)
