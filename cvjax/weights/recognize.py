"""Finds out whose weights a file holds, and which of our models, with what options, they fit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import list_models, model_info
from cvjax.weights.convert import misfits
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.known import architectures, layouts_of

_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Fit:
    """Describes the model that weights are of.

    Attributes:
      model: Name of the model.
      architecture: Layout of the weights.
      options: Arguments of `create_model` with which it computes what the publisher's net does.
      alike: Names of other layouts of the model that the weights fit as well; they differ in options.
    """

    model: str
    architecture: Architecture
    options: dict[str, Any]
    alike: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describes the fit in a sentence."""
        told = [f"{key}={value}" for key, value in self.options.items()]
        also = f"; {', '.join(self.alike)} would fit too, see --layout" if self.alike else ""
        return f"{self.model} ({', '.join(told)}), in the layout of {self.architecture.layout}{also}"


def find_model(state_dict: Mapping[str, np.ndarray], name: str | None = None, layout: str | None = None) -> Fit:
    """Finds the model that a state dict is of, by keys and shapes.

    Args:
      state_dict: Arrays under the publisher's keys.
      name: Name of the model, where it is known already.
      layout: Name of the layout, where it is known already.

    Raises:
      CheckpointError: No model fits; the message names the nearest, and what does not fit.
      ConfigError: No conversion is known for the named model, or it lacks the layout.
    """
    candidates = list(_candidates(state_dict, name, layout))
    if not candidates:
        shown = _shown(list(state_dict))
        raise CheckpointError(f"no model of ours has weights called {shown}; name the model with --as if it has")
    entries = sum(int(np.asarray(value).size) for value in state_dict.values())
    candidates.sort(key=lambda pair: abs(model_info(pair[0]).params - entries))
    nearest: tuple[int, str] | None = None
    for model, architecture in candidates:
        try:
            state, _ = architecture.folded(architecture.current(state_dict))
            count, faults, options = misfits(model, architecture, state)
        except (ConfigError, CheckpointError) as error:
            found = len(state_dict), f"{model} ({error})"
        else:
            number = sum(map(len, faults.values()))
            if not number:
                same = [a.layout for m, a in candidates if m == model and a.table == architecture.table]
                return Fit(model, architecture, options, tuple(x for x in same if x != architecture.layout))
            listed = "; ".join(f"{kind}: {_shown(sorted(keys))}" for kind, keys in faults.items() if keys)
            found = number, f"{model} in the layout of {architecture.layout} ({number} of {count} entries: {listed})"
        nearest = found if nearest is None or found[0] < nearest[0] else nearest
    assert nearest is not None
    raise CheckpointError(f"these weights fit no model of ours; the nearest is {nearest[1]}")


def _candidates(state_dict: Mapping[str, np.ndarray], name: str | None, layout: str | None) -> Any:
    for model in [name] if name else list_models():
        for architecture in architectures(model) if name else layouts_of(model):
            if layout not in (None, architecture.layout):
                continue
            current = architecture.current(state_dict) if architecture.renamed else state_dict
            if architecture.likeness(current) == 2 + (architecture.sign is not None):
                yield model, architecture


def _shown(keys: list[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown
