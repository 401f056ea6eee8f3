"""Gradients of the loss by layer, for studies of how they reach early layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from cvjax.engine.run import train_stream
from cvjax.engine.short_run import ShortRun

Gradients = Callable[[Mapping[str, Any]], np.ndarray]


def kernel_gradients(run: ShortRun, layers: Sequence[str], main_only: bool = False) -> Gradients:
    """Returns a function from variables to the root mean square of the gradient of each layer's kernel, [layers].

    The gradient is that of the training loss on the run's first batch, the same at each call.

    Args:
      run: Runs of a net.
      layers: Paths of layers, such as inception3a/branch1/conv.
      main_only: Whether the losses of auxiliary classifiers are left out.
    """
    stream: Any = train_stream(run.task, run.train_set, 0)
    batch: Any = next(stream)
    stream.close()

    def loss(params: Any, rest: Any) -> jax.Array:
        inputs, targets = run.task.prepare(batch, jax.random.key(0))
        variables, rngs = {"params": params, **rest}, {"dropout": jax.random.key(1)}
        outputs, _ = run.task.apply(run.model, variables, inputs, train=True, rngs=rngs, mutable=["batch_stats"])
        if main_only and isinstance(outputs, tuple):
            outputs = outputs[0]
        return run.task.loss(outputs, targets)[0] / len(inputs)

    @jax.jit
    def sizes(params: Any, rest: Any) -> jax.Array:
        grads: Any = flatten_dict(jax.grad(loss)(params, rest), sep="/")
        return jnp.stack([jnp.sqrt(jnp.mean(grads[f"{layer}/kernel"] ** 2)) for layer in layers])

    def gradients(variables: Mapping[str, Any]) -> np.ndarray:
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        return np.asarray(sizes(variables["params"], rest), np.float64)

    return gradients
