"""This module runs one program over a mesh of all devices; what is split over them, XLA's partitioner works out."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.data.order import HostShard
from cvjax.engine.parallel.strategy import placed, this_host
from cvjax.engine.step import EvalStep, Layout, TrainStep
from cvjax.nn import DATA_AXIS
from cvjax.runtime.compiler import Programs, compiled
from cvjax.runtime.drawing import fill


class JitStrategy:
    """Splits the batch along its first axis, and keeps the state on every device.

    Args:
      devices: Devices to use; by default all.
    """

    axis_name: str | None = None

    def __init__(self, devices: list[Any] | None = None) -> None:  # jax.Device is a variable, no type
        devices = jax.devices() if devices is None else devices
        self._use(jax.sharding.Mesh(np.asarray(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,)), this_host())

    def _use(self, mesh: jax.sharding.Mesh, shard: HostShard) -> None:
        self.mesh, self.shard = mesh, shard
        self.device_count, self.shares = mesh.size, mesh.shape[DATA_AXIS]
        self.rows = NamedSharding(mesh, P(DATA_AXIS))
        self.everywhere = NamedSharding(mesh, P())
        self.layout = Layout()
        self._platform = mesh.devices.flat[0].platform

    def context(self) -> AbstractContextManager[Any]:
        """Returns the context that steps are traced in."""
        return nullcontext()

    def state_sharding(self, leaf: Any) -> NamedSharding:
        """Returns where an array of the state lies, by its shape."""
        return self.everywhere

    def batch_shardings(self, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
        """Returns where the arrays of a batch lie, by their shapes."""
        return dict.fromkeys(batch, self.rows)

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Checks whether the devices can share a training batch.

        Raises:
          ConfigError: They cannot.
        """

    def train_program(self, step: TrainStep, state: Any, batch: Mapping[str, Any]) -> Callable[..., Any]:
        """Returns the jitted training step for states and batches of these shapes. It consumes its state."""
        self.check_batch(batch)
        state_at = jax.tree.map(self.state_sharding, state)
        return compiled(
            step,
            self._platform,
            in_shardings=(state_at, self.batch_shardings(batch), self.everywhere),
            out_shardings=(state_at, self.everywhere),
            donate_argnums=0,
        )

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Compiles the step, see `Strategy`."""
        programs: dict[Any, Callable[..., Any]] = {}

        def call(state: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
            kind = _kind(batch)
            if kind not in programs:
                programs[kind] = self.train_program(step, state, batch)
            with self.context():
                return programs[kind](state, batch, key)

        return call

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Compiles the evaluation step, see `Strategy`."""
        programs: dict[Any, Programs] = {}

        def whole_step(variables: Any, batch: Any) -> Any:
            return step(self.layout.whole(variables), batch)

        def program(variables: Any, batch: Any) -> Programs:
            kind = _kind(batch)
            if kind not in programs:
                state_at = jax.tree.map(self.state_sharding, variables)
                made = compiled(
                    whole_step,
                    self._platform,
                    in_shardings=(state_at, self.batch_shardings(batch)),
                    out_shardings=self.everywhere,
                )
                programs[kind] = Programs(made)
            return programs[kind]

        def call(variables: Any, batch: Any) -> Any:
            with self.context():
                return program(variables, batch)(variables, batch)

        def ahead(variables: Any, batch: Any, *, runs: float) -> None:
            with self.context():
                program(variables, batch).ahead(variables, batch, runs=runs)

        vars(call)["ahead"] = ahead
        return call

    def start(self, make: Callable[[Any], Any], variables: Any) -> Any:
        """Makes a state of variables, see `Strategy`."""
        return self.place_state(fill(make, variables))

    def like(self, shapes: Any) -> Any:
        """Returns what a checkpoint is read into, see `Strategy`."""
        return shapes

    def place_state(self, tree: Any) -> Any:
        """Places values, see `Strategy`."""
        return jax.tree.map(lambda x: placed(x, self.state_sharding(x)), tree)

    def place_everywhere(self, tree: Any) -> Any:
        """Places whole values, see `Strategy`."""
        return jax.tree.map(lambda x: placed(x, self.everywhere), tree)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Spreads rows over devices, see `Strategy`."""
        return {name: jax.make_array_from_process_local_data(self.rows, x) for name, x in batch.items()}

    def snapshot(self, tree: Any) -> Any:
        """Copies a placed state, see `Strategy`.

        The copy matters: the next step gives the state's buffers away while a save may still read them.
        """
        return jax.tree.map(jnp.copy, tree)

    def fetch(self, tree: Any) -> Any:
        """Returns numpy arrays, see `Strategy`."""
        return jax.device_get(tree)


def _kind(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, x.shape) for name, x in batch.items())
