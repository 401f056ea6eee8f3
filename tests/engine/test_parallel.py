"""The same run whatever carries it: devices, strategies, micro-batches."""

import jax
import numpy as np
import pytest
from toy import ToyNet, largest_difference, toy_batch, toy_task, toy_training, toy_variables

from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.parallel import FsdpStrategy, JitStrategy, PmapStrategy, SpatialStrategy, make_strategy
from cvjax.engine.state import create_state
from cvjax.engine.step import make_train_step
from cvjax.errors import ConfigError

OPTIM = OptimizerConfig(learning_rate=0.1, clip_norm=1.0, ema_decay=0.9, head_lr_mult=2.0)


def train(strategy, config=OPTIM, steps=4, **options):
    """Losses of some steps, and the final state as numpy arrays."""
    state, step = toy_training(config, strategy.axis_name, **options)
    state, compiled = strategy.place_state(state), strategy.compile_train(step)
    losses = []
    for number in range(steps):
        state, metrics = compiled(state, strategy.place_batch(toy_batch(number)), jax.random.key(1))
        losses.append(strategy.fetch(metrics)["loss"])
    return np.asarray(losses), strategy.fetch(state)


@pytest.fixture(scope="module")
def one_device():
    return train(JitStrategy(jax.devices()[:1]))


def test_jit_on_eight_devices_equals_one(one_device):
    losses, state = train(JitStrategy())
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
    assert largest_difference(state.variables, one_device[1].variables) < 1e-5
    assert largest_difference(state.ema, one_device[1].ema) < 1e-5


@pytest.mark.parametrize("make", [PmapStrategy, FsdpStrategy, lambda: SpatialStrategy(4), lambda: SpatialStrategy(2)])
def test_other_strategies_equal_jit(one_device, make):
    losses, state = train(make())
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
    assert largest_difference(state.variables, one_device[1].variables) < 1e-5
    assert largest_difference(state.ema, one_device[1].ema) < 1e-5


def test_per_device_batch_norm_differs_but_stays_common(one_device):
    losses, state = train(PmapStrategy(sync_batch_norm=False))
    assert abs(losses[0] / one_device[0][0] - 1) > 1e-4
    assert np.isfinite(losses).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables))


def test_per_device_batch_norm_keeps_one_state_on_all_devices():
    strategy = PmapStrategy(sync_batch_norm=False)
    state, step = toy_training(OPTIM, strategy.axis_name)
    state = strategy.place_state(state)
    state, _ = strategy.compile_train(step)(state, strategy.place_batch(toy_batch(0)), jax.random.key(1))
    for leaf in jax.tree.leaves(state):
        values = np.asarray(leaf)
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))


class _FrozenNet(ToyNet):
    """The toy without what depends on its batch: BatchNorm's statistics and dropout."""

    def __call__(self, images, train=False):
        return super().__call__(images, False)


@pytest.mark.parametrize("devices", [1, 8])
def test_micro_batches_give_the_gradient_of_the_whole(devices):
    config = OptimizerConfig(learning_rate=0.1)
    optimizer, schedule = make_optimizer(config, 10), make_schedule(config, 10)
    strategy = JitStrategy(jax.devices()[:devices])
    results = []
    for accumulate in (1, 2):
        step = make_train_step(_FrozenNet(), toy_task(), optimizer, schedule, accumulate=accumulate)
        state = strategy.place_state(create_state(toy_variables(), optimizer, ema=False))
        results.append(
            strategy.fetch(strategy.compile_train(step)(state, strategy.place_batch(toy_batch(0)), jax.random.key(1)))
        )
    (whole_state, whole), (cut_state, cut) = results
    assert largest_difference(cut, whole) < 1e-5
    assert largest_difference(cut_state.params, whole_state.params) < 1e-5


def test_accumulate_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"accumulate is 3, which does not divide the 16 rows"):
        train(JitStrategy(jax.devices()[:1]), OptimizerConfig(accumulate=3), steps=1)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_batch_that_does_not_divide_is_refused(mode):
    with pytest.raises(ConfigError, match=r"batch_size is 12, .* over 8 devices; use 16"):
        make_strategy(mode, 12)


@pytest.mark.parametrize("strategy", [JitStrategy, PmapStrategy])
def test_checkpoint_values_are_copies_of_one_shape(strategy):
    strategy = strategy()
    state, step = toy_training(OPTIM, strategy.axis_name)
    shapes = jax.tree.map(np.shape, state)
    placed = strategy.place_state(state)
    saved = strategy.snapshot(placed)
    before = jax.device_get(saved)
    strategy.compile_train(step)(placed, strategy.place_batch(toy_batch(0)), jax.random.key(1))
    assert jax.tree.map(np.shape, saved) == shapes
    assert largest_difference(jax.device_get(saved), before) == 0
