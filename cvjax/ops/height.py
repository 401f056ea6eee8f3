"""Finds out whether the heights of maps are split over devices where a function is traced or compiled.

A strategy of the engine compiles under a mesh (`jax.set_mesh`) that has an axis called `HEIGHT_AXIS`. The maps stay
whole arrays here, and XLA's partitioner has each device compute its own rows, for which neighbors exchange their
borders. It knows how to do that for its own convolution and pooling. Merging rows with the batch, products over rows
and gathers of rows make it collect the whole map on every device. So under such a mesh functions of this room take
forms that keep rows apart.
"""

from typing import Any

import jax

HEIGHT_AXIS = "height"
"""The name of the mesh axis that splits the height of maps."""


def height_mesh() -> Any:
    """Returns the mesh under which this is traced, if it splits the height and leaves that to the partitioner."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get(HEIGHT_AXIS, 1) == 1 or HEIGHT_AXIS in mesh.manual_axes:
        return None
    return mesh
