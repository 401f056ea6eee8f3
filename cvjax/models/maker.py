"""The type of what blocks get in order to build their layers."""

from collections.abc import Callable

import flax.linen as nn

ModuleMaker = Callable[..., nn.Module]
"""Builds a layer from what the architecture decides on; dtype, momentum and the like are bound already."""
