"""The children of `benchmarks/faster_rcnn.py`: a training step of Faster R-CNN in JAX or in PyTorch.

    python benchmarks/faster_rcnn_sides.py cvjax

serves one contestant over its pipes, as `benchmarks/paired.py` says. The torch side imports neither JAX nor cvjax.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import model_sides
import numpy as np
from layer_sides import hello
from model_sides import LEARNING_RATE, MOMENTUM
from paired import Message, Unavailable, Work, serve

OBJECTS, PROPOSALS, MULTIPLE = 8, 2000, 32
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
# torchvision's name of each loss, by ours.
LOSSES = {
    "rpn_object": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "class": "loss_classifier",
    "box": "loss_box_reg",
}
_FROZEN = ("backbone/stem*", "backbone/stage1*", "backbone/*bn*")  # what torchvision does not train


def drawn(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 parameter or statistic of that name in PyTorch, such that outputs are those of an untrained net."""
    array = model_sides.drawn(key, shape)
    if key.startswith(("rpn.head", "roi_heads.box_predictor")) and array.ndim > 1:
        return array * np.float32(0.01 / np.sqrt(2 / np.prod(shape[1:])))  # so that it deviates by 0.01
    # Frozen BatchNorm holds nothing back: maps would grow from block to block, and with the sums of the pyramid.
    return array / 4 if key.endswith("bn3.weight") or ".fpn.inner_blocks." in key else array


def batch_of(case: Message) -> dict[str, np.ndarray]:
    """`image` [B, H, W, 3] from 0 to 1, `boxes` float32 [B, N, 4] as corners in pixels, and `labels` int32 [B, N]."""
    rng, batch, (height, width) = np.random.default_rng(0), case["batch"], case["size"]
    low = rng.uniform(0, 0.6, (batch, OBJECTS, 2))
    high = np.minimum(low + rng.uniform(0.1, 0.4, low.shape), 1)
    corners = np.concatenate([low, high], axis=-1) * [width, height, width, height]
    return {
        "image": rng.random((batch, height, width, 3), np.float32),
        "boxes": corners.astype(np.float32),
        "labels": rng.integers(case["classes"], size=(batch, OBJECTS), dtype=np.int32),
    }


def all_draws(case: Message) -> tuple[int, int]:
    """How many anchors and regions to draw of an image, a half of them positive, to draw all there are."""
    height, width = (side + MULTIPLE for side in case["size"])
    return height * width, 2 * (PROPOSALS + OBJECTS)  # A quarter of the pixels have an anchor, and half would do.


def task_batch(case: Message) -> dict[str, np.ndarray]:
    """The batch as the loader makes it, padded by the mean color, which is 0 when normalized."""
    made = batch_of(case)
    there = np.ones(made["labels"].shape, bool)
    beyond = [(0, -side % MULTIPLE) for side in case["size"]]
    images = np.pad(made["image"] - MEAN, [(0, 0), *beyond, (0, 0)]) + MEAN
    return {
        **{"image": 255 * images, "boxes": made["boxes"], "labels": made["labels"]},
        **{"difficult": ~there, "crowd": ~there, "box_valid": there},
        "valid": np.ones(len(images), bool),
        "index": np.arange(len(images), dtype=np.int32),
        "size": np.tile(np.asarray(case["size"], np.int32), (len(images), 1)),
    }


def compared(losses: Mapping[str, Any], squares: float) -> dict[str, np.ndarray]:
    """The values that contestants must agree in, of losses under our names and the gradient's sum of squares."""
    return {**{name: np.asarray(losses[name], np.float32) for name in LOSSES}, "gradient": np.asarray(squares**0.5)}


def prepare_jax(case: Message) -> Work:
    """The engine's step on the detection task."""
    import jax
    import jax.numpy as jnp
    import optax

    import cvjax
    from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
    from cvjax.engine.state import TrainState
    from cvjax.engine.step import make_train_step
    from cvjax.runtime.compiler import compiler_options
    from cvjax.tasks.detection.config import DetectionConfig
    from cvjax.tasks.detection.task import Detection

    platform, name = jax.default_backend(), case["model"]
    task = Detection(DetectionConfig(), tuple(str(label) for label in range(case["classes"])))
    options = {"norm": {"frozen": True}, "dtype": jnp.dtype(case["dtype"]), **case["options"]}
    model = cvjax.create_model(name, num_classes=case["classes"], **options)
    config = OptimizerConfig(
        name="sgd",
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=0.0,
        schedule="constant",
        frozen=_FROZEN,
    )
    optimizer = make_optimizer(config, steps=1)
    shapes = jax.eval_shape(lambda key: task.init(model, key), jax.random.key(0))
    batch, key = jax.device_put(task_batch(case)), jax.random.key(0)

    variables = model_sides.flax_variables(name, shapes, drawn)

    def start() -> TrainState:
        params, statistics = jax.tree.map(jnp.copy, (variables["params"], variables["batch_stats"]))  # given away
        return TrainState(jnp.zeros((), jnp.int32), params, statistics, optimizer.init(params), None)

    def compiled(model: Any) -> Any:
        step = make_train_step(model, task, optimizer, make_schedule(config, 1), frozen=config.frozen)
        program = jax.jit(step, donate_argnums=0, compiler_options=compiler_options(platform))
        return program.lower(jax.eval_shape(start), batch, key).compile()

    anchors, regions = all_draws(case)
    of_all = {"rpn_batch_size_per_image": anchors, "rois_per_image": regions, "positive_fraction": 0.5}
    state, losses = compiled(model.clone(**of_all))(start(), batch, key)
    # After one step momentum holds the gradient, and nothing of what is frozen.
    gradient = jax.tree.leaves(optax.tree.get(state.opt_state, "trace"))
    values = compared(losses, sum(float(jnp.vdot(leaf, leaf)) for leaf in gradient))
    del state, gradient
    return model_sides.training_in_jax(compiled(model), start(), (batch, key), values)


def torch_net(case: Message) -> Any:
    """torchvision's net as it makes it for pretrained weights: frozen BatchNorm, three stages that train."""
    try:
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    except ImportError as error:
        raise Unavailable("torchvision is not there") from error
    # `fasterrcnn_resnet50_fpn` without weights to read has BatchNorm that trains, in all stages.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    # Images have their size already; torchvision counts the background.
    return FasterRCNN(backbone, case["classes"] + 1, min_size=min(case["size"]), max_size=max(case["size"]))


def prepare_torch(case: Message) -> Work:
    """torchvision's net, channels_last, under autocast if the case asks for bfloat16."""
    import torch

    net, on_gpu = torch_net(case), torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, case["dtype"])
    for key, tensor in net.state_dict().items():
        tensor.copy_(torch.from_numpy(drawn(key, tuple(tensor.shape))))
    net = net.to(device, memory_format=torch.channels_last).train()
    made = {name: torch.from_numpy(array).to(device) for name, array in batch_of(case).items()}
    images = list(made["image"].permute(0, 3, 1, 2))  # NHWC in memory
    # Class 0 is the background.
    objects = [{"boxes": b, "labels": label.long() + 1} for b, label in zip(made["boxes"], made["labels"])]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, LEARNING_RATE, MOMENTUM)
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)

    def losses_and_gradients() -> dict[str, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            losses = {name: loss.float() for name, loss in net(images, objects).items()}
        torch.stack(list(losses.values())).sum().backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def step() -> dict[str, torch.Tensor]:
        losses = losses_and_gradients()
        optimizer.step()
        return losses

    samplers = net.rpn.fg_bg_sampler, net.roi_heads.fg_bg_sampler
    usual = [dict(vars(sampler)) for sampler in samplers]
    for sampler, count in zip(samplers, all_draws(case)):
        sampler.batch_size_per_image, sampler.positive_fraction = count, 0.5
    losses = losses_and_gradients()
    squares = sum(float(parameter.grad.double().square().sum()) for parameter in trained)
    values = compared({ours: losses[theirs].cpu().numpy() for ours, theirs in LOSSES.items()}, squares)
    for sampler, settings in zip(samplers, usual):
        vars(sampler).update(settings)
    return model_sides.training_in_torch(step, net, optimizer, values)


def main() -> None:
    """Serve one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["cvjax", "torch"])
    side = parser.parse_args().side
    serve(hello(side), prepare_torch if side == "torch" else prepare_jax)


if __name__ == "__main__":
    main()
