"""The children of `benchmarks/models.py` and `benchmarks/segmenters.py`: inference or a training step of one net.

    python benchmarks/model_sides.py cvjax

serves one contestant over its pipes, as `benchmarks/paired.py` says. The torch side imports neither JAX nor cvjax.
All draw the same weights by the rule of `drawn`, under PyTorch's names, and drop nothing in training. A case has those
fields that `benchmarks/model_tables.py` names, and `model`, `options` (fields of our model), `task` and `classes`.
"""

import argparse
import contextlib
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from layer_sides import JAX_SIDES, hello
from paired import Message, Work, serve
from step_memory import peak_above

LEARNING_RATE, MOMENTUM = 1e-3, 0.9
IGNORED = 255  # The label of pixels that do not count.
_OFF = {"dropout": 0.0, "drop_connect": 0.0, "aux": False}  # What would make steps random, or two losses of one.


def drawn(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 parameter or statistic of that name in PyTorch; kernels OIHW, dense layers [out, in]."""
    if key.endswith(("running_mean", "bias")):
        return np.zeros(shape, np.float32)
    if len(shape) < 2:  # BatchNorm's variances and scales.
        return np.ones(shape, np.float32)
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def batch_of(case: Message) -> tuple[np.ndarray, np.ndarray]:
    """Images [B, H, W, 3], and labels [B], or of pixels [B, H, W] with a tenth ignored."""
    rng = np.random.default_rng(0)
    shape = (case["batch"], *case["size"])
    images = rng.standard_normal((*shape, 3), np.float32)
    if case["task"] == "classification":
        return images, rng.integers(case["classes"], size=case["batch"])
    labels = rng.integers(case["classes"], size=shape)
    labels[rng.random(shape) < 0.1] = IGNORED
    return images, labels


def flax_variables(name: str, shapes: Any, draw: Callable[[str, tuple[int, ...]], np.ndarray] = drawn) -> Any:
    """The weights that `draw` makes for PyTorch's names and shapes, as Flax variables of the shapes of `model.init`."""
    import jax
    from torch_names import LAYOUTS

    from cvjax import weights
    from cvjax.weights import convert

    if name in LAYOUTS:
        layout, known = LAYOUTS[name], convert.leaf_shapes(shapes, LAYOUTS[name])
        # Their shape is that of our array in their layout.
        empty = {key: layout.to_torch(key, np.zeros(shape, np.float32)) for key, shape in known.items()}
        return convert.fill(name, shapes, layout, {key: draw(key, array.shape) for key, array in empty.items()})
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    state = {
        key: value if key.endswith("num_batches_tracked") else draw(key, value.shape)
        for key, value in weights.to_torch(name, zeros).items()
    }
    return weights.from_torch(name, state, shapes)


def prepare_jax(case: Message, side: str) -> Work:
    """The work of one of `JAX_SIDES`; those of Flax run the same model on stock layers."""
    import jax
    import jax.numpy as jnp
    import optax
    from stock import stock_layers

    import cvjax
    from cvjax.runtime.compiler import compiler_options
    from cvjax.tasks.losses import cross_entropy

    whose, with_options = JAX_SIDES[side]
    name, platform, of_pixels = case["model"], jax.default_backend(), case["task"] == "segmentation"
    options = compiler_options(platform) if with_options else None
    off = {option: value for option, value in _OFF.items() if option in cvjax.model_options(name)}
    model = cvjax.create_model(
        name, num_classes=case["classes"], dtype=jnp.dtype(case["dtype"]), **off, **case["options"]
    )
    images, labels = map(jnp.asarray, batch_of(case))
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)

    def step(state: tuple, images: jax.Array, labels: jax.Array) -> tuple[tuple, jax.Array]:
        params, statistics, momentum = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": statistics}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            if of_pixels:
                counted = (labels != IGNORED).astype(jnp.float32)
                loss = (cross_entropy(logits, labels) * counted).sum() / counted.sum()
            else:
                loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, new.get("batch_stats", {})

        (loss, new_statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, momentum = optimizer.update(gradients, momentum)
        return (optax.apply_updates(params, updates), new_statistics, momentum), loss

    with stock_layers() if whose == "flax" else contextlib.nullcontext():
        variables = flax_variables(name, jax.eval_shape(model.init, jax.random.key(0), images))
        if case["mode"] == "inference":
            infer = jax.jit(model.apply, compiler_options=options).lower(variables, images).compile()
            values = {"logits": np.asarray(infer(variables, images), np.float32)}
            return Work(lambda: infer(variables, images), jax.block_until_ready, values, platform == "cpu")
        state = (variables["params"], variables.get("batch_stats", {}), optimizer.init(variables["params"]))
        train = jax.jit(step, donate_argnums=0, compiler_options=options).lower(state, images, labels).compile()

    state, loss = train(state, images, labels)
    # After one step momentum holds the gradient.
    norm = sum(float(jnp.vdot(leaf, leaf)) for leaf in jax.tree.leaves(state[2][0].trace)) ** 0.5
    values = {"loss": np.asarray(loss), "gradient": np.asarray(norm)}
    return training_in_jax(train, state, (images, labels), values)


def training_in_jax(train: Callable[..., tuple], state: Any, inputs: tuple, values: dict[str, np.ndarray]) -> Work:
    """The work of a compiled step `(state, *inputs) -> (state, ...)`, with its memory on a CPU."""
    import jax

    on_cpu = jax.default_backend() == "cpu"

    def run() -> tuple:
        nonlocal state
        state, result = train(state, *inputs)
        return state, result

    def facts() -> Message:
        if not on_cpu:
            return {}
        return {"state": bytes_of(jax.tree.leaves(state)), "peak": peak_above(lambda: jax.block_until_ready(run()))}

    return Work(run, jax.block_until_ready, values, on_cpu, facts)


def bytes_of(arrays: Iterable[Any]) -> int:
    """Bytes that arrays, or tensors, hold."""
    return sum(array.nbytes for array in arrays)


def torch_net(case: Message) -> Any:
    """The net of a case in PyTorch, with PyTorch's own weights."""
    name, classes, options = case["model"], case["classes"], case["options"]
    if name == "unet":
        from torch_nets.unet import UNet

        momentum = options.get("norm", {}).get("momentum", 0.9)
        return UNet(classes, options["width"], options["depth"], bn_momentum=1 - momentum)
    if name == "deeplabv3plus_resnet50":
        from torch_nets.deeplab import DeepLabV3Plus

        return DeepLabV3Plus(classes, dropout=0.0)
    from torch_nets import classifiers

    return classifiers.create(name)


def prepare_torch(case: Message) -> Work:
    """PyTorch, channels_last; on a GPU compiled, under autocast if the case asks for bfloat16."""
    import torch

    on_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, case["dtype"])
    model = torch_net(case)
    state = model.state_dict()
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(drawn(key, tuple(tensor.shape))))
    model = model.to(device, memory_format=torch.channels_last)
    forward = torch.compile(model) if on_gpu else model
    images, labels = (torch.from_numpy(array).to(device) for array in batch_of(case))
    images = images.permute(0, 3, 1, 2)  # NHWC in memory, which is channels_last.
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    ignored = IGNORED if case["task"] == "segmentation" else -100  # which is PyTorch's default

    if case["mode"] == "inference":
        model.eval()

        def infer() -> torch.Tensor:
            with torch.inference_mode(), autocast:
                return forward(images)

        logits = infer().float().cpu().numpy()
        values = {"logits": np.moveaxis(logits, 1, -1)}  # as ours; of a classifier it changes nothing
        return Work(infer, lambda result: wait(), values, wait_each=not on_gpu)

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = torch.nn.functional.cross_entropy(forward(images).float(), labels, ignore_index=ignored)
        loss.backward()
        optimizer.step()
        return loss.detach()

    loss = step()
    norm = sum(float(parameter.grad.double().square().sum()) for parameter in model.parameters()) ** 0.5
    values = {"loss": loss.cpu().numpy(), "gradient": np.asarray(norm)}
    return training_in_torch(step, model, optimizer, values)


def training_in_torch(step: Callable[[], Any], model: Any, optimizer: Any, values: dict[str, np.ndarray]) -> Work:
    """The work of a step of PyTorch's, with its memory on a CPU."""
    import torch

    on_gpu = torch.cuda.is_available()

    def facts() -> Message:
        if on_gpu:
            return {}
        optimizer.zero_grad(set_to_none=True)  # which a step begins with, so gradients count as its own
        momentum = (buffer for one in optimizer.state.values() for buffer in one.values() if buffer is not None)
        state = [*model.parameters(), *model.buffers(), *momentum]
        return {"state": bytes_of(state), "peak": peak_above(step)}

    wait = torch.cuda.synchronize if on_gpu else lambda: None
    return Work(step, lambda result: wait(), values, wait_each=not on_gpu, facts=facts)


def main() -> None:
    """Serve one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=[*JAX_SIDES, "torch"])
    side = parser.parse_args().side
    serve(hello(side), prepare_torch if side == "torch" else lambda case: prepare_jax(case, side))


if __name__ == "__main__":
    main()
