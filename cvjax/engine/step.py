"""This module builds the pure training and evaluation steps. It knows no devices, no files and no loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from cvjax.engine.optim import OptimizerConfig, without_gradient
from cvjax.engine.pacing.budget import progress_of
from cvjax.engine.state import TrainState
from cvjax.engine.task import Batch, Task, Teacher
from cvjax.errors import ConfigError
from cvjax.nn import DATA_AXIS

TrainStep = Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[Any, Batch], tuple[dict[str, jax.Array], dict[str, jax.Array]]]


def _unchanged(tree: Any) -> Any:
    return tree


@dataclasses.dataclass(frozen=True)
class Layout:
    """Says how a training step treats parameters and gradients that are spread over devices.

    Attributes:
      whole: Function that makes the parameters whole on each device, where layers use them.
      split: Function that leaves each device its part of the gradients, where the optimizer uses them.
    """

    whole: Callable[[Any], Any] = _unchanged
    split: Callable[[Any], Any] = _unchanged


def make_train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    ema_warmup: bool = True,
    frozen: tuple[str, ...] = (),
    axis_name: str | None = None,
    layout: Layout = Layout(),
    teacher: Teacher | None = None,
) -> TrainStep:
    """Builds `train_step(state, batch, key) -> (state, metrics)`, a pure function.

    The loss is the sum over the global batch divided by its global weight. So the result does not depend on how padded
    or ignored pixels are spread over devices. `key` may be the same for a whole run: the step number is folded in.

    Args:
      model: Module that the task applies.
      task: Task that is trained, see `Task`.
      optimizer: Optimizer from `make_optimizer`.
      schedule: Schedule from `make_schedule`, or of a run with a time budget `budget_schedule`; only reported.
      accumulate: Number of micro-batches that the batch is cut into; must divide each device's share.
      ema_decay: Decay of the running average of the variables, or None for no average.
      ema_warmup: Whether that decay grows into its value over the first steps.
      frozen: Patterns of parameters that are not trained, as in `OptimizerConfig`. Their gradients are zero, also in
        the norm that is reported, and nothing is computed for them. The optimizer keeps them from moving.
      axis_name: Name of the device axis under pmap; None under jit, where the batch is global already. Under an axis
        that is not `DATA_AXIS` each device normalizes and draws by itself.
      layout: How parameters and gradients are spread, where a mesh splits them.
      teacher: Trained model that the loss follows, too. The third argument of the step is then a pair: the key, and
        the teacher's variables.
    """

    def total(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def losses(
        params: Any, batch_stats: Any, batch: Batch, weight: jax.Array, keys: tuple[jax.Array, jax.Array], taught: Any
    ) -> Any:
        color_key, dropout_key = keys
        params = without_gradient(params, frozen)
        inputs, targets = task.prepare(batch, color_key)
        captured = () if teacher is None else teacher.captured
        outputs, updates = task.apply(
            model,
            {"params": params, "batch_stats": batch_stats},
            inputs,
            train=True,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats", "intermediates"] if captured else ["batch_stats"],
            capture_intermediates=is_one_of(captured) if captured else False,
        )
        loss_sum, sums = task.loss(outputs, targets)
        if teacher is not None:
            maps = maps_of(updates.get("intermediates", {}), captured)
            loss_sum, more = teacher.loss(taught, outputs, maps, inputs, targets, loss_sum)
            sums |= more
        return loss_sum / weight, (updates.get("batch_stats", batch_stats), sums)

    def train_step(state: TrainState, batch: Batch, given: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        key, taught = (given, None) if teacher is None else given
        key = jax.random.fold_in(key, state.step)
        if axis_name not in (None, DATA_AXIS):
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        color_key, dropout_key = jax.random.split(key)
        # The weight does not depend on the parameters: known before the forward pass, it makes every
        # micro-batch's and device's gradient a plain summand of the global one.
        weight = jnp.maximum(total(task.weight(batch)), 1.0)
        whole = layout.whole(state.params)

        def grad(batch_stats: Any, batch: Batch, keys: tuple[jax.Array, jax.Array]) -> Any:
            values, grads = jax.value_and_grad(losses, has_aux=True)(whole, batch_stats, batch, weight, keys, taught)
            return values, layout.split(grads)

        if accumulate == 1:
            (loss, (batch_stats, sums)), grads = grad(state.batch_stats, batch, (color_key, dropout_key))
        else:

            def micro_step(carry: Any, item: Any) -> tuple[Any, None]:
                batch_stats, grads, loss, sums = carry
                micro, number = item
                # Color follows an example's index, so its key stays; dropout follows its row.
                keys = color_key, jax.random.fold_in(dropout_key, number)
                (more_loss, (batch_stats, more_sums)), more = grad(batch_stats, micro, keys)
                return (batch_stats, *jax.tree.map(jnp.add, (grads, loss, sums), (more, more_loss, more_sums))), None

            micro_batches = jax.tree.map(lambda x: _cut(x, accumulate), dict(batch))
            first = jax.tree.map(lambda x: x[0], micro_batches)
            (_, (_, sum_shapes)), grad_shapes = jax.eval_shape(grad, state.batch_stats, first, (color_key, dropout_key))
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (grad_shapes, jnp.float32(0), sum_shapes))
            (batch_stats, grads, loss, sums), _ = jax.lax.scan(
                micro_step, (state.batch_stats, *zeros), (micro_batches, jnp.arange(accumulate))
            )
        grads, loss, sums = total((grads, loss, sums))
        if axis_name is not None:
            # A no-op with synchronized BatchNorm; otherwise it keeps the running averages common.
            batch_stats = jax.lax.pmean(batch_stats, axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay is not None:
            new = {"params": params, "batch_stats": batch_stats}
            decay = jnp.float32(ema_decay)
            if ema_warmup:  # else a short run would average its random start
                taken = state.step.astype(jnp.float32)
                decay = jnp.minimum(ema_decay, (1.0 + taken) / (10.0 + taken))
            ema = jax.tree.map(lambda old, now: old + (1.0 - decay) * (now - old), ema, new)
        progress = progress_of(state)
        clock = {"learning_rate": jnp.asarray(schedule(state.step if progress is None else progress), jnp.float32)}
        clock |= {} if progress is None else {"progress": progress}
        metrics = (
            {"loss": loss, "grad_norm": optax.tree.norm(grads)}
            | clock
            | {name: value / weight for name, value in sums.items()}
        )
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return train_step


class Spread(Protocol):
    """Says what a step must know of the devices; each strategy does.

    Attributes:
      axis_name: Name of the device axis under pmap, None otherwise.
      layout: How parameters and gradients are spread.
    """

    axis_name: str | None
    layout: Layout


def make_run_step(
    model: nn.Module,
    task: Task,
    optim: OptimizerConfig,
    rates: tuple[optax.Schedule, optax.GradientTransformation],
    spread: Spread,
    teacher: Teacher | None = None,
) -> TrainStep:
    """Returns the step that the configuration of a run describes, for the loop and for all that look at its steps.

    Args:
      model: Module that the task applies.
      task: Task that is trained.
      optim: Configuration of the optimizer, of which this takes accumulation, average and what is frozen.
      rates: Learning rate and optimizer, such as `make_rates` returns them.
      spread: Strategy that then compiles the step.
      teacher: Trained model that the loss follows, too.
    """
    schedule, optimizer = rates
    return make_train_step(
        model,
        task,
        optimizer,
        schedule,
        accumulate=optim.accumulate,
        ema_decay=optim.ema_decay,
        ema_warmup=optim.ema_warmup,
        frozen=optim.frozen,
        axis_name=spread.axis_name,
        layout=spread.layout,
        teacher=teacher,
    )


def is_one_of(names: tuple[str, ...]) -> Callable[[nn.Module, str], bool]:
    """Returns the filter of `capture_intermediates` for the layers of these names, such as backbone/stage3."""
    return lambda module, method: method == "__call__" and "/".join(module.path) in names


def maps_of(intermediates: Any, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """Returns the captured results of layers by name; of a layer that is called several times the last."""
    found = {}
    for name in names:
        node = intermediates
        for part in name.split("/"):
            node = node[part]
        found[name] = node["__call__"][-1]
    return found


def check_cuts(rows: int, pieces: int) -> None:
    """Checks that the rows of a batch can be cut into micro-batches of one size.

    Raises:
      ConfigError: They cannot.
    """
    if rows % pieces:
        raise ConfigError(
            f"optim.accumulate is {pieces}, which does not divide the {rows} rows of the batch; change either"
        )


def _cut(x: jax.Array, pieces: int) -> jax.Array:
    """Cuts [B, ...] into [pieces, B / pieces, ...]. Each piece takes rows from all over the batch.

    The rows of a piece are `pieces` apart. So a batch whose rows are spread over devices is cut without moving a row.
    """
    check_cuts(x.shape[0], pieces)
    return jnp.moveaxis(x.reshape(x.shape[0] // pieces, pieces, *x.shape[1:]), 1, 0)


def make_eval_step(model: nn.Module, task: Task, axis_name: str | None = None) -> EvalStep:
    """Builds `eval_step(variables, batch) -> (sums, rows)`: sums over all devices, and every device's rows.

    Args:
      model: Module that the task predicts with.
      task: Task that is scored, see `Task`.
      axis_name: Name of the device axis under pmap; None under jit.
    """

    def eval_step(variables: Any, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        inputs, _ = task.prepare(batch, None)
        predictions = task.predict(model, variables, inputs)
        sums, rows = task.update(predictions, batch), task.gather(predictions, batch)
        if axis_name is None:
            return sums, rows
        return jax.lax.psum(sums, axis_name), jax.lax.all_gather(rows, axis_name, tiled=True)

    return eval_step
