"""A training step of one net, by the engine's own step: the JAX side of `benchmarks/accelerator.py`."""

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from paired import Message, Unavailable, Work

from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.state import TrainState
from cvjax.engine.step import make_train_step
from cvjax.models import create_model, model_options
from cvjax.models.classification.efficientnet import Stage
from cvjax.models.detection.detector import Truth, beside_images
from cvjax.runtime.compiler import compiler_options
from on_device.arrays import arrays

_OFF = {"dropout": 0.0, "drop_connect": 0.0}  # As torchvision's nets have it here.
_NARROW = {"backbone": {"stage_sizes": (1, 1, 1, 1), "width": 8, "bottleneck": False}}
# What makes nets small enough to compile in seconds.
_TINY = {
    "resnet50": {"stage_sizes": (1, 1, 1, 1), "width": 8, "bottleneck": False},
    "efficientnet_b0": {"stages": (Stage(1, 3, 1, 8, 1), Stage(6, 5, 2, 8, 2)), "top_features": 16},
    "deeplabv3plus_resnet50": {**_NARROW, "aspp_features": 8, "low_level_features": 4, "decoder_layers": 1},
    "unet": {"width": 4, "depth": 2},
    "fasterrcnn_resnet50_fpn": {
        **_NARROW,
        "rpn_channels": 8,
        "fpn": {"features": 8},
        "box_head": {"hidden": 16},
        "rpn_pre_nms_top_n": (40, 20),
        "rpn_post_nms_top_n": (20, 10),
        "rois_per_image": 8,
    },
    "yolov1": {
        "backbone": {"stages": tuple(((3, 4, 2),) for _ in range(3))},
        "neck": ((3, 8, 2),),
        "hidden": 16,
    },
}


@dataclasses.dataclass(frozen=True)
class StepTask:
    """What the engine's step asks of a task, for batches that are on the device, normalized.

    Attributes:
      kind: "classification", "segmentation" or "detection".
    """

    kind: str

    def prepare(self, batch: Message, key: jax.Array | None) -> tuple[Message, Message]:
        """The batch itself, as inputs and as targets."""
        return batch, batch

    def apply(self, model: Any, variables: Any, inputs: Message, *, rngs: Message, **options: Any) -> Any:
        """Calls the model; a detector gets its objects, and random numbers to draw boxes with."""
        if self.kind != "detection":
            return model.apply(variables, inputs["image"], rngs=rngs, **options)
        boxes, labels = inputs["boxes"], inputs["label"]
        there = jnp.ones(labels.shape, bool)
        truth = Truth(boxes, labels, ~there, there)
        rngs = {"sample": jax.random.fold_in(rngs["dropout"], 1), **rngs}
        beside = beside_images(model, inputs["image"].shape)
        return model.apply(variables, inputs["image"], **beside, truth=truth, rngs=rngs, **options)

    def weight(self, batch: Message) -> jax.Array:
        """The number of images, or of pixels."""
        shape = batch["label"].shape
        return jnp.float32(math.prod(shape) if self.kind == "segmentation" else shape[0])

    def loss(self, outputs: Any, targets: Message) -> tuple[jax.Array, Message]:
        """The sum of the losses."""
        if self.kind == "detection":
            return jnp.stack([loss.sum() for loss in outputs.values()]).sum(), {}
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets["label"]).sum(), {}


def model_of(work: Message) -> Any:
    """The net, without random drops where PyTorch's peer has none."""
    name = work["model"]
    off = _OFF if work["task"] == "classification" else {}
    off = {option: value for option, value in off.items() if option in model_options(name)}
    options = {**off, **(_TINY[name] if work["tiny"] else {})}
    return create_model(name, num_classes=work["classes"], dtype=jnp.dtype(work["dtype"]), **options)


def shapes_of(model: Any, work: Message) -> dict[str, Any]:
    """The shapes of the net's variables."""
    images = jax.ShapeDtypeStruct((2, work["size"], work["size"], 3), jnp.float32)
    beside = beside_images(model, images.shape)
    shapes = jax.eval_shape(lambda key, x: model.init(key, x, **beside, train=False), jax.random.key(0), images)
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}


def step_of(model: Any, work: Message) -> tuple[Any, optax.GradientTransformation]:
    """The engine's step, and its optimizer: SGD with momentum and weight decay, at a rate that changes little."""
    config = OptimizerConfig(learning_rate=1e-5, schedule="constant")
    optimizer = make_optimizer(config, steps=1000)
    task: Any = StepTask(work["task"])
    return make_train_step(model, task, optimizer, make_schedule(config, 1000)), optimizer


def parameters_of(variables: dict[str, Any]) -> int:
    """How many numbers are trained."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def prepare(work: Message, options: dict[str, Any]) -> Work:
    """The work of one net, compiled with further options of XLA's."""
    platform, seconds = jax.default_backend(), {}
    if options and platform == "tpu":
        raise Unavailable("these options are for GPUs")
    model = model_of(work)
    shapes = shapes_of(model, work)
    step, optimizer = step_of(model, work)
    # Drawn on the host: a program that draws would take as long to compile as the step.
    variables = jax.device_put(jax.tree_util.tree_map_with_path(_drawn, shapes))
    params = variables["params"]
    opt_state = jax.jit(optimizer.init)(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], opt_state, None)
    batch, key = jax.device_put(arrays(work)), jax.random.key(0)
    program = jax.jit(step, donate_argnums=0, compiler_options={**compiler_options(platform), **options})
    start = time.perf_counter()
    lowered = program.lower(state, batch, key)
    seconds["trace_s"] = time.perf_counter() - start
    compiled = lowered.compile()
    seconds["compile_s"] = time.perf_counter() - start
    del variables, params, opt_state  # The step is given the only references, so that it writes in place.
    state, metrics = compiled(state, batch, key)
    loss = float(metrics["loss"])
    if not math.isfinite(loss):
        raise Unavailable(f"the first loss is {loss}")

    def run() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch, key)
        return state, metrics

    said = compiled.memory_analysis()
    parameters = parameters_of(shapes)
    facts = {"loss": loss, "parameters": parameters, **seconds}
    if said is not None:
        taken = said.argument_size_in_bytes + said.output_size_in_bytes + said.temp_size_in_bytes
        facts["program_bytes"] = taken - said.alias_size_in_bytes
    values = {} if work["tiny"] else {"parameters": np.asarray(parameters)}
    return Work(run, jax.block_until_ready, values, platform == "cpu", lambda: facts)


def _drawn(path: Any, leaf: Any) -> np.ndarray:
    """A parameter or statistic by its name: kernels scaled by their inputs, variances and scales 1, the rest 0."""
    name = path[-1].key
    if name in ("scale", "var"):
        return np.ones(leaf.shape, leaf.dtype)
    if len(leaf.shape) < 2:
        return np.zeros(leaf.shape, leaf.dtype)
    few = np.random.default_rng(0).standard_normal(2**20 + 7, np.float32)  # Repeated: YOLO has 270 million.
    return np.resize(few, leaf.shape) * np.float32(math.sqrt(2 / math.prod(leaf.shape[:-1])))
