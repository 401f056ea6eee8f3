"""Holds what the makers say of each chip: arithmetic, memory and interconnect. Estimates divide by these figures."""

import dataclasses
import math
import re

from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Chip:
    """Describes a chip by its maker's figures.

    Attributes:
      name: Name as it stands in front of a topology, such as "v5e".
      flops: Peak of bfloat16 operations, in FLOP/s.
      memory: Bytes of memory (HBM).
      bandwidth: Bytes that the memory reads or writes, per second.
      interconnect: Bytes that leave the chip over all its links to other chips, per second.
      most: Largest number of chips that such links join.
      axes: Number of axes of the mesh or torus that the chips form; 1 for GPUs that are all joined with one another.
      source: Document that states the figures.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    most: int
    axes: int
    source: str


_GIB = 2**30
_DOCS = "Cloud TPU documentation, page"

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        # Its page states no bandwidth of the links; an all-reduce of the whole pod moves 1.1 PB/s over 4,096 chips.
        Chip("v4", 275e12, 32 * _GIB, 1200e9, 1.1e15 / 4096, 4096, 3, f"{_DOCS} TPU v4"),
        Chip("v5e", 197e12, 16e9, 819e9, 200e9, 256, 2, f"{_DOCS} TPU v5e: 1,600 Gbit/s between chips"),
        Chip("v5p", 459e12, 95e9, 2765e9, 600e9, 8960, 3, f"{_DOCS} TPU v5p: 4,800 Gbit/s between chips"),
        Chip("v6e", 918e12, 32e9, 1600e9, 400e9, 256, 2, f"{_DOCS} TPU v6e: 3,200 Gbit/s between chips"),
        # Half of what the sheet states for sparse matrices, and for both directions of the links.
        Chip("h100", 1979e12 / 2, 80e9, 3350e9, 450e9, 8, 1, "NVIDIA H100 Tensor Core GPU datasheet, H100 SXM"),
    )
}
"""Chips by name. Of figures that changed from one edition of a page to the next, the lower one."""

_EXAMPLES = {1: ("1", "8"), 2: ("2x2", "4x4", "16x16"), 3: ("2x2x1", "2x2x2", "4x4x4")}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Names chips that are joined by their own links.

    Attributes:
      chip: Kind of the chips.
      shape: Number of chips along each axis.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Returns the name that the compiler knows, such as "v5e:4x4"."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Returns the number of chips."""
        return math.prod(self.shape)


def parse_topology(name: str) -> Topology:
    """Reads the name of a topology, such as "v5e:16x16" or "v4:2x2x1".

    Raises:
      ConfigError: The chip is unknown, or it does not come in such a shape.
    """
    chip_name, _, shape_text = name.partition(":")
    chip = CHIPS.get(chip_name)
    if chip is None:
        raise ConfigError(f"--topology {name} names an unknown chip; choose one like {known_topologies()}")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape_text):
        raise ConfigError(f"--topology {name} has no shape; choose one like {known_topologies()}")
    shape = tuple(map(int, shape_text.split("x")))
    if len(shape) != chip.axes or math.prod(shape) > chip.most:
        axes = "in a row of" if chip.axes == 1 else f"along {chip.axes} axes, as"
        raise ConfigError(
            f"--topology {name} does not exist: {chip.name} comes {axes} up to {chip.most} chips; choose one like"
            f" {', '.join(_names(chip))}"
        )
    return Topology(chip, shape)


def known_topologies() -> str:
    """Returns examples of the topologies of every chip in the table, for a message."""
    return ", ".join(name for chip in CHIPS.values() for name in _names(chip))


def _names(chip: Chip) -> list[str]:
    return [f"{chip.name}:{shape}" for shape in _EXAMPLES[chip.axes]]
