"""Starts a net from somebody's weights: of the same net, or of a classifier for its backbone."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cvjax.errors import ConfigError
from cvjax.models import list_models, model_options
from cvjax.models.config import ModelConfig
from cvjax.models.info import Preprocessing
from cvjax.weights.backbone import backbone_name, load_backbone
from cvjax.weights.convert import (
    StateDict,
    Variables,
    fill,
    from_torch,
    is_counter,
    leaf_shapes,
    recognize,
)
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.known import architectures, layouts_of
from cvjax.weights.own import from_own, is_own
from cvjax.weights.warm_start import warm_start

_LOG = logging.getLogger("cvjax.weights")


def start_from(model: ModelConfig, variables: Variables, weights: StateDict, wanted: Preprocessing) -> Variables:
    """Fills fresh variables with the weights that somebody published.

    Weights of the same net fill it but for heads of other classes, which stay fresh. A classifier's fill the backbone,
    and what else of it the net has: FCN's dense layers, or the one branch of a reduced VGG all of DeepLab's.
    A first convolution that reads blue first, or other values than the run's, is changed to read the run's images. The
    log (`cvjax.weights`) tells what is left out, and what stays fresh.

    Args:
      model: Architecture of the run, and its options.
      variables: Result of `model.init`.
      weights: Arrays under the publisher's keys, or under our own.
      wanted: Mean and deviation of the run's images.

    Raises:
      CheckpointError: The weights are of another net.
      ConfigError: The net lacks options that these weights need.
    """
    if is_own(weights):
        return warm_start(variables, from_own(weights))
    architecture = _of_the_same_net(model.name, variables, weights)
    classifier = model.name in list_models("classification")
    if architecture is None and not classifier:
        _check_structure(model, variables, weights)
        name = backbone_name(model.name)
        architecture, state = recognize(name, weights)
        given, default = model.options.get("backbone") or {}, model_options(model.name)["backbone"]
        _check_options(_structure(name, architecture), given, vars(default), "model.backbone.")
        return load_backbone(variables, _reading(architecture, state, wanted), name, architecture.layout)
    if architecture is None or classifier:
        architecture, state = recognize(model.name, weights, architecture.layout if architecture else None)
        _check_options(_structure(model.name, architecture), model.options, model_options(model.name), "model.")
        state = _reading(architecture, state, wanted)
        return from_torch(model.name, state, variables, adapt=True, layout=architecture.layout)
    shapes = leaf_shapes(variables, architecture)
    given, heads = _heads_apart(architecture, architecture.current(weights), shapes)
    whole = f"{architecture.heads[0]}.weight" in given
    # What the heads do with the maps is nothing to those who start with new ones.
    _check_options(architecture, model.options, model_options(model.name), "model.", backbone_alone=not whole)
    state, notes = architecture.folded(given)
    for note in notes:
        _LOG.warning("%s: %s", model.name, note)
    state = _reading(architecture, state, wanted)
    fresh = {key for key, shape in shapes.items() if key not in state or _differs(architecture, key, state, shape)}
    unused = {key for key in state if (key not in shapes or key in fresh) and not is_counter(key)}
    dropped = sorted(unused | heads)
    if fresh:
        _LOG.warning("%s: these layers start anew: %s", model.name, ", ".join(_modules(fresh)))
    if dropped:
        _LOG.warning("%s: these weights are left out: %s", model.name, ", ".join(_modules(dropped)))
    kept = {key: value for key, value in state.items() if key in shapes and key not in fresh}
    return fill(model.name, variables, architecture, kept, lacking=frozenset(fresh))


def _of_the_same_net(name: str, variables: Variables, weights: StateDict) -> Architecture | None:
    """Returns the layout in which all but the heads of a net are among the weights; None where there is none."""
    best = None
    for architecture in layouts_of(name):
        state, _ = architecture.folded(architecture.current(weights))
        shapes = leaf_shapes(variables, architecture)
        trunk = _trunk(architecture, shapes)
        fits = all(key in state and not _differs(architecture, key, state, shapes[key]) for key in trunk)
        signed = architecture.sign is None or architecture.sign in weights
        if trunk and fits and signed and (best is None or architecture.sign is not None):
            best = architecture
    return best


def _heads_apart(
    architecture: Architecture, weights: StateDict, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], set[str]]:
    """Returns weights without the heads where these are of other classes, and the keys of what was left out.

    What is folded into a head, as the deviations of boxes, is then nobody's business.
    """
    state, _ = architecture.folded(weights)
    key = f"{architecture.heads[0]}.weight"
    if key in state and key in shapes and not _differs(architecture, key, state, shapes[key]):
        return dict(weights), set()
    heads = {key for key in weights if key.startswith(tuple(f"{head}." for head in architecture.heads))}
    return {key: value for key, value in weights.items() if key not in heads}, heads


def _check_structure(model: ModelConfig, variables: Variables, weights: StateDict) -> None:
    """Raises ConfigError where a net has the layers of these weights, and other sizes for want of options."""
    for architecture in layouts_of(model.name):
        current = architecture.current(weights)
        trunk = _trunk(architecture, leaf_shapes(variables, architecture))
        if trunk and all(key in current for key in trunk):
            _check_options(architecture, model.options, model_options(model.name), "model.", backbone_alone=True)


def _trunk(architecture: Architecture, keys: Iterable[str]) -> list[str]:
    """Returns the keys of a net without its heads and auxiliary classifiers."""
    heads = tuple(f"{head}." for head in architecture.heads)
    return [key for key in keys if not (key.startswith(heads) or architecture.is_aux(key))]


def _differs(architecture: Architecture, key: str, state: StateDict, shape: tuple[int, ...]) -> bool:
    return architecture.to_flax(key, np.asarray(state[key])).shape != shape


def _modules(keys: Any) -> list[str]:
    return sorted({key.rpartition(".")[0] for key in keys})


def _structure(name: str, architecture: Architecture) -> Architecture:
    """Returns a classifier's layout that needs the classifier's own defaults where another layout needs other options.

    Weights of torchvision's, for one, do not fit a net that steps where MSRA's does, although keys and shapes do.
    """
    defaults = model_options(name)
    others = {option: defaults[option] for known in architectures(name) for option in known.options}
    return dataclasses.replace(architecture, options=others | dict(architecture.options))


def _check_options(
    architecture: Architecture,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    prefix: str,
    *,
    backbone_alone: bool = False,
) -> None:
    """Raises ConfigError where a net lacks an option, or one of its backbone, that weights of this layout need."""
    unmet = architecture.unmet(given, defaults).items()
    needed = [(option, value) for option, value in unmet if not backbone_alone or option.startswith("backbone.")]
    lacking = [_flag(f"{prefix}{option}", value) for option, value in needed]
    if lacking:
        raise ConfigError(f"weights in the layout of {architecture.layout} need {' '.join(lacking)}; add it")


def _flag(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    if value is False:
        prefix, _, field = flag.rpartition(".")
        return f"{prefix}.no-{field}"
    return " ".join([flag, *map(str, value if isinstance(value, tuple) else (value,))])


def _reading(architecture: Architecture, state: StateDict, wanted: Preprocessing) -> dict[str, np.ndarray]:
    """Returns weights whose first convolution reads images as a run normalizes them: red first, its mean and scale.

    With y the values that the weights expect and z those of the run, y = a z + b in each channel. The factor goes into
    the kernel, and the sum of the kernel's part of b into the bias. Pixels of zeros around the image are not the same.
    """
    given, state = architecture.preprocessing, dict(state)
    kernel = state.get(architecture.input_key)
    if given is None or kernel is None or kernel.shape[1] != 3:
        return state
    ours, theirs = (np.asarray([p.mean, p.std], np.float64) for p in (wanted, given))
    factor, shift = ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1]
    if not given.bgr and np.allclose(factor, 1) and np.allclose(shift, 0):
        return state
    red_first = kernel[:, ::-1] if given.bgr else kernel
    state[architecture.input_key] = (red_first * factor[:, None, None]).astype(kernel.dtype)
    bias = f"{architecture.input_key.removesuffix('weight')}bias"
    said = "red first, in the run's scale"
    if bias in state:
        state[bias] = (state[bias] + (red_first * shift[:, None, None]).sum((1, 2, 3))).astype(state[bias].dtype)
    elif np.abs(shift * theirs[1] * 255).max() > 0.05:
        said += f"; its mean differs by up to {np.abs(shift * theirs[1] * 255).max():.1f} of 255"
    _LOG.warning("the first convolution, %s, is changed to read the run's images: %s", architecture.input_key, said)
    return state
