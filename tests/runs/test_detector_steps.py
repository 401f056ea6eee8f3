"""The steps of the engine with a detector: the same on any devices, and finite whatever the boxes are."""

import importlib

import jax
import numpy as np
import pytest
from flax import linen as nn
from made import detection
from toy_detector import ToyDetector

from cvjax.engine.evaluate import evaluate
from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.parallel import JitStrategy, PmapStrategy, SpatialStrategy
from cvjax.engine.state import create_state
from cvjax.engine.step import make_eval_step, make_train_step
from cvjax.errors import ConfigError
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.detection.config import DetectionEval
from cvjax.tasks.detection.predict import call_detector, with_postprocessing

SIDE, ROWS, ROOM = 48, 8, 50
TASK = detection(("disc", "square"), brightness=0.2, crop=(SIDE, SIDE))
OPTIM = OptimizerConfig(name="sgd", learning_rate=0.01)


def _batch(number: int, rows: int = ROWS, side: int = SIDE) -> dict[str, np.ndarray]:
    """Images of noise with 0 to 50 random boxes: some without area, inverted, outside, difficult, or crowds."""
    rng = np.random.default_rng(number)
    count = rng.integers(0, ROOM + 1, rows)
    count[number % rows] = 0
    boxes = rng.uniform(-20, side + 20, (rows, ROOM, 4)).astype(np.float32)
    kind = rng.integers(0, 4, (rows, ROOM))
    first, second = boxes[..., :2], boxes[..., 2:]
    ordered = np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)
    boxes = np.where((kind >= 2)[..., None], ordered, boxes)
    boxes = np.where((kind == 1)[..., None], np.tile(boxes[..., :2], 2), boxes)
    valid = np.arange(ROOM) < count[:, None]
    return {
        "image": rng.integers(0, 256, (rows, side, side, 3), np.uint8),
        "boxes": np.where(valid[..., None], boxes, 0).astype(np.float32),
        "labels": np.where(valid, rng.integers(0, 2, valid.shape), -1).astype(np.int32),
        "difficult": valid & (rng.random(valid.shape) < 0.2),
        "crowd": valid & (rng.random(valid.shape) < 0.1),
        "box_valid": valid,
        "dropped_boxes": np.zeros(rows, np.int32),
        "size": rng.integers(side // 2, side + 1, (rows, 2)).astype(np.int32),
        "index": np.arange(number * rows, (number + 1) * rows, dtype=np.int32),
        "valid": np.ones(rows, bool),
        "skipped": np.zeros(rows, np.int32),
    }


def _start(strategy, accumulate: int = 1):
    optimizer, schedule = make_optimizer(OPTIM, 100), make_schedule(OPTIM, 100)
    model = ToyDetector(2)
    variables = TASK.init(model, jax.random.key(0))
    step = make_train_step(
        model, TASK, optimizer, schedule, accumulate=accumulate, axis_name=strategy.axis_name, layout=strategy.layout
    )
    state = create_state(variables, optimizer, ema=False)
    return strategy.place_state(state), strategy.compile_train(step)


def _train(strategy, steps: int = 3, accumulate: int = 1):
    """Metrics of some steps."""
    state, step = _start(strategy, accumulate)
    found = []
    for number in range(steps):
        state, metrics = step(state, strategy.place_batch(_batch(number)), jax.random.key(1))
        found.append(strategy.fetch(metrics))
    return {name: np.asarray([metrics[name] for metrics in found]) for name in found[0]}


@pytest.fixture(scope="module")
def one_device():
    return _train(JitStrategy(jax.devices()[:1]))


@pytest.mark.parametrize("make", [JitStrategy, PmapStrategy, lambda: SpatialStrategy(2)])
def test_devices_change_nothing(one_device, make):
    found = _train(make())
    assert found.keys() == one_device.keys() >= {"loss", "classes", "boxes"}
    for name, values in one_device.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, err_msg=name)


def test_losses_add_up_and_their_images_weigh_alike(one_device):
    np.testing.assert_allclose(one_device["loss"], one_device["classes"] + one_device["boxes"], rtol=1e-5)


def test_two_hundred_images_of_any_boxes_train():
    strategy = JitStrategy(jax.devices()[:1])
    state, step = _start(strategy, accumulate=2)
    for number in range(200 // ROWS):
        state, metrics = step(state, strategy.place_batch(_batch(number)), jax.random.key(1))
        assert all(np.isfinite(value) for value in strategy.fetch(metrics).values()), number
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(strategy.fetch(state).variables))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo_voc", "faster_rcnn_voc", "fast_rcnn_voc", "rcnn_voc", "sppnet_voc"])
def test_two_hundred_images_of_any_boxes_train_every_system(name):
    """The nets of the `quick` presets; proposals are such boxes, too."""
    config = importlib.import_module(f"experiments.{name}").PRESETS["quick"]
    side = 128 if name == "yolo_voc" else 64  # dense layers on a grid take one size
    model = config.model.replace(**({"scales": (64, 96)} if name == "sppnet_voc" else {})).build(num_classes=2)
    task = detection(TASK.class_names, brightness=0.2, crop=(side, side))
    slow = OptimizerConfig(name="sgd", learning_rate=1e-4)  # what diverges would tell nothing
    optimizer, schedule = make_optimizer(slow, 100), make_schedule(slow, 100)
    once = compiler_options("cpu", once=True)
    variables = jax.jit(lambda key: task.init(model, key), compiler_options=once)(jax.random.key(0))
    step = jax.jit(make_train_step(model, task, optimizer, schedule, accumulate=1), compiler_options=once)
    state = create_state(variables, optimizer, ema=False)
    for number in range(200 // ROWS):
        batch = _batch(number, side=side)
        if config.input.proposals:
            others = [_batch(1000 + 3 * number + i, side=side) for i in range(2)]
            batch["proposals"] = np.concatenate([other["boxes"] for other in others], axis=1)
            batch["proposal_valid"] = np.concatenate([other["box_valid"] for other in others], axis=1)
        state, metrics = step(state, batch, jax.random.key(1))
        assert all(np.isfinite(value) for value in jax.device_get(metrics).values()), number
    assert metrics["grad_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.variables)))


def _scores(strategy):
    model = ToyDetector(2, score_threshold=0.0)
    variables = TASK.init(model, jax.random.key(3))
    step = strategy.compile_eval(make_eval_step(model, TASK, strategy.axis_name))
    batches = []
    for number in range(2):
        batch = _batch(number)
        more = {"scale": np.full((ROWS, 2), 0.5, np.float32), "original_size": 2 * batch["size"]}
        more["areas"] = 4 * np.prod(batch["boxes"][..., 2:] - batch["boxes"][..., :2], axis=-1)
        batches.append({**batch, **more, "valid": np.arange(ROWS) < ROWS - 3 * number})
    return evaluate(step, strategy.place_state(variables), iter(batches), TASK, strategy)


def test_scores_are_those_of_any_devices():
    alone, spread = _scores(JitStrategy(jax.devices()[:1])), _scores(PmapStrategy())
    assert alone["examples"] == spread["examples"] == 13
    assert alone["objects"] == spread["objects"]
    np.testing.assert_allclose(alone["precision"], spread["precision"], atol=1e-6)


def test_thresholds_of_an_evaluation_are_the_detectors():
    model = ToyDetector(2)
    assert with_postprocessing(model, DetectionEval()) is model
    changed = with_postprocessing(model, DetectionEval(score_threshold=0.3, max_detections=7))
    assert (changed.score_threshold, changed.nms_threshold, changed.max_detections) == (0.3, 0.5, 7)

    class Bare(nn.Module):
        pass

    with pytest.raises(ConfigError, match=r"Bare has no nms_threshold; leave out --eval\.nms_threshold"):
        with_postprocessing(Bare(), DetectionEval(nms_threshold=0.3))


def test_a_detector_that_needs_proposals_says_so():
    detector = ToyDetector(2, needs_proposals=True)
    shapes = jax.eval_shape(lambda key: TASK.init(detector, key), jax.random.key(0))
    inputs, _ = TASK.prepare(_batch(0), None)
    with pytest.raises(ConfigError, match="ToyDetector finds no boxes by itself"):
        call_detector(detector, shapes, inputs, train=False)
