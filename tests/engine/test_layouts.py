"""What fsdp and spatial keep on each device and send between them, and runs that go on under another layout."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import NETS, collectives, loss_and_gradients, loss_program
from made import segmentation
from toy import SIZE, toy_batch, toy_variables
from toy_run import toy_fit

from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.parallel import FsdpStrategy, JitStrategy, PmapStrategy, SpatialStrategy, make_strategy
from cvjax.engine.state import create_state, init_variables
from cvjax.engine.step import make_train_step
from cvjax.errors import ConfigError
from cvjax.models import create_model

UNET = {"width": 64, "depth": 1}
NORMS = 6  # BatchNorms of that net: two of each level on the way down, at the bottom, and on the way up


@functools.cache
def compiled_step(make):
    """A U-Net's compiled training step with momentum and averages, and the shapes of its state."""
    strategy, config = make(), OptimizerConfig(ema_decay=0.99)
    model, task = create_model("unet", num_classes=4, **UNET), segmentation(("background", "a", "b", "c"))
    optimizer, schedule = make_optimizer(config, 10), make_schedule(config, 10)
    variables = jax.eval_shape(lambda key: init_variables(model, key, (16, 16, 3)), jax.random.key(0))
    state = jax.eval_shape(functools.partial(create_state, optimizer=optimizer, ema=True), variables)
    step = make_train_step(
        model,
        task,
        optimizer,
        schedule,
        ema_decay=config.ema_decay,
        axis_name=strategy.axis_name,
        layout=strategy.layout,
    )
    batch = {
        name: jnp.zeros((8, *([16] * (x.ndim > 1) * 2), *x.shape[3:]), x.dtype) for name, x in toy_batch(0).items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    if strategy.axis_name is None:
        lowered = strategy.train_program(step, state, batch).lower(state, batch, key)
    else:
        spread = jax.tree.map(lambda x: jax.ShapeDtypeStruct((8, *x.shape), x.dtype), state)
        rows = jax.tree.map(lambda x: x[:, None], batch)
        lowered = strategy.compile_train(step).lower(spread, rows, key)
    return lowered.compile(), state


def _bytes(tree):
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def test_fsdp_keeps_an_eighth_of_the_state_on_each_of_eight_devices():
    compiled, state = compiled_step(FsdpStrategy)
    whole, _ = compiled_step(JitStrategy)
    # What comes in and goes out in place is the state; the batch comes in alone.
    alone, split = (program.memory_analysis().alias_size_in_bytes for program in (whole, compiled))
    assert alone == pytest.approx(_bytes(state), rel=0.01)
    assert split < 0.14 * alone
    # Only parameters are gathered, each once.
    kernels = [math.prod(x.shape) for x in jax.tree.leaves(state.params) if math.prod(x.shape) >= 4096]
    assert sorted(collectives(compiled)["all-gather"]) == sorted(kernels)


@pytest.mark.parametrize("make", [JitStrategy, PmapStrategy])
def test_sums_over_devices_are_merged(make):
    """One for each BatchNorm forward, one backward; one for gradients and sums, and one for the weight of the loss."""
    kinds = collectives(compiled_step(make)[0])
    assert set(kinds) == {"all-reduce"}
    assert len(kinds["all-reduce"]) <= 2 * NORMS + 2


def test_batch_norm_of_each_device_sums_nothing_over_devices():
    kinds = collectives(compiled_step(functools.partial(PmapStrategy, sync_batch_norm=False))[0])
    assert {kind: len(sizes) for kind, sizes in kinds.items()} == {
        "all-reduce": 2
    }  # the weight; gradients and the rest


@pytest.mark.parametrize("name", ["unet", *(pytest.param(n, marks=pytest.mark.slow) for n in NETS if n != "unet")])
def test_nets_give_the_same_with_rows_split_over_four_devices(name):
    size = 32 if name == "unet" else 128
    ((loss, outputs), gradients), _ = loss_and_gradients(name, JitStrategy(jax.devices()[:1]), size)
    ((found, split), more), compiled = loss_and_gradients(name, SpatialStrategy(4, jax.devices()[:4]), size)
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    for want, got in ((outputs, split), (gradients, more)):
        near = 3e-5 * max(np.abs(x).max() for x in jax.tree.leaves(want))  # one core sums in another order
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=near), got, want)
    gathers = collectives(compiled).get("all-gather", [])
    # Convolutions whose taps reach beyond the neighbor, on maps of few pixels, take the whole map.
    assert all(sizes <= 2 * 8 * 8 * 32 for sizes in gathers)
    assert name != "unet" or not gathers


@pytest.mark.slow
def test_maps_that_devices_cannot_share_evenly_are_split_all_the_same():
    """The border of FCN's paper makes maps of 710, 355, 178, 89, 45 and 23 rows."""
    backbone = {"widths": (8, 8, 8, 8, 8), "stage_sizes": (2, 2, 1, 1, 1), "hidden": 8}
    model = create_model("fcn8s_vgg16", num_classes=3, backbone=backbone)
    images = jax.ShapeDtypeStruct((2, 512, 512, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    one, four = (
        loss_program(model, strategy, variables, images)
        for strategy in (JitStrategy(jax.devices()[:1]), SpatialStrategy(4, jax.devices()[:4]))
    )
    assert "all-gather" not in collectives(four)
    alone, each = (program.memory_analysis().temp_size_in_bytes for program in (one, four))
    assert each < 0.3 * alone


def _losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], [line for line in lines if "val/miou" in line]


WIDTH = 160  # of the toy: wide enough for its kernels to be split
# A rate that does not depend on the run's length, and so low that steps do not amplify rounding.
STEADY = OptimizerConfig(learning_rate=0.002, schedule="constant", warmup=0.0, ema_decay=0.99)


@pytest.fixture(scope="module")
def never_changed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("toy")
    toy_fit(workdir, 12, width=WIDTH, optim=STEADY)
    return workdir


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_and_another_layout(never_changed, tmp_path):
    chain = (
        (3, JitStrategy(jax.devices()[:4])),
        (6, FsdpStrategy(jax.devices()[:2])),
        (8, SpatialStrategy(4)),
        (10, FsdpStrategy()),
        (12, JitStrategy(jax.devices()[:2])),
    )
    for number, (steps, strategy) in enumerate(chain):
        outcome = toy_fit(
            tmp_path, steps, width=WIDTH, resume=number > 0, strategy=strategy, eval_every=0, optim=STEADY
        )
        assert outcome.step == steps
    (losses, scores), (want, want_scores) = _losses(tmp_path), _losses(never_changed)
    assert len(losses) == len(want) == 12
    np.testing.assert_allclose(losses, want, rtol=2e-5)
    assert scores[-1]["val/miou"] == pytest.approx(want_scores[-1]["val/miou"], rel=1e-3)


def test_parts_are_saved_and_restored_as_parts(tmp_path):
    strategy, optimizer = FsdpStrategy(), make_optimizer(OptimizerConfig(), 10)
    make = functools.partial(create_state, optimizer=optimizer, ema=True)
    variables = toy_variables(WIDTH)
    state = strategy.start(make, variables)
    kernel = state.params["backbone"]["kernel"]
    assert kernel.shape == (3, 3, 3, WIDTH)
    assert {part.data.shape for part in kernel.addressable_shards} == {(3, 3, 3, WIDTH // 8)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(strategy.snapshot(state), {"model": {"name": "toy"}}, None, wait=True)
    for layout in (strategy, FsdpStrategy(jax.devices()[:2])):
        like = layout.like(jax.eval_shape(make, variables))
        restored = checkpoints.restore(like).state
        for got, want, at in zip(*map(jax.tree.leaves, (restored, state, jax.tree.map(lambda x: x.sharding, like)))):
            assert got.sharding == at  # read onto the devices, so that nothing was whole
            np.testing.assert_array_equal(got, want)
    checkpoints.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "fsdp", "batch_size": 12}, "batch_size is 12, .* over 8 devices; use 16$"),
        (
            {"mode": "jit", "batch_size": 4},
            "batch_size is 4, .* over 8 devices; use 8 with an --optim.learning-rate .*, or at most 4 devices",
        ),
        ({"mode": "spatial", "batch_size": 3, "spatial": 4}, "batch_size is 3, .* over 2 devices; use 4"),
        (
            {"mode": "spatial", "batch_size": 8, "spatial": 3},
            "--spatial is 3, .* no groups of that size; use one of 1,",
        ),
        ({"mode": "jit", "batch_size": 8, "spatial": 2}, "--spatial 2 splits images under --parallel spatial only"),
        ({"mode": "fsdp", "batch_size": 8, "sync_batch_norm": False}, "per-device BatchNorm exists under pmap only"),
    ],
)
def test_layouts_that_cannot_be_made_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        make_strategy(**options)


def test_images_that_cannot_be_split_are_refused_before_the_first_step(tmp_path):
    with pytest.raises(ConfigError, match=f"images are {SIZE} pixels high, which 8 devices cannot share .* 16 high"):
        toy_fit(tmp_path, 3, strategy=SpatialStrategy(8))
