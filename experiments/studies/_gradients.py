"""Gradients of the loss by layer, for studies of how they reach early layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from cvjax.engine.run import train_stream
from cvjax.engine.short_run import ShortRun
from cvjax.runtime.compiler import compiler_options

Gradients = Callable[..., np.ndarray]


def kernel_gradients(run: ShortRun, layers: Sequence[str]) -> Gradients:
    """Returns a function from variables to the root mean square of the gradient of each layer's kernel, [layers].

    The gradient is that of the training loss on the run's first batch, the same at each call. With `auxiliary=0.0` as
    its second argument the function leaves the losses of auxiliary classifiers out.

    Args:
      run: Runs of a net.
      layers: Paths of layers, such as inception3a/branch1/conv.
    """
    stream: Any = train_stream(run.task, run.train_set, 0)
    batch: Any = next(stream)
    stream.close()

    def loss(params: Any, rest: Any, auxiliary: jax.Array) -> jax.Array:
        inputs, targets = run.task.prepare(batch, jax.random.key(0))
        variables, rngs = {"params": params, **rest}, {"dropout": jax.random.key(1)}
        outputs, _ = run.task.apply(run.model, variables, inputs, train=True, rngs=rngs, mutable=["batch_stats"])
        total, _ = run.task.loss(outputs, targets)
        last, _ = run.task.loss(outputs[0] if isinstance(outputs, tuple) else outputs, targets)
        return (last + auxiliary * (total - last)) / len(inputs)

    def sizes(params: Any, rest: Any, auxiliary: jax.Array) -> jax.Array:
        grads: Any = flatten_dict(jax.grad(loss)(params, rest, auxiliary), sep="/")
        return jnp.stack([jnp.sqrt(jnp.mean(grads[f"{layer}/kernel"] ** 2)) for layer in layers])

    # It runs some times in minutes, so that optimizing it would take longer than running it.
    program = jax.jit(sizes, compiler_options=compiler_options(jax.devices()[0].platform, once=True))

    def gradients(variables: Mapping[str, Any], auxiliary: float = 1.0) -> np.ndarray:
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        return np.asarray(program(variables["params"], rest, jnp.float32(auxiliary)), np.float64)

    return gradients
