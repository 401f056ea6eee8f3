"""cvjax: classic convolutional vision in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvjax.models import create_model, list_models, model_info, model_options

__all__ = ["create_model", "list_models", "model_info", "model_options"]


def __getattr__(name: str) -> Any:
    # Late, so that `import cvjax` (and with it every worker process of the data loader) does not import JAX.
    if name in __all__:
        from cvjax import models

        return getattr(models, name)
    raise AttributeError(f"module 'cvjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
