"""Converts PyTorch state dicts, as numpy arrays, into Flax variables and back."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model, model_info, model_options
from cvjax.models.detection.detector import beside_images
from cvjax.weights.adapt import adapt_state_dict
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.known import architectures, with_layout
from cvjax.weights.layouts.torchvision import torch_key

StateDict = Mapping[str, np.ndarray]
Variables = dict[str, Any]
# Counts BatchNorm's updates in PyTorch; nothing here depends on it.
_COUNTER = "num_batches_tracked"
COLLECTIONS = ("params", "batch_stats")
_ADVICE = "adapt=True keeps the head of these variables, and adapts the first convolution"
_LOG = logging.getLogger("cvjax.weights")


def from_torch(
    name: str,
    state_dict: StateDict,
    variables: Variables | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    aux: bool | None = None,
    key: jax.Array | None = None,
    adapt: bool = False,
    layout: str | None = None,
) -> Variables:
    """Turns the weights that torchvision, timm, Caffe or another publisher has for a model into Flax variables.

    For another number of classes the heads keep fresh weights. For another number of image channels the first
    convolution is adapted as timm does it (see `cvjax.weights.adapt`). The log (`cvjax.weights`) reports both.

    Args:
      name: Name of the model, one of `cvjax.list_models()`.
      state_dict: Arrays under the publisher's keys: OIHW for convolutions, [out, in] for linear layers.
      variables: Result of `model.init`, to be filled; other collections are kept. None builds the variables with the
        model's default options, those that the layout needs (see `cvjax.weights.recognize`) and the next three
        arguments. Given variables exclude these three.
      num_classes: Number of classes of the model; None takes the state dict's. 0 leaves out the heads.
      in_channels: Number of image channels; None takes the state dict's.
      aux: Whether the model has its auxiliary classifiers; None means that it has them if the state dict does.
      key: Random key that draws the weights of replaced heads.
      adapt: Whether given variables may differ from the state dict in classes, image channels and auxiliary
        classifiers. Leaves without weights in the state dict then stay as they are.
      layout: Name of the layout that the state dict is in; None finds it by the keys.

    Returns:
      {"params": ..., "batch_stats": ...}, float32, for any output stride and dtype of the model; without "batch_stats"
      where it has no BatchNorm.

    Raises:
      ConfigError: No conversion is known for the model, or a head is replaced without `key`.
      CheckpointError: Entries are unknown, missing or mis-shaped; all are listed in one message.
    """
    architecture, state_dict = recognize(name, state_dict, layout)
    options = {"num_classes": num_classes, "in_channels": in_channels, "aux": aux}
    asked = any(value is not None for value in options.values())
    if variables is not None and asked:
        raise ConfigError(f"{', '.join(options)} describe a model to build, and the given variables are one's already")
    init = None
    if variables is None:
        init = _drawn(name, _options(name, architecture, state_dict, num_classes, in_channels, aux))
        # Shapes are enough: the state dict has the values, and only the leaves that it lacks are drawn below.
        variables = jax.eval_shape(init, jax.random.key(0))
    assert variables is not None
    if not (adapt or asked):
        return fill(name, variables, architecture, state_dict, advice=_ADVICE)
    leaves = {torch: (path, leaf) for path, torch, leaf in _leaves(variables, architecture) if torch is not None}
    shapes = leaf_shapes(variables, architecture)
    adapted = adapt_state_dict(architecture, state_dict, shapes)
    filled = fill(name, variables, architecture, adapted.state_dict, lacking=adapted.lacking)
    lacking = dict(leaves[torch] for torch in adapted.lacking)
    if init is not None and lacking:
        drawn = _draw(name, init, key, list(lacking))
        filled = traverse_util.unflatten_dict(traverse_util.flatten_dict(filled) | drawn)
    elif any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in lacking.values()):
        raise ConfigError(f"adapt=True keeps the head of {name}'s variables, and these are shapes; pass arrays")
    for note in adapted.notes:
        _LOG.warning("%s: %s", name, note)
    return filled


def to_torch(name: str, variables: Variables, *, layout: str | None = None) -> dict[str, np.ndarray]:
    """Turns Flax variables into a PyTorch state dict, which undoes `from_torch` bit for bit.

    Args:
      name: Name of the model.
      variables: Variables {"params": ..., "batch_stats": ...}; other collections are left out.
      layout: Name of the layout where a model has several, such as "torchvision", "timm" or "caffe"; None takes the
        first that there is.

    Returns:
      Arrays under the keys of the PyTorch model, so that `load_state_dict(strict=True)` takes them. BatchNorm's
      `num_batches_tracked`, which has no counterpart here, is 0.

    Raises:
      ConfigError: No conversion is known for the model, or it lacks the layout.
      CheckpointError: Parameters do not exist in the PyTorch model; all are listed.
    """
    architecture = with_layout(name, layout) if layout else architectures(name)[0]
    state_dict, nameless = {}, []
    for path, key, leaf in _leaves(variables, architecture):
        if key is None:
            nameless.append("/".join(path[1:]))
            continue
        state_dict[key] = np.ascontiguousarray(architecture.to_torch(key, np.asarray(leaf)))
        if architecture.counts and key.endswith(".running_mean"):
            state_dict[f"{key.removesuffix('running_mean')}{_COUNTER}"] = np.zeros((), np.int64)
    if nameless:
        raise CheckpointError(
            f"nothing in the {architecture.layout} weights of {name} is called {', '.join(sorted(nameless))}"
        )
    return state_dict if architecture.fold is None else architecture.fold.unfold(state_dict)


def is_counter(key: str) -> bool:
    """Returns whether a key is of the count of batches that PyTorch keeps beside a BatchNorm."""
    return key.endswith(_COUNTER)


def recognize(
    name: str, state_dict: StateDict, layout: str | None = None
) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Returns the layout that a state dict is in, and its entries under today's keys, with what is folded.

    Args:
      name: Name of the model.
      state_dict: Arrays under the publisher's keys.
      layout: Name of the layout; None finds it by the keys.

    Raises:
      ConfigError: No conversion is known for the model, or it lacks the layout.
    """
    known = architectures(name) if layout is None else (with_layout(name, layout),)
    spelled = [(architecture, architecture.current(state_dict)) for architecture in known]
    best, current = max(spelled, key=lambda pair: pair[0].likeness(pair[1]))
    folded, notes = best.folded(current)
    for note in notes:
        _LOG.warning("%s: %s", name, note)
    return best, folded


def misfits(
    name: str, architecture: Architecture, state_dict: StateDict
) -> tuple[int, dict[str, list[str]], dict[str, Any]]:
    """Compares a state dict with the model that it would be of.

    Args:
      name: Name of the model.
      architecture: Layout of the state dict, which is under today's keys.
      state_dict: Arrays under the publisher's keys.

    Returns:
      The number of entries of the model, what does not fit (keys that are `missing`, `unknown` or `mis-shaped`), and
      the options of the model: `num_classes`, and where they differ from the defaults `in_channels`, `aux` and those
      that the layout needs.

    Raises:
      CheckpointError: The state dict lacks the head.
      ConfigError: No such model can be made.
    """
    options = _options(name, architecture, state_dict)
    variables = variable_shapes(name, options)
    _, faults = _compared(variables, architecture, state_dict)
    defaults = model_options(name)
    told = {key: value for key, value in options.items() if key == "num_classes" or defaults.get(key) != value}
    return len(list(_leaves(variables, architecture))), {kind: list(keys) for kind, keys in faults.items()}, told


def _options(
    name: str,
    architecture: Architecture,
    state_dict: StateDict,
    num_classes: int | None = None,
    in_channels: int | None = None,
    aux: bool | None = None,
) -> dict[str, Any]:
    """Returns the arguments of `create_model` for the state dict's model, changed as the arguments ask."""
    if num_classes is None:
        if architecture.classes_key not in state_dict:
            raise CheckpointError(
                f"the state dict for {name} lacks {architecture.classes_key}, so its classes are unknown; "
                "pass num_classes (0 leaves out the head)"
            )
        num_classes = int(state_dict[architecture.classes_key].shape[0]) - architecture.background
    if in_channels is None:
        first = state_dict.get(architecture.input_key)
        in_channels = int(first.shape[1]) if first is not None and first.ndim == 4 else 3
    options: dict[str, Any] = {"num_classes": num_classes}
    if architecture.aux_prefix is not None:
        options["aux"] = any(map(architecture.is_aux, state_dict)) if aux is None else aux
    elif aux:
        raise ConfigError(f"{name} has no auxiliary classifiers; leave out aux")
    if "in_channels" in model_options(name):
        options["in_channels"] = in_channels
    return options | dict(architecture.options)


def variable_shapes(name: str, options: dict[str, Any]) -> Variables:
    """Returns the shapes of the variables of a model that is made with these options."""
    return jax.eval_shape(_drawn(name, options), jax.random.key(0))


def _drawn(name: str, options: dict[str, Any]) -> Callable[[jax.Array], Variables]:
    """Returns a function from a random key to variables of a model."""
    model = create_model(name, **options)
    size = model_info(name).image_size
    shape = (2, size, size, options.get("in_channels", 3))
    return lambda key: cast(Variables, model.init(key, jnp.zeros(shape), **beside_images(model, shape)))


def _leaves(variables: Variables, architecture: Architecture) -> Iterator[tuple[tuple[str, ...], str | None, Any]]:
    """Yields (path, PyTorch's key or None, leaf) for the leaves of params and batch_stats."""
    held = {key: variables[key] for key in COLLECTIONS if key in variables}
    for path, leaf in traverse_util.flatten_dict(held).items():
        yield path, torch_key(path[1:], architecture.table), leaf


def leaf_shapes(variables: Variables, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the leaves of params and batch_stats, by the publisher's keys."""
    return {key: leaf.shape for _, key, leaf in _leaves(variables, architecture) if key is not None}


def fill(
    name: str,
    variables: Variables,
    architecture: Architecture,
    state_dict: Mapping[str, np.ndarray],
    *,
    lacking: frozenset[str] = frozenset(),
    advice: str = "",
) -> Variables:
    """Replaces every leaf of params and batch_stats by its entry in the state dict, except for those `lacking`.

    Raises:
      CheckpointError: Entries do not fit; the message lists them. It ends with `advice` if classes or image channels
        are the cause.
    """
    found, faults = _compared(variables, architecture, state_dict, lacking)
    if any(faults.values()):
        listing = "; ".join(f"{kind}: {', '.join(sorted(keys.values()))}" for kind, keys in faults.items() if keys)
        adaptable = {architecture.input_key, *(f"{head}.weight" for head in architecture.heads)}
        hint = f"; {advice}" if advice and adaptable & set(faults["mis-shaped"]) else ""
        raise CheckpointError(f"the state dict does not fit {name}; {listing}{hint}")
    arrays = {path: leaf if array is None else jnp.asarray(array, leaf.dtype) for path, (leaf, array) in found.items()}
    return {**variables, **traverse_util.unflatten_dict(arrays)}


def _compared(
    variables: Variables,
    architecture: Architecture,
    state_dict: Mapping[str, np.ndarray],
    lacking: frozenset[str] = frozenset(),
) -> tuple[dict[tuple[str, ...], tuple[Any, np.ndarray | None]], dict[str, dict[str, str]]]:
    """Returns leaves with their arrays in our layout, None for those `lacking`, and by kind what does not fit."""
    found, used = {}, set()
    faults: dict[str, dict[str, str]] = {"missing": {}, "unknown": {}, "mis-shaped": {}}
    for path, key, leaf in _leaves(variables, architecture):
        if key is None:
            ours = "/".join(path[1:])
            faults["missing"][ours] = f"(nothing in {architecture.layout}'s is called {ours})"
        elif key in lacking:
            found[path] = leaf, None
        elif key not in state_dict:
            faults["missing"][key] = key
        else:
            used.add(key)
            array = architecture.to_flax(key, state_dict[key])
            if array.shape == leaf.shape:
                found[path] = leaf, array
            else:
                there = tuple(state_dict[key].shape)
                faults["mis-shaped"][key] = f"{key} {there}, as ours {array.shape} for {leaf.shape}"
    unknown = (key for key in state_dict if key not in used and not is_counter(key))
    faults["unknown"] = {key: key for key in unknown}
    return found, faults


def _draw(
    name: str, init: Callable[[jax.Array], Variables], key: jax.Array | None, paths: list[tuple[str, ...]]
) -> dict[tuple[str, ...], jax.Array]:
    """Draws single leaves of a model's initial variables, without the others' cost."""
    if key is None:
        modules = sorted({"/".join(path[1:-1]) for path in paths})
        raise ConfigError(
            f"the state dict has no weights for {', '.join(modules)} of this {name}, so they are drawn anew; pass "
            "key=jax.random.key(0), or another"
        )

    def draw(key: jax.Array) -> list[jax.Array]:
        drawn: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(init(key))
        return [drawn[path] for path in paths]

    return dict(zip(paths, jax.jit(draw)(key)))
