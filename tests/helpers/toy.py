"""A net and a data stream small enough that a whole training run is a unit test."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from made import segmentation

from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.state import TrainState, create_state, init_variables
from cvjax.engine.step import TrainStep, make_train_step
from cvjax.engine.task import Task
from cvjax.nn import BatchNorm, Dropout, TorchConv

CLASSES = ("background", "red", "green", "blue")
SIZE = 12


class ToyNet(nn.Module):
    """Convolution, BatchNorm and dropout under the name `backbone`, and a head."""

    width: int = 8
    dropout: float = 0.3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = TorchConv(self.width, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="backbone")(images)
        x = BatchNorm(momentum=0.9)(x, not train)
        x = Dropout(self.dropout)(nn.relu(x), train)
        return TorchConv(len(CLASSES), (1, 1), name="classifier")(x)


def toy_task(**options: Any) -> Task:
    return segmentation(CLASSES, brightness=0.2, **options)


def toy_batch(number: int, rows: int = 16) -> dict[str, np.ndarray]:
    """Colored noise whose label is its strongest channel; a third of the pixels is void, unevenly spread."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8)
    mask = (image.argmax(-1) + 1).astype(np.uint8)
    mask[rng.random(mask.shape) < np.linspace(0, 0.6, rows)[:, None, None]] = 255
    index = np.arange(number * rows, (number + 1) * rows, dtype=np.int32)
    valid, skipped = np.ones(rows, bool), np.zeros(rows, np.int32)
    return {"image": image, "mask": mask, "index": index, "valid": valid, "skipped": skipped}


def toy_stream(start: int) -> Iterator[dict[str, np.ndarray]]:
    while True:
        yield toy_batch(start)
        start += 1


def toy_variables(width: int = 8) -> dict[str, Any]:
    return init_variables(ToyNet(width=width), jax.random.key(0), (SIZE, SIZE, 3))


def toy_training(
    config: OptimizerConfig, axis_name: str | None = None, steps: int = 10, **options: Any
) -> tuple[TrainState, TrainStep]:
    """A fresh state and the step that trains it."""
    optimizer, schedule = make_optimizer(config, steps), make_schedule(config, steps)
    state = create_state(toy_variables(), optimizer, ema=config.ema_decay is not None)
    step = make_train_step(
        ToyNet(),
        toy_task(),
        optimizer,
        schedule,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        axis_name=axis_name,
        **options,
    )
    return state, step


def largest_difference(a: Any, b: Any) -> float:
    """Largest difference between two trees, relative to the largest value of each leaf."""

    def gap(x: Any, y: Any) -> float:
        x, y = (np.asarray(value, np.float64) for value in (x, y))
        return float(np.abs(x - y).max() / (np.abs(y).max() + 1e-6))

    return max(jax.tree.leaves(jax.tree.map(gap, a, b)))
