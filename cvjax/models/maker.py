"""Blocks get makers of layers, which have this type."""

from collections.abc import Callable

import flax.linen as nn

ModuleMaker = Callable[..., nn.Module]
"""Builds a layer. The architecture has already bound dtype, momentum and the like."""
