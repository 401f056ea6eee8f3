"""This module has the state that training carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """Holds the step number, the variables, the optimizer's memory and, if wanted, the variables' average.

    It is immutable.

    Attributes:
      step: Number of steps taken, int32 scalar.
      params: Trainable float32 parameters.
      batch_stats: Running statistics of the norms; an empty dict for a net without them.
      opt_state: State of the optax optimizer.
      ema: Exponential moving average of {"params", "batch_stats"}, or None.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any

    @property
    def variables(self) -> dict[str, Any]:
        """Returns the Flax variables as trained."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def inference_variables(self) -> dict[str, Any]:
        """Returns the Flax variables to predict with: the average where there is one."""
        return self.variables if self.ema is None else self.ema


def init_variables(model: Any, key: jax.Array, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns fresh {"params", "batch_stats"} for images of shape (height, width, channels).

    Args:
      model: Module that is called with images and `train`.
      key: Key that decides the parameters.
      image_shape: Shape of each image.
    """
    variables = model.init(key, jnp.zeros((2, *image_shape), jnp.float32), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def create_state(variables: dict[str, Any], optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """Returns the state of step 0 around given variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        # A copy: the step donates its state, and no buffer may be given away twice.
        ema=jax.tree.map(jnp.copy, variables) if ema else None,
    )
