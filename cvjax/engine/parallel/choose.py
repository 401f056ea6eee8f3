"""This module makes the strategy that a configuration names, and checks it against the batch."""

from cvjax.engine.modes import Mode
from cvjax.engine.parallel.fsdp import FsdpStrategy
from cvjax.engine.parallel.mesh import JitStrategy
from cvjax.engine.parallel.pmap import PmapStrategy
from cvjax.engine.parallel.spatial import SpatialStrategy
from cvjax.engine.parallel.strategy import Strategy
from cvjax.errors import ConfigError


def make_strategy(mode: Mode, batch_size: int, sync_batch_norm: bool = True, spatial: int | None = None) -> Strategy:
    """Returns the strategy of a name, checked against the batch.

    Args:
      mode: Name of the strategy.
      batch_size: Number of examples in a batch, over all devices.
      sync_batch_norm: Whether BatchNorm's statistics are those of all devices.
      spatial: Number of devices that share an image, under `spatial`.

    Raises:
      ConfigError: The global batch does not divide over the devices, the devices make no such layout, or a setting
        belongs to another strategy.
    """
    if mode != "pmap" and not sync_batch_norm:
        raise ConfigError(
            "per-device BatchNorm exists under pmap only; add --parallel pmap, or drop --no-sync-batch-norm"
        )
    if mode != "spatial" and spatial is not None:
        raise ConfigError(f"--spatial {spatial} splits images under --parallel spatial only; add that, or drop it")
    if mode == "spatial":
        strategy = SpatialStrategy(spatial)
    elif mode == "pmap":
        strategy = PmapStrategy(sync_batch_norm)
    else:
        strategy = JitStrategy() if mode == "jit" else FsdpStrategy()
    check_divides(batch_size, strategy.shares, "batch_size")
    return strategy


def check_divides(batch_size: int, shares: int, field: str) -> None:
    """Checks that a global batch can be dealt out evenly to the devices, or to groups of them.

    Raises:
      ConfigError: It cannot.
    """
    if batch_size <= 0 or batch_size % shares:
        nearest = max(1, round(batch_size / shares)) * shares
        way = f"use {nearest}"
        if 0 < batch_size < shares:
            suited = " with an --optim.learning-rate that suits it" if field == "batch_size" else ""
            way += f"{suited}, or at most {batch_size} devices"
        raise ConfigError(f"{field} is {batch_size}, which cannot be spread evenly over {shares} devices; {way}")
