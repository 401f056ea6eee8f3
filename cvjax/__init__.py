"""cvjax: classic convolutional vision in JAX.

cvjax.create_model(NAME, ...), list_models, model_info, model_options    architectures
cvjax.load(PATH), load_pretrained(NAME)                                  trained models, with their preprocessing
cvjax.train(CONFIG), evaluate(PATH), predict(MODEL, IMAGE)               what the commands do
cvjax.nn, ops, models, weights, tasks, datasets                          the rooms, see docs/architecture.md
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvjax import datasets, models, nn, ops, tasks, weights
    from cvjax.api import PretrainedModel, evaluate, load, load_pretrained, predict, train
    from cvjax.models import create_model, list_models, model_info, model_options

    __version__: str

_FROM = {
    "cvjax.models": ("create_model", "list_models", "model_info", "model_options"),
    "cvjax.api": ("PretrainedModel", "evaluate", "load", "load_pretrained", "predict", "train"),
}
_HOME = {name: module for module, names in _FROM.items() for name in names}
_ROOMS = ("datasets", "models", "nn", "ops", "tasks", "weights")

__all__ = [
    "PretrainedModel",
    "__version__",
    "create_model",
    "datasets",
    "evaluate",
    "list_models",
    "load",
    "load_pretrained",
    "model_info",
    "model_options",
    "models",
    "nn",
    "ops",
    "predict",
    "tasks",
    "train",
    "weights",
]


def __getattr__(name: str) -> Any:
    # Late, so that `import cvjax` (and with it every worker process of the data loader) does not import JAX.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"cvjax.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("cvjax")
    raise AttributeError(f"module 'cvjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
