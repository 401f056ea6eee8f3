"""Layers that the architectures share; with `cvjax.ops`, the only room that knows that platforms differ."""

from cvjax.nn.conv import Conv, ConvBNReLU, SeparableConv
from cvjax.nn.deform import DeformConv
from cvjax.nn.dropout import Dropout
from cvjax.nn.initializers import gaussian, he_normal, xavier_uniform
from cvjax.nn.norm import BatchNorm
from cvjax.ops.conv import max_pool

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvBNReLU",
    "DeformConv",
    "Dropout",
    "SeparableConv",
    "gaussian",
    "he_normal",
    "max_pool",
    "xavier_uniform",
]
