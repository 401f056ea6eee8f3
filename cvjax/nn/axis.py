"""Finds the device axis that a batch is spread over, where a layer is traced.

Models do not know how they are spread. Under `jax.jit` a batch is one array, whatever devices hold it, and no axis is
bound. Under `jax.pmap` and `jax.shard_map` a layer sees its device's rows alone. If the axis they are spread over is
called `DATA_AXIS`, the layers here act on the whole batch: BatchNorm averages its statistics over the axis, and Dropout
draws by an example's row in the whole batch. An axis of another name leaves each device to itself.
"""

import jax

DATA_AXIS = "data"
"""The name by which layers recognize the axis of devices that a batch is spread over."""


def data_axis() -> str | None:
    """Returns `DATA_AXIS` if the code that is being traced runs under that axis, otherwise None."""
    try:
        jax.lax.axis_size(DATA_AXIS)
    except NameError:  # JAX has no other way to ask
        return None
    return DATA_AXIS


def data_devices() -> int:
    """Returns the number of devices along `DATA_AXIS`, which is 1 where no such axis is bound."""
    return 1 if data_axis() is None else jax.lax.axis_size(DATA_AXIS)


def first_row(rows: int) -> int | jax.Array:
    """Returns the position in the whole batch of this device's first row.

    Args:
      rows: Number of rows on each device.
    """
    return 0 if data_axis() is None else jax.lax.axis_index(DATA_AXIS) * rows
