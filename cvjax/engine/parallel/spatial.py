"""This module splits the height of the images over the devices as well, for images too large for one of them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cvjax.data.order import HostShard
from cvjax.engine.parallel.mesh import JitStrategy
from cvjax.errors import ConfigError
from cvjax.nn import DATA_AXIS
from cvjax.ops.height import HEIGHT_AXIS


class SpatialStrategy(JitStrategy):
    """Splits the batch over groups of devices, and the height of the images over the devices of a group.

    Layers see whole maps. XLA's partitioner has each device compute its rows, and neighbors exchange borders; see
    `cvjax.ops.height` for what helps it. A map whose height the devices of a group cannot share evenly is computed by
    all of them: the lowest ones of a net, if its images' height is not a multiple of its stride times the devices, and
    images of other sizes in evaluation.

    Args:
      height: Number of devices in a group; None takes those of one host.
      devices: Devices to use; by default all.

    Raises:
      ConfigError: The devices make no groups of that size.
    """

    def __init__(self, height: int | None = None, devices: list[Any] | None = None) -> None:
        devices = jax.devices() if devices is None else devices
        # Neighbors belong to one host as far as possible.
        devices = sorted(devices, key=lambda device: (device.process_index, device.id))
        local = sum(device.process_index == devices[0].process_index for device in devices)
        self.height = local if height is None else height
        if len(devices) % self.height or (self.height % local and local % self.height):
            raise ConfigError(_no_groups(self.height, len(devices), local))
        grid = np.asarray(devices).reshape(-1, self.height)
        mesh = jax.sharding.Mesh(grid, (DATA_AXIS, HEIGHT_AXIS), axis_types=(AxisType.Auto,) * 2)
        # Hosts of one group read the same rows.
        hosts = max(1, self.height // local)
        self._use(mesh, HostShard(jax.process_index() // hosts, max(1, jax.process_count() // hosts)))
        self._maps = NamedSharding(mesh, P(DATA_AXIS, HEIGHT_AXIS))

    def context(self) -> AbstractContextManager[Any]:
        return jax.set_mesh(self.mesh)  # by which `cvjax.ops.height` knows it

    def batch_shardings(self, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
        """Splits the rows of the image, and of what has a value for each of its pixels."""
        size = batch["image"].shape[1:3]
        splits = size[0] % self.height == 0
        return {name: self._maps if splits and x.shape[1:3] == size else self.rows for name, x in batch.items()}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Checks whether the devices of a group can share the images.

        Raises:
          ConfigError: They cannot.
        """
        height = batch["image"].shape[1]
        if height % self.height:
            nearest = max(1, round(height / self.height)) * self.height
            raise ConfigError(
                f"training images are {height} pixels high, which {self.height} devices cannot share evenly; make them"
                f" {nearest} high, or set --spatial to a number that divides {height}"
            )

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Spreads this group's rows over its devices, see `Strategy`."""
        shardings = self.batch_shardings(batch)
        return {name: self._place(x, shardings[name]) for name, x in batch.items()}

    def _place(self, x: np.ndarray, sharding: NamedSharding) -> jax.Array:
        first, rows = self.shard.index * len(x), self.shard.count * len(x)

        def part(index: Any) -> np.ndarray:  # a slice for each axis
            start, stop, _ = index[0].indices(rows)
            return x[start - first : stop - first, *index[1:]]

        return jax.make_array_from_callback((rows, *x.shape[1:]), sharding, part)


def _no_groups(height: int, devices: int, local: int) -> str:
    fitting = [n for n in range(1, devices + 1) if devices % n == 0 and (n % local == 0 or local % n == 0)]
    return (
        f"--spatial is {height}, and {devices} devices, {local} to a host, make no groups of that size; use one of"
        f" {', '.join(map(str, fitting))}"
    )
