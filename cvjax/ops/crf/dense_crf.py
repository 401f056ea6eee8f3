"""Computes fully connected conditional random fields (Krähenbühl and Koltun, 1210.5644).

Labels agree where pixels look alike. Every pixel is tied to every other by two Gaussian kernels, one of their distance
and one of their distance and colors. Mean field inference repeats one step: each pixel's label distribution is set from
its unary energy and the sum of all other distributions under the kernels. The first kernel's sums are two passes of
shifted sums along the axes, the second's a filter on the permutohedral lattice.
"""

import math
import operator
from collections.abc import Callable
from functools import reduce

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Real

from cvjax.ops.crf.kernels import DEEPLAB_V2, CRFKernels
from cvjax.ops.crf.permutohedral import build_lattice, permutohedral_filter
from cvjax.shapes import Array

_FAR = 5.0  # standard deviations at which a kernel is taken for zero, 4e-6
_TINY = 1e-20  # keeps the normalization finite where no pixel counts


def dense_crf(
    unaries: Float[Array, "*batch height width labels"],
    images: Real[Array, "*batch height width 3"],
    kernels: CRFKernels = DEEPLAB_V2,
    *,
    iterations: int = 10,
    valid: Bool[Array, "*batch height width"] | None = None,
    smooth_weights: Float[Array, "..."] | None = None,
    appearance_weights: Float[Array, "..."] | None = None,
    compatibility: Float[Array, "labels labels"] | None = None,
    log: bool = False,
    exact: bool = False,
) -> Float32[jax.Array, "*batch height width labels"]:
    """Computes marginals of a dense CRF by mean field inference that updates all pixels at once.

    The function is pure and works under `jit` and `vmap`, on any platform. The images of a batch follow one another, so
    under `jit` every device of a mesh computes the whole of a batch that is spread over the mesh. Under `shard_map` or
    `pmap` each device computes its own images.

    It is differentiable in reverse mode with respect to unaries, weights and compatibility, so that it can be trained
    as the last layer of a net (CRF as RNN, 1502.03240). No gradient flows to the images. Kernels are normalized
    symmetrically: k(i, j) / sqrt(sum_j k(i, j) sum_i k(i, j)). A pixel is tied to itself too, as in the authors'
    program.

    Args:
      unaries: Minus the logarithm of each label's probability, up to a constant for each pixel, [H, W, C] or
        [B, H, W, C]. Minus a net's logits will do.
      images: Colors in [0, 255], integer or floating, [H, W, 3] or [B, H, W, 3].
      kernels: Widths of the kernels, and the weights that are not given below.
      iterations: Number of steps of mean field inference.
      valid: bool [H, W] or [B, H, W], False for padding, which then has no influence. None takes all for pixels.
      smooth_weights: Weights of the kernel of positions in place of those of `kernels`: a scalar, [C], or [C, C] that
        mixes the labels' messages (1502.03240).
      appearance_weights: The same for the kernel of positions and colors.
      compatibility: Costs [C, C]; row l holds the cost of label l at one pixel beside each label at another. None is
        Potts: 1 for different labels.
      log: Whether to return logarithms of probabilities, as losses want them.
      exact: Whether to sum over all pairs of pixels, in O((H W)^2) time and memory; meant for tests.

    Returns:
      float32 probabilities, or their logarithms, in the shape of `unaries`.

    Raises:
      ValueError: There are fewer than 0 iterations.
    """
    chex.assert_rank(unaries, {3, 4})
    chex.assert_shape(images, (*unaries.shape[:-1], 3))
    if iterations < 0:
        raise ValueError(f"mean field inference takes 0 iterations or more, not {iterations}")
    valid = jnp.ones(unaries.shape[:-1], bool) if valid is None else valid
    chex.assert_shape(valid, unaries.shape[:-1])
    smooth = jnp.asarray(kernels.smooth_weight if smooth_weights is None else smooth_weights, jnp.float32)
    appearance = jnp.asarray(
        kernels.appearance_weight if appearance_weights is None else appearance_weights, jnp.float32
    )

    def one(unaries: jax.Array, image: jax.Array, valid: jax.Array) -> jax.Array:
        filters = _filters(image, valid, kernels, exact)
        logits = _mean_field(unaries, filters, (smooth, appearance), compatibility, iterations)
        return jax.nn.log_softmax(logits) if log else jax.nn.softmax(logits)

    if unaries.ndim == 4:
        one = jax.vmap(one)
    return one(unaries.astype(jnp.float32), images.astype(jnp.float32), valid)


Filter = Callable[[jax.Array], jax.Array]


def _mean_field(
    unaries: jax.Array,
    filters: tuple[Filter, ...],
    weights: tuple[jax.Array, ...],
    compatibility: jax.Array | None,
    iterations: int,
) -> jax.Array:
    """Returns the logits of the marginals."""

    def step(logits: jax.Array, _: None) -> tuple[jax.Array, None]:
        marginals = jax.nn.softmax(logits)
        messages = reduce(operator.add, map(_mixed, (filter_(marginals) for filter_ in filters), weights))
        # Potts: what differs costs, so, up to a constant, what agrees pays.
        pays = messages if compatibility is None else -messages @ compatibility.T
        return pays - unaries, None

    return jax.lax.scan(step, -unaries, length=iterations)[0]


def _mixed(messages: jax.Array, weight: jax.Array) -> jax.Array:
    if weight.ndim == 2:
        return messages @ weight.T
    return messages * jnp.expand_dims(weight, tuple(range(messages.ndim - weight.ndim)))


def _filters(image: jax.Array, valid: jax.Array, kernels: CRFKernels, exact: bool) -> tuple[Filter, Filter]:
    """Returns the sums under the two kernels, normalized symmetrically, as functions of [H, W, C] to [H, W, C]."""
    height, width = valid.shape
    rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
    position = jnp.stack([columns, rows], axis=-1)
    appearance = jnp.concatenate([position / kernels.appearance_sigma, image / kernels.color_sigma], axis=-1)
    # Padding lies on top of some pixel, so that it adds no corners to the lattice.
    some = appearance.reshape(-1, 5)[jnp.argmax(valid.reshape(-1))]
    appearance = jnp.where(valid[..., None], appearance, some[None, None])
    if exact:
        sums = (_sum_over_pairs(position / kernels.smooth_sigma), _sum_over_pairs(appearance))
    else:
        sums = (_gaussian_blur(kernels.smooth_sigma), _lattice_sum(appearance))
    smooth, similar = sums
    return _normalized(smooth, valid), _normalized(similar, valid)


def _normalized(sum_: Filter, valid: jax.Array) -> Filter:
    valid = valid[..., None].astype(jnp.float32)
    factor = valid * jax.lax.rsqrt(sum_(valid) + _TINY)
    return lambda values: factor * sum_(factor * values)


def _lattice_sum(points: jax.Array) -> Filter:
    height, width, dimensions = points.shape
    lattice = build_lattice(points.reshape(height * width, dimensions))
    return lambda values: permutohedral_filter(lattice, values.reshape(height * width, -1)).reshape(values.shape)


def _sum_over_pairs(points: jax.Array) -> Filter:
    flat = points.reshape(-1, points.shape[-1])
    kernel = jnp.exp(-0.5 * jnp.square(flat[:, None] - flat[None]).sum(-1))
    return lambda values: (kernel @ values.reshape(len(flat), -1)).reshape(values.shape)


def _gaussian_blur(sigma: float) -> Filter:
    """Returns a function that sums exp(-distance^2 / 2 sigma^2) over an image, in two passes along the axes.

    Beyond the borders the image counts as zero.
    """
    reach = math.ceil(_FAR * sigma)

    def blur(values: jax.Array) -> jax.Array:
        for axis in (0, 1):
            values = _along(values, axis)
        return values

    def _along(values: jax.Array, axis: int) -> jax.Array:
        size = values.shape[axis]
        distance = jnp.arange(-min(reach, size - 1), min(reach, size - 1) + 1, dtype=float)
        taps = jnp.exp(-0.5 * jnp.square(distance / sigma))
        beside = len(distance) // 2
        edges = [(beside, beside) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(values, edges)
        parts = (tap * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, tap in enumerate(taps))
        return reduce(operator.add, parts)

    return blur
