"""Weights from PyTorch."""

from cvjax.weights.convert import from_torch, load_backbone
from cvjax.weights.files import read_state_dict

__all__ = ["from_torch", "load_backbone", "read_state_dict"]
