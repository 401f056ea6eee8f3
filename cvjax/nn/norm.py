"""Batch normalisation that can be frozen."""

import flax.linen as nn
import jax


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` (1502.03167) with PyTorch's epsilon, and a switch that freezes its statistics.

    `momentum` is the decay of the running averages, as in flax and TensorFlow: new = momentum * old +
    (1 - momentum) * batch. PyTorch's momentum is one minus that; its default of 0.1 is 0.9 here.
    The running variance is that of the batch divided by n, where PyTorch divides by n - 1.

    `axis_name` names the device axis under pmap or shard_map, over which the statistics are then averaged.
    Under plain jit leave it None: a sharded batch is one batch there.

    With `frozen` the running statistics normalise in training too and are never updated; scale and bias
    still learn. That is the choice when fine-tuning with a batch too small for its statistics to mean much.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    frozen: bool = False

    def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
        """[..., C] -> [..., C]; `use_running_average` is False in training; it is not taken as a field."""
        return super().__call__(x, use_running_average=use_running_average or self.frozen)
