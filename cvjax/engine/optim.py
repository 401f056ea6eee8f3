"""This module makes optimizers and learning-rate schedules from optax parts."""

import dataclasses
import fnmatch
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from cvjax.engine.muon import muon, scale_by_adam
from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Says how parameters are updated.

    Attributes:
      name: Optimizer: `sgd` and `nesterov` with momentum, `rmsprop` (with momentum, as EfficientNet), `adamw`, `muon`
        (see `cvjax.engine.muon`).
      learning_rate: Peak of the learning rate, for the whole batch as it is; nothing is scaled by the batch size.
      momentum: Momentum of sgd, nesterov, rmsprop and muon; the first-moment decay of adamw.
      weight_decay: Weight of the parameters added to the gradient (L2), in adamw and muon decoupled; spares norms and
        biases.
      head_lr_mult: Factor on the learning rate of every parameter outside `backbone`.
      bias_lr_mult: Factor on the learning rate of every parameter called `bias`; 2 in Caffe's nets.
      lr_mults: Rows of (pattern of paths as in `frozen`, factor on the learning rate).
      frozen: Parameters that stay as they are, as patterns of their paths: "backbone/*" holds all of the backbone,
        "backbone/conv[12]_*" the first two stages of VGG, "backbone/*bn*" BatchNorm's scales and biases in a ResNet.
      clip_norm: Largest global norm of the gradient, None for no limit.
      accumulate: Number of micro-batches a step; the gradient is that of the whole batch.
      ema_decay: Decay of the average of parameters and statistics that evaluation then uses; None for no average.
      ema_warmup: Let the decay grow into its value, as min(ema_decay, (1 + t) / (10 + t)) at step t, so that a short
        run does not average its random start; False averages with `ema_decay` from the first step on.
      schedule: Decay of the learning rate: `poly` (1 - t/T)^power, `cosine`, `step`, `exponential` or `constant`.
      warmup: Fraction of the run in which the rate climbs linearly to the peak, before the schedule starts.
      power: Exponent of `poly`.
      milestones: Fractions of the run at which `step` multiplies by `decay_factor`.
      decay_every: Fraction of the run after which, again and again, `exponential` multiplies by `decay_factor`.
      decay_factor: Factor of `step` and `exponential`.
      end_fraction: Last value of `poly` and `cosine` as a fraction of the peak.
    """

    name: Literal["sgd", "nesterov", "rmsprop", "adamw", "muon"] = "sgd"
    learning_rate: float = 0.007
    momentum: float = 0.9
    weight_decay: float = 1e-4
    head_lr_mult: float = 1.0
    bias_lr_mult: float = 1.0
    lr_mults: tuple[tuple[str, float], ...] = ()
    frozen: tuple[str, ...] = ()
    clip_norm: float | None = None
    accumulate: int = 1
    ema_decay: float | None = None
    ema_warmup: bool = True
    schedule: Literal["poly", "cosine", "step", "exponential", "constant"] = "poly"
    warmup: float = 0.0
    power: float = 0.9
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay_every: float = 0.1
    decay_factor: float = 0.1
    end_fraction: float = 0.0


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step number, for a run of `steps` steps.

    Raises:
      ConfigError: The warm-up lies outside [0, 1), or milestones or the decay's interval outside (0, 1).
    """
    if not 0.0 <= config.warmup < 1.0:
        raise ConfigError(f"optim.warmup is {config.warmup}; it is a fraction of the run, at least 0 and below 1")
    warmup = round(config.warmup * steps)
    peak, rest = config.learning_rate, steps - warmup
    if config.schedule == "poly":
        main = optax.polynomial_schedule(peak, peak * config.end_fraction, config.power, rest)
    elif config.schedule == "cosine":
        of_float = optax.cosine_decay_schedule(peak, rest, config.end_fraction)

        def cosine(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
            return of_float(jnp.asarray(step, jnp.float32))  # Optax compares the step with a float

        main = cosine
    elif config.schedule == "step":
        if not all(0.0 < m < 1.0 for m in config.milestones):
            raise ConfigError(f"optim.milestones {config.milestones} must be fractions of the run, between 0 and 1")
        main = optax.piecewise_constant_schedule(
            peak, {round(m * steps) - warmup: config.decay_factor for m in config.milestones}
        )
    elif config.schedule == "exponential":
        if not 0.0 < config.decay_every < 1.0:
            raise ConfigError(f"optim.decay_every is {config.decay_every}; it is a fraction of the run, below 1")
        every = config.decay_every * steps

        def exponential(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
            # `join_schedules` counts from the end of the warm-up, the intervals count from the start of the run.
            return peak * config.decay_factor ** jnp.floor(jnp.asarray(step + warmup, jnp.float32) / every)

        main = exponential
    else:
        main = optax.constant_schedule(peak)
    if not warmup:
        return main
    # The first step already moves: (step + 1) / warmup of the peak.
    ramp = optax.linear_schedule(peak / warmup, peak, warmup - 1) if warmup > 1 else optax.constant_schedule(peak)
    return optax.join_schedules([ramp, main], [warmup])


_OF_SCHEDULE = (
    *("learning_rate", "schedule", "warmup", "power", "milestones", "decay_every", "decay_factor"),
    "end_fraction",
)


def schedule_change(step: int, before: tuple[OptimizerConfig, int], now: tuple[OptimizerConfig, int]) -> str:
    """Says what becomes of the learning rate where a run goes on with another length or schedule.

    Args:
      step: Number of steps taken.
      before, now: Configuration and length in steps, of the run so far and from here on.

    Returns:
      Words such as " (was 1,000): learning rate at this step 0.0075, was 0.005"; an empty text if all is as before.
    """
    old, new = ([getattr(config, name) for name in _OF_SCHEDULE] for config, _ in (before, now))
    if (old, before[1]) == (new, now[1]):
        return ""
    rates = [jnp.asarray(make_schedule(config, steps)(step)).item() for config, steps in (now, before)]
    length = f" (was {before[1]:,})" if before[1] != now[1] else ""
    return "{}: learning rate at this step {:.4g}, was {:.4g}".format(length, *rates)


def decays(params: Any) -> Any:
    """Returns a tree of bools: which parameters weight decay applies to.

    It spares vectors: the norms' scales and all biases.
    """
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def scale_outside_backbone(factor: float) -> optax.GradientTransformation:
    """Multiplies the update of every parameter that is not under the top-level name `backbone`."""

    def update(updates: Any, params: Any = None) -> Any:
        del params
        return {
            name: tree if name == "backbone" else jax.tree.map(lambda u: u * factor, tree)
            for name, tree in updates.items()
        }

    return optax.stateless(update)


def scale_biases(factor: float) -> optax.GradientTransformation:
    """Multiplies the update of every parameter called `bias`."""

    def update(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, u: u * factor if path[-1] == jax.tree_util.DictKey("bias") else u, updates
        )

    return optax.stateless(update)


def scale_matching(factors: tuple[tuple[str, float], ...], field: str) -> optax.GradientTransformation:
    """Multiplies the update of every parameter whose path, joined by "/", fits a shell-style pattern.

    Where several patterns fit, all of their factors count. A factor of 0 gives zero, whatever the update is. Its `init`
    raises ConfigError for a pattern that fits no parameter.

    Args:
      factors: Rows of (pattern, factor).
      field: Field of `OptimizerConfig`, for that error.
    """

    def init(params: Any) -> optax.EmptyState:
        paths = [_joined(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern, _ in factors:
            if not fnmatch.filter(paths, pattern):
                raise ConfigError(f"optim.{field}: no parameter fits {pattern!r}; one of them is {paths[0]}")
        return optax.EmptyState()

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        del params

        def scaled(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            factor = math.prod(factor for pattern, factor in factors if _fits(path, pattern))
            return leaf * factor if factor else jnp.zeros_like(leaf)

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def freeze(patterns: tuple[str, ...]) -> optax.GradientTransformation:
    """Zeroes the updates of parameters whose path fits a pattern, see `scale_matching`."""
    return scale_matching(tuple((pattern, 0.0) for pattern in patterns), "frozen")


def without_gradient(params: Any, patterns: tuple[str, ...]) -> Any:
    """Returns the same parameters, of which those whose path fits a pattern let no gradient through.

    So the backward pass ends where no trained parameter is left below.
    """

    def held(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(leaf) if any(_fits(path, pattern) for pattern in patterns) else leaf

    return jax.tree_util.tree_map_with_path(held, params) if patterns else params


def _fits(path: tuple[Any, ...], pattern: str) -> bool:
    return fnmatch.fnmatchcase(_joined(path), pattern)


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)


def make_optimizer(
    config: OptimizerConfig, steps: int, rate: optax.GradientTransformation | None = None
) -> optax.GradientTransformation:
    """Returns the optax transformation that a configuration names, schedule included.

    Args:
      config: Configuration, see `OptimizerConfig`.
      steps: Length of the run, which the schedule spans.
      rate: Transformation that multiplies by minus the learning rate; by default by that of the schedule.

    Raises:
      ConfigError: Values that no schedule can have; see `make_schedule`.
    """
    # Frozen parameters are zeroed twice: first, so that clipping sees the norm of the others alone, and last, because
    # weight decay moves parameters without a gradient.
    hold = [freeze(config.frozen)] if config.frozen else []
    parts = [*hold]
    if config.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    decay = optax.add_decayed_weights(config.weight_decay, mask=decays)
    if config.name == "adamw":
        parts += [scale_by_adam(config.momentum), decay]
    elif config.name == "muon":
        parts += [muon(config.momentum), decay]
    elif config.name == "rmsprop":
        # TensorFlow's RMSProp, which EfficientNet's recipe means: epsilon inside the root, memory starts at 1.
        parts += [decay, optax.scale_by_rms(decay=0.9, eps=1e-3, initial_scale=1.0, eps_in_sqrt=True)]
        parts.append(optax.trace(config.momentum))
    else:
        parts += [decay, optax.trace(config.momentum, nesterov=config.name == "nesterov")]
    parts.append(optax.scale_by_learning_rate(make_schedule(config, steps)) if rate is None else rate)
    if config.head_lr_mult != 1.0:
        parts.append(scale_outside_backbone(config.head_lr_mult))
    if config.bias_lr_mult != 1.0:
        parts.append(scale_biases(config.bias_lr_mult))
    if config.lr_mults:
        parts.append(scale_matching(config.lr_mults, "lr_mults"))
    return optax.chain(*parts, *hold)
