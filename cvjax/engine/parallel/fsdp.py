"""This module splits the state over the devices as well: parameters, their average and the optimizer's memory."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.engine.parallel.mesh import JitStrategy
from cvjax.engine.step import Layout
from cvjax.nn import DATA_AXIS

_FEW = 4096
"""Arrays of fewer numbers stay whole: all of a net's biases and norms are a few thousandths of it, and each gather of
one costs as much time as a large one's start."""


class FsdpStrategy(JitStrategy):
    """Splits the batch, and each large array of the state along one of its axes (1910.02054, 2004.13336).

    Each device holds its part of the state and updates it. A step gathers the parameters once, and gives each device
    its part of the summed gradients. Checkpoints are written and read by parts, so that no host holds a whole state.

    Args:
      devices: Devices to use; by default all.
    """

    def __init__(self, devices: list[Any] | None = None) -> None:
        super().__init__(devices)
        self.layout = Layout(whole=self._gather, split=self._split)

    def state_sharding(self, leaf: Any) -> NamedSharding:
        """Splits the longest of the axes that the devices divide, the last among equals."""
        shape = leaf.shape
        fitting = [axis for axis, side in enumerate(shape) if side % self.device_count == 0]
        if math.prod(shape) < _FEW or not fitting:
            return self.everywhere
        chosen = max(fitting, key=lambda axis: (shape[axis], axis))
        return NamedSharding(self.mesh, P(*(DATA_AXIS if axis == chosen else None for axis in range(len(shape)))))

    def start(self, make: Callable[[Any], Any], variables: Any) -> Any:
        """Makes a state of variables, see `Strategy`; what is made is never whole."""
        variables = self.place_state(variables)
        shardings = jax.tree.map(self.state_sharding, jax.eval_shape(make, variables))
        return jax.jit(make, out_shardings=shardings)(variables)

    def like(self, shapes: Any) -> Any:
        """Returns what a checkpoint is read into, see `Strategy`: each host reads the parts of its devices."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.state_sharding(x)), shapes)

    def fetch(self, tree: Any) -> Any:
        """Returns whole numpy arrays, see `Strategy`."""
        if jax.process_count() > 1:
            tree = jax.jit(lambda t: t, out_shardings=self.everywhere)(tree)
        return jax.device_get(tree)

    def _gather(self, tree: Any) -> Any:
        return jax.lax.with_sharding_constraint(tree, self.everywhere)

    def _split(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.state_sharding(x)), tree)
