"""Converts weights from PyTorch and back, from files and by name, with the preprocessing that they expect."""

from cvjax.weights.backbone import backbone_name, load_backbone
from cvjax.weights.convert import from_torch, to_torch
from cvjax.weights.files import read_state_dict, write_state_dict
from cvjax.weights.hub import Pretrained, load_pretrained, read_weights
from cvjax.weights.layouts.from_tensorflow import from_tensorflow, to_tensorflow
from cvjax.weights.opened import OpenedWeights, open_weights
from cvjax.weights.preprocess import preprocess
from cvjax.weights.published.files import PublishedFile, PublishedFiles
from cvjax.weights.published.table import list_pretrained
from cvjax.weights.readers.darknet import read_darknet, write_darknet
from cvjax.weights.readers.tensorflow import read_bundle
from cvjax.weights.recognize import Fit, find_model
from cvjax.weights.start import start_from
from cvjax.weights.warm_start import warm_start

__all__ = [
    "Fit",
    "OpenedWeights",
    "Pretrained",
    "PublishedFile",
    "PublishedFiles",
    "backbone_name",
    "find_model",
    "from_tensorflow",
    "from_torch",
    "list_pretrained",
    "load_backbone",
    "load_pretrained",
    "open_weights",
    "preprocess",
    "read_bundle",
    "read_darknet",
    "read_state_dict",
    "read_weights",
    "start_from",
    "to_tensorflow",
    "to_torch",
    "warm_start",
    "write_darknet",
    "write_state_dict",
]
