"""Makes a run learn from a trained model: its logits (1503.02531) and where its maps attend to (1612.03928)."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from cvjax.data.identity import listed
from cvjax.engine.config import DistillConfig
from cvjax.engine.step import is_one_of, maps_of
from cvjax.engine.task import Batch
from cvjax.errors import ConfigError
from cvjax.ops.resize import resize
from cvjax.shapes import Array
from cvjax.tasks.images import ImageTask
from cvjax.tasks.load import load_for_inference
from cvjax.tasks.loaded import Loaded

_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class ImageTeacher:
    """Compares a student with a trained model of the same task, see `cvjax.engine.task.Teacher`.

    Attributes:
      task: Task of the student's run.
      loaded: The trained model.
      order: Number of each of the student's classes among the teacher's, int [C].
      pairs: Names of the layers that are compared, the student's and the teacher's.
    """

    task: ImageTask
    loaded: Loaded
    order: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...]

    @property
    def variables(self) -> Any:
        """Returns the variables of the trained model."""
        return self.loaded.variables

    @property
    def captured(self) -> tuple[str, ...]:
        """Returns the names of the student's layers that are compared."""
        return tuple(dict.fromkeys(student for student, _ in self.pairs))

    def loss(
        self,
        variables: Any,
        outputs: Any,
        maps: Mapping[str, jax.Array],
        inputs: Any,
        targets: Batch,
        labels_loss: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the summed loss of labels and teacher together, see `cvjax.engine.task.Teacher`.

        Of the labels' loss it takes `1 - weight`, and of the divergence from the teacher `weight` times the squared
        temperature, which keeps its gradients at the size of the labels'.
        """
        settings: DistillConfig = self.task.config.distill
        taught, their_maps = self._answers(variables, self._seen(inputs))
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        taught = jax.lax.stop_gradient(taught[..., jnp.asarray(self.order)])
        divergence = self.task.soft_loss(logits / settings.temperature, taught / settings.temperature, targets)
        soft = settings.temperature**2 * divergence
        total, sums = (1 - settings.weight) * labels_loss + settings.weight * soft, {"distilled": soft}
        if self.pairs:
            weights = self.task.image_weights(targets)
            gaps = [
                (attention_gap(maps[ours], jax.lax.stop_gradient(their_maps[theirs])) * weights).sum()
                for ours, theirs in self.pairs
            ]
            sums["attention"] = jnp.stack(gaps).sum()
            total += settings.feature_weight * sums["attention"]
        return total, sums

    def _seen(self, images: jax.Array) -> jax.Array:
        """Returns the student's normalized images as the teacher's run normalized them."""
        ours, theirs = self.task, self.loaded.task
        if (ours.mean, ours.std) == (theirs.mean, theirs.std):
            return images
        axes = range(images.ndim - 1)
        std, mean = (jnp.expand_dims(jnp.asarray(level, jnp.float32), axes) for level in (ours.std, ours.mean))
        return theirs.normalize(images * std + mean)

    def _answers(self, variables: Any, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        names = tuple(dict.fromkeys(theirs for _, theirs in self.pairs))
        logits, updates = self.loaded.model.apply(
            variables,
            images,
            train=False,
            mutable=["intermediates"],
            capture_intermediates=is_one_of(names) if names else False,
        )
        return logits, maps_of(updates.get("intermediates", {}), names)


def open_teacher(task: ImageTask, model: nn.Module) -> ImageTeacher:
    """Opens the teacher that a run's configuration names.

    Args:
      task: Task of the student's run.
      model: The student.

    Raises:
      ConfigError: Its task is another one, it lacks a class of the student, or there are no layers of these names.
      CheckpointError: It cannot be read.
    """
    if type(task).soft_loss is ImageTask.soft_loss:
        raise ConfigError(f"a run of the task {task.name} learns from labels alone; leave --distill.teacher out")
    settings = task.config.distill
    place = os.fspath(settings.teacher)
    loaded = load_for_inference(place)
    if loaded.task.name != task.name:
        raise ConfigError(f"--distill.teacher {place} is of the task {loaded.task.name}; give one of {task.name}")
    pairs = tuple(_pair(text) for text in settings.features)
    teacher = ImageTeacher(task, loaded, _order(task, loaded, place), pairs)
    image = jnp.zeros((1, *task.config.input.crop, 3), jnp.float32)
    for names, net, variables, whose in (
        ([student for student, _ in pairs], model, None, "the trained net"),
        ([theirs for _, theirs in pairs], loaded.model, loaded.variables, "the teacher"),
    ):
        layers = layer_shapes(net, variables, image) if names else {}
        for name in names:
            if name not in layers:
                maps = (layer for layer in layers if layer and len(layers[layer]) == 4)
                near = sorted(maps, key=lambda layer: layer.count("/"))[:_SHOWN]
                raise ConfigError(f"--distill.features: {whose} has no layer {name}; layers are {', '.join(near)}, ...")
            if len(layers[name]) != 4:
                raise ConfigError(
                    f"--distill.features: layer {name} of {whose} gives no maps but {list(layers[name])}; name another"
                )
    return teacher


def layer_shapes(model: nn.Module, variables: Any, image: jax.Array) -> dict[str, tuple[int, ...]]:
    """Returns the shape that each layer gives for an image [1, H, W, 3], by the layer's name, without running it."""

    def captured(key: jax.Array) -> Any:
        given = model.init(key, image, train=False) if variables is None else variables
        _, updates = model.apply(given, image, train=False, mutable=["intermediates"], capture_intermediates=True)
        return updates["intermediates"]

    found = jax.eval_shape(captured, jax.random.key(0))
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        names = [str(part.key) for part in path if isinstance(part, jax.tree_util.DictKey)]
        shapes["/".join(names[:-1])] = leaf.shape
    return shapes


def attention_gap(
    ours: Float[Array, "batch height width channels"], theirs: Float[Array, "batch rows columns others"]
) -> Float[jax.Array, " batch"]:
    """Computes the squared distance of where two nets attend to, float32 [B] (1612.03928, equation 2, squared).

    A map of attention is the mean over channels of squares, of unit length over the image. The student's is resized
    where the teacher's has another size.

    Args:
      ours: Maps of the student.
      theirs: Maps of the teacher.
    """

    def attention(maps: jax.Array) -> jax.Array:
        return jnp.square(maps.astype(jnp.float32)).mean(-1, keepdims=True)

    def unit(maps: jax.Array) -> jax.Array:
        length = jnp.sqrt(jnp.square(maps).sum((1, 2, 3), keepdims=True) + 1e-12)
        return maps / length

    mine, wanted = attention(jnp.asarray(ours)), attention(jnp.asarray(theirs))
    if mine.shape != wanted.shape:
        mine = resize(mine, (wanted.shape[1], wanted.shape[2]))
    return jnp.square(unit(mine) - unit(wanted)).sum((1, 2, 3))


def _pair(text: str) -> tuple[str, str]:
    student, equals, theirs = text.partition("=")
    if not student or (equals and not theirs):
        raise ConfigError(f"--distill.features {text} names no layers; give LAYER, or STUDENT=TEACHER")
    return student, theirs or student


def _order(task: ImageTask, loaded: Loaded, place: str) -> tuple[int, ...]:
    """Returns the number of each of the student's classes among the teacher's."""
    theirs = list(loaded.task.class_names)
    missing = [name for name in task.class_names if name not in theirs]
    if missing:
        raise ConfigError(
            f"--distill.teacher {place} does not know {listed(missing)}; give one that knows all classes of the run"
        )
    return tuple(np.array([theirs.index(name) for name in task.class_names]).tolist())
