"""This module spreads a pure step over devices, by one of two strategies: `jit` over a mesh, or `pmap`.

Both take and give the same values: states and sums as replicated values, batches as each host's own rows. With both,
loss and parameters are the same up to float32 rounding, whatever the number of devices and hosts.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.engine.config import Mode
from cvjax.engine.step import EvalStep, TrainStep
from cvjax.errors import ConfigError
from cvjax.nn import DATA_AXIS
from cvjax.runtime.compiler import compiled

LOCAL_AXIS = "devices"
"""Name of pmap's axis where each device normalizes by itself: layers look for `DATA_AXIS` and do not find it."""


class Strategy(Protocol):
    """Places values on devices and compiles steps for them.

    Attributes:
      axis_name: Name of pmap's axis, over which the step sums; None under jit, where a batch is one array.
      device_count: Number of devices over all hosts; every batch size is a multiple of it.
    """

    axis_name: str | None
    device_count: int

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Returns the step over devices. It consumes its state: the caller must not use that state again."""
        ...

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Returns the evaluation step over devices."""
        ...

    def place_state(self, tree: Any) -> Any:
        """Replicates host values, which must be the same on every host."""
        ...

    def place_batch(self, batch: dict[str, np.ndarray]) -> Any:
        """Spreads this host's rows of a batch over its devices."""
        ...

    def replicated(self, tree: Any) -> Any:
        """Copies a placed state into global arrays, as a checkpoint holds it. They are the same for every strategy."""
        ...

    def fetch(self, tree: Any) -> Any:
        """Returns a placed value, such as sums or metrics, as numpy arrays."""
        ...


class JitStrategy:
    """Runs one program over a mesh of all devices.

    The batch is sharded along its first axis, the state is replicated.
    """

    axis_name: str | None = None

    def __init__(self, devices: list[Any] | None = None) -> None:  # jax.Device is a variable, no type
        devices = jax.devices() if devices is None else devices
        self.device_count = len(devices)
        mesh = jax.sharding.Mesh(np.asarray(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))
        self._rows = NamedSharding(mesh, P(DATA_AXIS))
        self._everywhere = NamedSharding(mesh, P())
        self._platform = devices[0].platform

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Compiles the step, see `Strategy`."""
        everywhere = self._everywhere
        return compiled(
            step,
            self._platform,
            in_shardings=(everywhere, self._rows, everywhere),
            out_shardings=(everywhere, everywhere),
            donate_argnums=0,
        )

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Compiles the evaluation step, see `Strategy`."""
        return compiled(
            step,
            self._platform,
            in_shardings=(self._everywhere, self._rows),
            out_shardings=self._everywhere,
        )

    def place_state(self, tree: Any) -> Any:
        """Replicates host values, see `Strategy`."""
        return jax.tree.map(lambda x: _replicate(x, self._everywhere), tree)

    def place_batch(self, batch: dict[str, np.ndarray]) -> Any:
        """Spreads rows over devices, see `Strategy`."""
        return {name: jax.make_array_from_process_local_data(self._rows, x) for name, x in batch.items()}

    def replicated(self, tree: Any) -> Any:
        """Copies a placed state, see `Strategy`.

        The copy matters: the next step gives the state's buffers away while a save may still read them.
        """
        return jax.tree.map(jnp.copy, tree)

    def fetch(self, tree: Any) -> Any:
        """Returns numpy arrays, see `Strategy`."""
        return jax.device_get(tree)


class PmapStrategy:
    """Runs the same step on every device with its own rows. Collectives over a named axis join the devices.

    `jax.pmap` takes no compiler options, so on CPU `JitStrategy` is the faster one.

    Args:
      sync_batch_norm: Whether layers act on the whole batch, see `cvjax.nn.axis`; otherwise each device normalizes its
        own rows and draws its own random numbers.
    """

    def __init__(self, sync_batch_norm: bool = True) -> None:
        self.axis_name: str | None = DATA_AXIS if sync_batch_norm else LOCAL_AXIS
        self.device_count = jax.device_count()
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()), (self.axis_name,), axis_types=(AxisType.Auto,))
        self._everywhere = NamedSharding(mesh, P())

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Compiles the step, see `Strategy`."""
        return jax.pmap(step, axis_name=self.axis_name, in_axes=(0, 0, None), donate_argnums=0)

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Compiles the evaluation step, see `Strategy`."""
        return jax.pmap(step, axis_name=self.axis_name)

    def place_state(self, tree: Any) -> Any:
        """Replicates host values, see `Strategy`."""
        return jax_utils.replicate(jax.tree.map(_host_value, tree))

    def place_batch(self, batch: dict[str, np.ndarray]) -> Any:
        """Spreads rows over devices, see `Strategy`."""
        devices = jax.local_device_count()
        return {name: x.reshape(devices, x.shape[0] // devices, *x.shape[1:]) for name, x in batch.items()}

    def replicated(self, tree: Any) -> Any:
        """Copies a placed state, see `Strategy`."""
        return jax.tree.map(lambda x: _replicate(np.array(_first(x)), self._everywhere), tree)

    def fetch(self, tree: Any) -> Any:
        """Returns numpy arrays, see `Strategy`."""
        return jax.tree.map(lambda x: np.asarray(_first(x)), tree)


def make_strategy(mode: Mode, batch_size: int, sync_batch_norm: bool = True) -> Strategy:
    """Returns the strategy of a name, checked against the batch.

    Raises:
      ConfigError: The global batch does not divide over the devices, or jit is asked for BatchNorm by device.
    """
    if mode == "jit" and not sync_batch_norm:
        raise ConfigError(
            "per-device BatchNorm exists under pmap only; add --parallel pmap, or drop --no-sync-batch-norm"
        )
    strategy = JitStrategy() if mode == "jit" else PmapStrategy(sync_batch_norm)
    check_divides(batch_size, strategy.device_count, "batch_size")
    return strategy


def check_divides(batch_size: int, devices: int, field: str) -> None:
    """Checks that a global batch can be dealt out evenly to the devices.

    Raises:
      ConfigError: It cannot.
    """
    if batch_size <= 0 or batch_size % devices:
        nearest = max(1, round(batch_size / devices)) * devices
        raise ConfigError(
            f"{field} is {batch_size}, which cannot be spread evenly over {devices} devices; use {nearest}"
        )


def _host_value(x: Any) -> np.ndarray:
    return np.asarray(x.addressable_data(0) if isinstance(x, jax.Array) else x)


def _replicate(x: Any, sharding: NamedSharding) -> jax.Array:
    value = _host_value(x)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _first(x: jax.Array) -> jax.Array:
    """Returns this host's first copy of a value. pmap holds one copy for each device, along a leading axis."""
    return x.addressable_data(0)[0]
