"""This module runs the same step on every device, joined by collectives over a named axis."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.engine.parallel.strategy import host_value, placed, this_host
from cvjax.engine.step import EvalStep, Layout, TrainStep
from cvjax.nn import DATA_AXIS
from cvjax.runtime.drawing import fill

LOCAL_AXIS = "devices"
"""Name of pmap's axis where each device normalizes by itself: layers look for `DATA_AXIS` and do not find it."""


class PmapStrategy:
    """Runs the same step on every device with its own rows. Collectives over a named axis join the devices.

    `jax.pmap` takes no compiler options, so on CPU `JitStrategy` is the faster one.

    Args:
      sync_batch_norm: Whether layers act on the whole batch, see `cvjax.nn.axis`; otherwise each device normalizes its
        own rows and draws its own random numbers.
    """

    def __init__(self, sync_batch_norm: bool = True) -> None:
        self.axis_name: str | None = DATA_AXIS if sync_batch_norm else LOCAL_AXIS
        self.device_count = self.shares = jax.device_count()
        self.shard, self.layout = this_host(), Layout()
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()), (self.axis_name,), axis_types=(AxisType.Auto,))
        self._everywhere = NamedSharding(mesh, P())

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Compiles the step, see `Strategy`."""
        return jax.pmap(step, axis_name=self.axis_name, in_axes=(0, 0, None), donate_argnums=0)

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Compiles the evaluation step, see `Strategy`."""
        return jax.pmap(step, axis_name=self.axis_name)

    def start(self, make: Callable[[Any], Any], variables: Any) -> Any:
        """Makes a state of variables, see `Strategy`."""
        return self.place_state(fill(make, variables))

    def like(self, shapes: Any) -> Any:
        """Returns what a checkpoint is read into, see `Strategy`."""
        return shapes

    def place_state(self, tree: Any) -> Any:
        """Replicates host values, see `Strategy`."""
        return jax_utils.replicate(jax.tree.map(host_value, tree))

    def place_everywhere(self, tree: Any) -> Any:
        """Places whole values, see `Strategy`; pmap copies them to the other devices at each step."""
        return jax.device_put(tree)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Spreads rows over devices, see `Strategy`."""
        devices = jax.local_device_count()
        return {name: x.reshape(devices, x.shape[0] // devices, *x.shape[1:]) for name, x in batch.items()}

    def snapshot(self, tree: Any) -> Any:
        """Copies a placed state, see `Strategy`."""
        return jax.tree.map(lambda x: placed(np.array(_first(x)), self._everywhere), tree)

    def fetch(self, tree: Any) -> Any:
        """Returns numpy arrays, see `Strategy`."""
        return jax.tree.map(lambda x: np.asarray(_first(x)), tree)


def _first(x: jax.Array) -> jax.Array:
    """Returns this host's first copy of a value. pmap holds one copy for each device, along a leading axis."""
    return x.addressable_data(0)[0]
