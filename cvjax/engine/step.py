"""The pure training and evaluation steps. No devices, no files, no loop."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from cvjax.engine.state import TrainState
from cvjax.errors import ConfigError

Batch = Mapping[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[Any, Batch], tuple[dict[str, jax.Array], dict[str, jax.Array]]]


class Task(Protocol):
    """What the engine needs of a task; `cvjax.tasks` has them."""

    @property
    def metric(self) -> str:
        """The score of its report, larger is better, that decides which checkpoint is the best."""

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> Any:
        """Model input of a batch: images, or a tuple of them and what goes with them."""

    def targets(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch as `loss` wants it, where `preprocess` with the same key has mixed examples."""

    def weight(self, batch: Batch) -> jax.Array:
        """What the summed loss is divided by, from the labels alone."""

    def loss(self, outputs: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Summed loss, and further sums over the same weight."""

    def evaluate(self, outputs: Any, batch: Batch) -> dict[str, jax.Array]:
        """Sums of one batch, which add up over batches and devices."""

    def keep(self, outputs: Any, batch: Batch) -> dict[str, jax.Array]:
        """Arrays of one batch, a row an example, for `examine` and `collect`."""

    def examine(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Further sums of one batch, on the host."""

    def collect(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Rows of one batch, on the host, to be joined with those of all others."""

    def report(self, sums: Mapping[str, Any]) -> dict[str, Any]:
        """Scores from the sums of a whole split, and its rows."""


def make_train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    local_randomness: bool = False,
) -> TrainStep:
    """Builds `train_step(state, batch, key) -> (state, metrics)`, a pure function.

    The loss is the sum over the global batch divided by its global weight, so a padded or ignored pixel
    shifts nothing between devices. `key` may be the same for a whole run: the step number is folded in.

    Args:
      model: called as `apply(variables, images, train=True)`.
      task: see `Task`.
      optimizer, schedule: from `make_optimizer`, `make_schedule`; the schedule is only reported.
      accumulate: micro-batches that the batch is cut into; must divide each device's share.
      ema_decay: decay of the running average of the variables, or None.
      axis_name: the device axis under pmap; None under jit, where the batch is global already.
      local_randomness: draw other random numbers on every device of the axis (per-device BatchNorm).
    """

    def total(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def losses(
        params: Any, batch_stats: Any, batch: Batch, weight: jax.Array, keys: tuple[jax.Array, jax.Array]
    ) -> Any:
        colour_key, dropout_key = keys
        images = task.preprocess(batch, colour_key, train=True)
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        loss_sum, sums = task.loss(outputs, task.targets(batch, colour_key))
        return loss_sum / weight, (updates.get("batch_stats", batch_stats), sums)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(key, state.step)
        if local_randomness:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        colour_key, dropout_key = jax.random.split(key)
        # The weight does not depend on the parameters: known before the forward pass, it makes every
        # micro-batch's and device's gradient a plain summand of the global one.
        weight = jnp.maximum(total(task.weight(batch)), 1.0)
        grad = jax.value_and_grad(losses, has_aux=True)
        if accumulate == 1:
            (loss, (batch_stats, sums)), grads = grad(
                state.params, state.batch_stats, batch, weight, (colour_key, dropout_key)
            )
        else:

            def micro_step(carry: Any, item: Any) -> tuple[Any, None]:
                batch_stats, grads, loss, sums = carry
                micro, number = item
                # Colour follows an example's index, so its key stays; dropout follows its row.
                keys = colour_key, jax.random.fold_in(dropout_key, number)
                (more_loss, (batch_stats, more_sums)), more = grad(state.params, batch_stats, micro, weight, keys)
                return (batch_stats, *jax.tree.map(jnp.add, (grads, loss, sums), (more, more_loss, more_sums))), None

            micro_batches = jax.tree.map(lambda x: _cut(x, accumulate), dict(batch))
            first = jax.tree.map(lambda x: x[0], micro_batches)
            (_, (_, sum_shapes)), grad_shapes = jax.eval_shape(
                grad, state.params, state.batch_stats, first, weight, (colour_key, dropout_key)
            )
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (grad_shapes, jnp.float32(0), sum_shapes))
            (batch_stats, grads, loss, sums), _ = jax.lax.scan(
                micro_step, (state.batch_stats, *zeros), (micro_batches, jnp.arange(accumulate))
            )
        grads, loss, sums = total((grads, loss, sums))
        if axis_name is not None:
            # A no-op with synchronised BatchNorm; otherwise it keeps the running averages common.
            batch_stats = jax.lax.pmean(batch_stats, axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay is not None:
            new = {"params": params, "batch_stats": batch_stats}
            # The decay grows into its value, else a short run would average its random start.
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = jax.tree.map(lambda old, now: old + (1.0 - decay) * (now - old), ema, new)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        } | {name: value / weight for name, value in sums.items()}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return train_step


def _cut(x: jax.Array, pieces: int) -> jax.Array:
    """[B, ...] to [pieces, B / pieces, ...], each piece taking rows from all over the batch.

    Strided, so that a batch whose rows are spread over devices is cut without moving a row.
    """
    if x.shape[0] % pieces:
        raise ConfigError(
            f"optim.accumulate is {pieces}, which does not divide the {x.shape[0]} rows of the batch; change either"
        )
    return jnp.moveaxis(x.reshape(x.shape[0] // pieces, pieces, *x.shape[1:]), 1, 0)


def make_eval_step(
    predict: Callable[[Any, jax.Array], jax.Array], task: Task, axis_name: str | None = None
) -> EvalStep:
    """Builds `eval_step(variables, batch) -> (sums, kept)`: sums over all devices, and what the task keeps of every
    row.

    Args:
      predict: (variables, images as `task.preprocess` leaves them) -> outputs that `task.evaluate` takes.
      task: see `Task`.
      axis_name: the device axis under pmap.
    """

    def eval_step(variables: Any, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        images = task.preprocess(batch, jax.random.key(0), train=False)
        outputs = predict(variables, images)
        sums, kept = task.evaluate(outputs, batch), task.keep(outputs, batch)
        if axis_name is None:
            return sums, kept
        return jax.lax.psum(sums, axis_name), jax.lax.all_gather(kept, axis_name, tiled=True)

    return eval_step
