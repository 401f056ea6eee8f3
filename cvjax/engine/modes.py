"""Names the ways to spread a step over devices; a command line that has them needs no JAX."""

from typing import Literal

Mode = Literal["jit", "pmap", "fsdp", "spatial"]
