"""This module says what a strategy is, for the loop and the evaluation, and holds what all of them share."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from cvjax.data.order import HostShard
from cvjax.engine.step import EvalStep, Layout, TrainStep


class Strategy(Protocol):
    """Places values on devices and compiles steps for them.

    Attributes:
      axis_name: Name of pmap's axis, over which the step sums; None under jit, where a batch is one array.
      device_count: Number of devices over all hosts.
      shares: Number of parts that a batch is split into; every batch size is a multiple of it.
      shard: This host's share of every batch.
      layout: How the training step treats parameters and gradients.
    """

    axis_name: str | None
    device_count: int
    shares: int
    shard: HostShard
    layout: Layout

    def compile_train(self, step: TrainStep) -> Callable[[Any, Any, jax.Array], tuple[Any, Any]]:
        """Returns the step over devices. It consumes its state: the caller must not use that state again."""
        ...

    def compile_eval(self, step: EvalStep) -> Callable[[Any, Any], Any]:
        """Returns the evaluation step over devices.

        Its attribute `ahead(variables, batch, runs=count)`, where it has one, compiles the program for such a batch,
        which is to run so many times; any thread may call it.
        """
        ...

    def start(self, make: Callable[[Any], Any], variables: Any) -> Any:
        """Returns the placed state that a function makes of variables, which must be the same on every host."""
        ...

    def like(self, shapes: Any) -> Any:
        """Returns what a checkpoint is read into, for the shapes of a state.

        Leaves without a sharding are read as numpy arrays, for `place_state`.
        """
        ...

    def place_state(self, tree: Any) -> Any:
        """Places host values, which must be the same on every host, and what was read by `like`."""
        ...

    def place_everywhere(self, tree: Any) -> Any:
        """Places host values whole on every device, for the third argument of a training step."""
        ...

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Spreads this host's rows of a batch over its devices."""
        ...

    def snapshot(self, tree: Any) -> Any:
        """Copies a placed state into global arrays, as a checkpoint holds it; every strategy's have the same shapes."""
        ...

    def fetch(self, tree: Any) -> Any:
        """Returns a placed value, such as sums, metrics or variables, as numpy arrays. Every host calls it."""
        ...


def this_host() -> HostShard:
    """Returns the share of a host where each reads rows of its own."""
    return HostShard(jax.process_index(), jax.process_count())


def host_value(x: Any) -> np.ndarray:
    """Returns a value that is whole on this host as a numpy array."""
    return np.asarray(x.addressable_data(0) if isinstance(x, jax.Array) else x)


def placed(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """Places a value that is whole on this host: each device takes a copy of its own part.

    A value that was read onto these devices by parts stays there.
    """
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    value = host_value(x)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
