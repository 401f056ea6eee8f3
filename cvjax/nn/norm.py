"""Normalizes over the batch, and over neighboring channels."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import dtypes
from jax import lax
from jaxtyping import Float, Shaped

from cvjax.nn.axis import data_axis
from cvjax.ops.channels import channel_affine, channel_means
from cvjax.ops.dtypes import wider
from cvjax.shapes import Array


def mean_over_devices(means: Any, axis_name: str | None = None, groups: Any = None) -> Any:
    """Returns means over a device's batch as those of all devices' batches, where an axis of devices is bound.

    Args:
      means: Means, a tree of arrays.
      axis_name: Axis of devices, by default `DATA_AXIS`.
      groups: Devices that share statistics, as `jax.lax.pmean` takes them; all by default.
    """
    axis = axis_name or data_axis()
    return means if axis is None else lax.pmean(means, axis, axis_index_groups=groups)


@dataclasses.dataclass(frozen=True)
class BatchNormOptions:
    """Holds the options of a net's BatchNorms, which travel through models as one value.

    Attributes:
      momentum: Decay of the running averages; PyTorch's momentum is one minus this.
      epsilon: Number added to the variance.
      frozen: Whether to normalize with the running statistics in training too, and never update them.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    frozen: bool = False

    def maker(self, **fields: Any) -> "partial[BatchNorm]":
        """Returns a function that builds BatchNorms with these options and the given other fields."""
        return partial(BatchNorm, momentum=self.momentum, epsilon=self.epsilon, frozen=self.frozen, **fields)

    def build(self, **fields: Any) -> "BatchNorm":
        """Builds one BatchNorm with these options and the given other fields."""
        return self.maker(**fields)()


class BatchNorm(nn.BatchNorm):
    """Replaces `flax.linen.BatchNorm` (1502.03167), with a switch that freezes its statistics.

    Fields, parameters (`scale`, `bias`), statistics (`mean`, `var`), defaults and results are Flax's. `momentum` is the
    decay of the running averages, as in flax and TensorFlow: new = momentum * old + (1 - momentum) * batch. PyTorch's
    momentum is one minus that; its default of 0.1 is 0.9 here. The running variance is that of the batch divided by n,
    where PyTorch divides by n - 1.

    Where the devices' axis is bound (see `cvjax.nn.axis`), the statistics are those of the batch on all devices. The
    field `axis_name` is for an axis of another name.

    With `frozen` the running statistics normalize in training too and are never updated; scale and bias still learn.
    That is the choice when fine-tuning with a batch that is too small for good statistics.
    """

    frozen: bool = False

    def __call__(
        self,
        x: Float[Array, "*places channels"],
        use_running_average: bool | None = None,
        *,
        mask: Shaped[Array, "..."] | None = None,
    ) -> Float[jax.Array, "*places channels"]:
        """Normalizes [..., C] to [..., C].

        Args:
          x: Maps to normalize.
          use_running_average: True in evaluation, False in training; here or as a field, not both.
          mask: Elements that are False do not count for the statistics of the batch (broadcast against x).

        Raises:
          ValueError: `frozen` is set and the field `use_running_average` is False.
        """
        if self.frozen:
            if self.use_running_average is False:
                raise ValueError("BatchNorm: frozen means use_running_average; leave that field out")
            use_running_average = None if self.use_running_average else True
        averages = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if averages or not self.force_float32_reductions:
            with jax.numpy_dtype_promotion("standard"):  # Flax's promotes the maps to the statistics' dtype
                return super().__call__(x, use_running_average=use_running_average, mask=mask)
        return self._normalize_by_batch(x, mask)

    def _normalize_by_batch(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        kept = {axis % x.ndim for axis in jax.tree.leaves(self.axis)}
        axes = tuple(axis for axis in range(x.ndim) if axis not in kept)
        return self.normalize(x, *self.statistics(x, axes, mask), axes)

    def normalize(self, x: jax.Array, mean: jax.Array, var: jax.Array, axes: tuple[int, ...] = (0, 1, 2)) -> jax.Array:
        """Normalizes by the batch's statistics in training, and updates the running ones.

        The result is Flax's, as one product and one sum for each element, whose gradients need only x. Flax subtracts
        the mean first. XLA then keeps the difference for the gradient, which is one array more to write and read.

        Args:
          x: Maps to normalize.
          mean: Mean of the batch.
          var: Variance of the batch.
          axes: Axes that they were taken over.
        """
        factor, offset = self.affine(mean, var)
        params = self.variables.get("params", {})
        dtype = dtypes.canonicalize_dtype(x, *params.values(), dtype=self.dtype)
        return normalized(x, factor, offset, axes).astype(dtype)

    @nn.compact
    def affine(self, mean: jax.Array, var: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns what normalization multiplies by and then adds, in training, and updates the running statistics.

        Args:
          mean: Mean of the batch.
          var: Variance of the batch.
        """
        shape = mean.shape
        old_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        old_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else None
        bias = self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None
        if not self.is_initializing():
            old_mean.value = self.momentum * old_mean.value + (1 - self.momentum) * mean
            old_var.value = self.momentum * old_var.value + (1 - self.momentum) * var
        return affine_of(mean, var, scale, bias, self.epsilon)

    def over_devices(self, means: Any) -> Any:
        """Returns means over the batch as those of all devices' batches, where an axis of devices is bound."""
        if self.is_initializing():
            return means
        return mean_over_devices(means, self.axis_name, self.axis_index_groups)

    def statistics(
        self, x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns mean and variance of the batch, over all devices of a bound axis, in float32 or wider.

        Args:
          x: Maps.
          axes: Axes that are averaged over.
          mask: Elements that are False do not count (broadcast against x).
        """
        x = x.astype(wider(self.dtype or x.dtype, jnp.float32))
        mask = None if mask is None else mask.astype(bool)
        return moments(x, axes, mask=mask, fast=self.use_fast_variance, over_devices=self.over_devices)


def moments(
    x: jax.Array,
    axes: tuple[int, ...],
    *,
    mask: jax.Array | None = None,
    fast: bool = True,
    over_devices: Callable[[jax.Array], jax.Array] = mean_over_devices,
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance of maps in float32 or wider.

    Args:
      x: Maps.
      axes: Axes that are averaged over.
      mask: bool, elements that are False do not count (broadcast against x).
      fast: Whether to take both from one reading of x, as mean and mean square.
      over_devices: Function that makes a device's means those of all devices.
    """

    def averages(*arrays: jax.Array) -> jax.Array:
        if mask is None and axes == tuple(range(x.ndim - 1)):
            return over_devices(channel_means(*arrays))
        return over_devices(jnp.stack([a.mean(axes, where=mask) for a in arrays]))

    if not fast:
        (mean,) = averages(x)
        return mean, averages(jnp.square(x - jnp.expand_dims(mean, axes)))[0]
    mean, square = averages(x, jnp.square(x))
    # Rounding can bring the difference below zero.
    return mean, jnp.maximum(0.0, square - jnp.square(mean))


def affine_of(
    mean: jax.Array, var: jax.Array, scale: jax.Array | None, bias: jax.Array | None, epsilon: float
) -> tuple[jax.Array, jax.Array]:
    """Returns what normalization by these statistics, with this scale and bias, multiplies by and then adds."""
    factor = lax.rsqrt(var + epsilon)
    factor = factor if scale is None else factor * scale
    return factor, -mean * factor if bias is None else bias - mean * factor


def normalized(x: jax.Array, factor: jax.Array, offset: jax.Array, axes: tuple[int, ...] = (0, 1, 2)) -> jax.Array:
    """Multiplies maps by a factor for each channel and adds an offset, in the wider of their dtypes."""
    x = x.astype(wider(x.dtype, factor.dtype))
    if axes == tuple(range(x.ndim - 1)):
        return channel_affine(x, factor.astype(x.dtype), offset.astype(x.dtype))
    return x * jnp.expand_dims(factor, axes) + jnp.expand_dims(offset, axes)


class LocalResponseNorm(nn.Module):
    """Divides each channel by a power of the energy of its neighbors (AlexNet, section 3.3), or of nearby pixels.

    y_c = x_c / (k + alpha * sum of x_j^2 over the `size` channels j around c) ^ beta, computed in float32 or wider. The
    defaults are the paper's. Caffe and PyTorch divide their alpha by `size`, and their k is 1 by default: for
    `torch.nn.LocalResponseNorm(5)` pass alpha=1e-4 / 5 and k=1.

    Attributes:
      size: Number of channels in the sum; from `size // 2` before c to `(size - 1) // 2` after it.
      alpha: Factor on the sum.
      beta: Exponent.
      k: Number that the sum is added to.
      within_channels: Sum over the `size` x `size` pixels around a pixel, each channel by itself, with zeros beyond the
        map. This is Caffe's WITHIN_CHANNEL, whose alpha is divided by `size` * `size`.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    within_channels: bool = False

    def __call__(self, x: Float[Array, "*places channels"]) -> Float[jax.Array, "*places channels"]:
        """Normalizes [..., C] to [..., C], in the dtype of x.

        Raises:
          ValueError: The size is below 1, or `within_channels` is set for x without rows and columns.
        """
        if self.size < 1:
            raise ValueError(f"LocalResponseNorm: size is at least 1, got {self.size}")
        if self.within_channels and x.ndim < 3:
            raise ValueError(f"LocalResponseNorm: within channels it takes maps [..., H, W, C], not {x.shape}")
        wide = x.astype(wider(x.dtype, jnp.float32))
        energy = wide * wide
        for axis in (x.ndim - 3, x.ndim - 2) if self.within_channels else (x.ndim - 1,):
            energy = self._sum_around(energy, axis)
        scale = self.k + self.alpha * energy
        if self.beta == 0.75:
            root = lax.rsqrt(scale)  # two roots are far cheaper than a power
            return (wide * root * jnp.sqrt(root)).astype(x.dtype)
        return (wide * scale**-self.beta).astype(x.dtype)

    def _sum_around(self, squares: jax.Array, axis: int) -> jax.Array:
        edges = [(0, 0)] * squares.ndim
        edges[axis] = (self.size // 2, (self.size - 1) // 2)
        padded, length = jnp.pad(squares, edges), squares.shape[axis]
        parts = [lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(self.size)]
        return sum(parts[1:], parts[0])
