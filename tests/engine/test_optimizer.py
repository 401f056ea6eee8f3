"""Schedules and optimizers against their formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import largest_difference, toy_batch, toy_training

from cvjax.engine.optim import OptimizerConfig, decays, make_optimizer, make_schedule
from cvjax.errors import ConfigError

PARAMS = {
    "backbone": {"kernel": jnp.full((3, 3, 2, 4), 0.5), "scale": jnp.full((4,), 0.5)},
    "head": {"kernel": jnp.full((1, 1, 4, 2), 0.5), "bias": jnp.full((2,), 0.5)},
}


def first_update(**options):
    """The update that a gradient of ones gives at step 0."""
    optimizer = make_optimizer(OptimizerConfig(schedule="constant", **options), 100)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]


def test_poly_is_the_papers_formula():
    schedule = make_schedule(OptimizerConfig(learning_rate=0.007, schedule="poly", power=0.9), 30_000)
    for step in (0, 1, 1234, 29_999):
        assert schedule(step) == pytest.approx(0.007 * (1 - step / 30_000) ** 0.9, rel=1e-4, abs=1e-8)


def test_cosine_ends_at_its_fraction():
    schedule = make_schedule(OptimizerConfig(learning_rate=1.0, schedule="cosine", end_fraction=0.1), 100)
    assert schedule(0) == pytest.approx(1.0)
    assert schedule(50) == pytest.approx(0.55)
    assert schedule(100) == pytest.approx(0.1)


def test_step_divides_at_milestones_also_after_a_warm_up():
    config = OptimizerConfig(learning_rate=1.0, schedule="step", milestones=(0.5, 0.75), warmup=0.1)
    schedule = make_schedule(config, 100)
    assert [float(schedule(s)) for s in (49, 51, 74, 76)] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_warm_up_is_linear_and_moves_from_the_first_step():
    schedule = make_schedule(OptimizerConfig(learning_rate=1.0, schedule="constant", warmup=0.04), 100)
    assert [float(schedule(s)) for s in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("options", [{"warmup": 1.0}, {"warmup": -0.1}, {"schedule": "step", "milestones": (1.5,)}])
def test_fractions_outside_the_run_are_refused(options):
    with pytest.raises(ConfigError, match="fraction"):
        make_schedule(OptimizerConfig(**options), 100)


def test_weight_decay_spares_norms_and_biases():
    assert decays(PARAMS) == {
        "backbone": {"kernel": True, "scale": False},
        "head": {"kernel": True, "bias": False},
    }
    plain = first_update(learning_rate=1.0, weight_decay=0.0)
    decayed = first_update(learning_rate=1.0, weight_decay=0.1)
    np.testing.assert_allclose(decayed["head"]["kernel"] - plain["head"]["kernel"], -0.05, rtol=1e-5)
    np.testing.assert_array_equal(decayed["backbone"]["scale"], plain["backbone"]["scale"])
    np.testing.assert_array_equal(decayed["head"]["bias"], plain["head"]["bias"])


@pytest.mark.parametrize("name", ["sgd", "nesterov", "rmsprop", "adamw", "muon"])
def test_head_moves_by_its_multiplier(name):
    plain = first_update(name=name, learning_rate=0.01)
    scaled = first_update(name=name, learning_rate=0.01, head_lr_mult=10.0)
    np.testing.assert_allclose(scaled["head"]["kernel"], 10 * plain["head"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(scaled["backbone"]["kernel"], plain["backbone"]["kernel"])


def test_biases_move_by_their_multiplier():
    plain = first_update(learning_rate=0.01)
    scaled = first_update(learning_rate=0.01, bias_lr_mult=2.0)
    np.testing.assert_allclose(scaled["head"]["bias"], 2 * plain["head"]["bias"], rtol=1e-6)
    np.testing.assert_array_equal(scaled["head"]["kernel"], plain["head"]["kernel"])
    np.testing.assert_array_equal(scaled["backbone"]["scale"], plain["backbone"]["scale"])


def test_named_parameters_move_by_their_multipliers():
    plain = first_update(name="muon", learning_rate=0.01)
    scaled = first_update(name="muon", learning_rate=0.01, lr_mults=(("head/*", 0.5), ("*/bias", 0.2)))
    np.testing.assert_allclose(scaled["head"]["kernel"], 0.5 * plain["head"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(scaled["head"]["bias"], 0.1 * plain["head"]["bias"], rtol=1e-6)
    np.testing.assert_array_equal(scaled["backbone"]["kernel"], plain["backbone"]["kernel"])
    with pytest.raises(ConfigError, match=r"lr_mults: no parameter fits 'neck/\*'"):
        first_update(lr_mults=(("neck/*", 0.5),))


@pytest.mark.parametrize(("name", "factor"), [("sgd", 1.0), ("nesterov", 1.9), ("adamw", 1.0), ("rmsprop", 1.0483)])
def test_first_step_is_the_optimizers_own(name, factor):
    """A gradient of one: SGD moves by 1, Nesterov by 1 + momentum, Adam by 1, RMSProp by 1 / sqrt(1 + 1e-3)."""
    update = first_update(name=name, learning_rate=1.0, weight_decay=0.0)["head"]["bias"]
    expected = 1 / np.sqrt(1.0 + 1e-3) if name == "rmsprop" else factor
    np.testing.assert_allclose(update, -expected, rtol=1e-4)


def test_clipping_bounds_the_global_norm():
    update = first_update(learning_rate=1.0, weight_decay=0.0, clip_norm=0.5)
    assert float(optax.tree.norm(update)) == pytest.approx(0.5, rel=1e-5)


def test_muon_moves_kernels_orthogonally_and_the_rest_by_adam():
    """Along every direction alike: singular values near one, with the root mean square that is promised."""
    config = OptimizerConfig(name="muon", learning_rate=1.0, weight_decay=0.0, schedule="constant")
    optimizer = make_optimizer(config, 9)
    keys = jax.random.split(jax.random.key(0), 3)
    grads = {
        "kernel": jax.random.normal(keys[0], (3, 3, 4, 12)) * jnp.logspace(0, -2, 12)[None, None, None],
        "depthwise": jax.random.normal(keys[1], (3, 3, 1, 12)),
        "scale": jax.random.normal(keys[2], (12,)),
    }
    updates = optimizer.update(grads, optimizer.init(grads), grads)[0]
    matrix = np.asarray(updates["kernel"]).reshape(36, 12)
    values = np.linalg.svd(matrix / (0.2 * np.sqrt(36)), compute_uv=False)
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, v = np.linalg.svd(np.asarray(grads["kernel"]).reshape(36, 12), full_matrices=False)
    assert -np.sum(matrix * (u @ v)) > 0.98 * np.linalg.norm(matrix) * np.linalg.norm(u @ v)
    for name in ("depthwise", "scale"):
        # Nesterov's first step of Adam is 0.9 / (1 + 0.9) + 1 = 1.474 times the rate, whatever the gradient.
        np.testing.assert_allclose(updates[name], -0.1474 * np.sign(grads[name]), rtol=1e-3)


def test_exponential_decay_counts_from_the_start_of_the_run():
    """EfficientNet's: warm-up, then at every multiple of an interval a factor of what there would be without one."""
    config = OptimizerConfig(
        schedule="exponential", learning_rate=0.256, warmup=0.05, decay_every=0.02, decay_factor=0.97
    )
    schedule = make_schedule(config, 1000)
    assert schedule(0) == pytest.approx(0.256 / 50, rel=1e-5)
    assert schedule(49) == pytest.approx(0.256, rel=1e-5)
    for step in (50, 59, 60, 500, 999):
        assert schedule(step) == pytest.approx(0.256 * 0.97 ** (step // 20), rel=1e-5)
    with pytest.raises(ConfigError, match="decay_every"):
        make_schedule(dataclasses.replace(config, decay_every=0.0), 1000)


def test_frozen_parameters_stay_and_do_not_count_for_the_clipped_norm():
    update = first_update(weight_decay=0.1, learning_rate=1.0, clip_norm=1.0, frozen=("backbone/*",))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(update["backbone"]))
    # Ten gradients of one are left; without decay of biases.
    np.testing.assert_allclose(update["head"]["bias"], -(10**-0.5), rtol=1e-6)
    some = first_update(frozen=("*/scale", "head/b*"))
    still = {name: not np.any(leaf) for part in some.values() for name, leaf in part.items()}
    assert still == {"kernel": False, "scale": True, "bias": True}
    with pytest.raises(ConfigError, match=r"'trunk/\*'.*backbone/kernel"):
        first_update(frozen=("trunk/*",))


def test_nothing_is_computed_for_gradients_of_frozen_parameters():
    """The step is the one that throws them away afterwards, but for the norm that it reports, and its cost."""
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.1, frozen=("backbone/*",))
    results = {}
    for frozen in ((), config.frozen):
        state, step = toy_training(config, frozen=frozen)
        program = jax.jit(step).lower(state, toy_batch(0), jax.random.key(0)).compile()
        new, metrics = program(state, toy_batch(0), jax.random.key(0))
        moved = jax.tree.map(jnp.subtract, new.params, state.params)
        results[frozen] = new, metrics, moved, program.cost_analysis()["flops"]
    (whole, seen, _, cost), (new, metrics, moved, less) = results[()], results[config.frozen]
    assert largest_difference(new.params, whole.params) < 1e-6
    assert not np.any(moved["backbone"]["kernel"])
    assert np.any(moved["classifier"]["kernel"])
    np.testing.assert_allclose(metrics["loss"], seen["loss"], rtol=1e-6)
    # Momentum holds the first gradient of what is trained, and decay of its kernels.
    trace = optax.tree.get(new.opt_state, "trace")
    decayed = jax.tree.map(lambda p, decay: p * (0.1 if decay else 0.0), state.params, decays(state.params))
    gradient = jax.tree.map(jnp.subtract, trace, decayed) | {"backbone": {}}
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradient), rtol=1e-5)
    assert metrics["grad_norm"] < 0.99 * seen["grad_norm"]
    assert less < 0.9 * cost
