"""This folder spreads a pure step over devices, by the strategy that `--parallel` names.

    jit      one program over a mesh of all devices: the batch is split, the state is on each of them
    pmap     the same step on every device with its own rows, joined by collectives over a named axis
    fsdp     as jit, with the state split as well
    spatial  as jit, with the height of the images split as well

All take and give the same values: states as trees of arrays, batches as each host's own rows. With all of them loss and
parameters are the same up to float32 rounding, whatever the number of devices and hosts, and a run may go on under
another one.
"""

from cvjax.engine.parallel.choose import check_divides, make_strategy
from cvjax.engine.parallel.fsdp import FsdpStrategy
from cvjax.engine.parallel.mesh import JitStrategy
from cvjax.engine.parallel.pmap import PmapStrategy
from cvjax.engine.parallel.spatial import SpatialStrategy
from cvjax.engine.parallel.strategy import Strategy

__all__ = [
    "FsdpStrategy",
    "JitStrategy",
    "PmapStrategy",
    "SpatialStrategy",
    "Strategy",
    "check_divides",
    "make_strategy",
]
