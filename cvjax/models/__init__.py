"""The architectures are Flax modules, each in a file of its own; a registry builds them by name."""

from cvjax.models.info import ModelInfo, Preprocessing
from cvjax.models.registry import create_model, list_models, model_info, model_options

__all__ = ["ModelInfo", "Preprocessing", "create_model", "list_models", "model_info", "model_options"]
