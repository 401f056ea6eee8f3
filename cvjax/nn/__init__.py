"""Holds the layers that the architectures share; with `cvjax.ops`, the only room that knows that platforms differ.

`Conv`, `ConvTranspose`, `BatchNorm`, `max_pool` and `avg_pool` take the place of their namesakes in `flax.linen`: they
have the same arguments, parameters, defaults and results.
"""

from cvjax.nn.axis import DATA_AXIS, data_axis, data_devices
from cvjax.nn.conv import Conv, ConvBNReLU, ResizeConv, SeparableConv, TorchConv
from cvjax.nn.conv_transpose import ConvTranspose
from cvjax.nn.deform import DeformConv
from cvjax.nn.dense_crf import DenseCRF
from cvjax.nn.dropout import Dropout, DropPath, row_keys
from cvjax.nn.folded import folded_conv_norm, norm_and_pool, relu_by_output
from cvjax.nn.initializers import (
    bilinear,
    gaussian,
    he_normal,
    he_uniform,
    lecun_normal,
    xavier_normal,
    xavier_uniform,
    zero_gamma,
)
from cvjax.nn.norm import BatchNorm, BatchNormOptions, LocalResponseNorm
from cvjax.nn.spatial_pyramid_pool import SpatialPyramidPool
from cvjax.nn.squeeze_excite import SqueezeExcite
from cvjax.nn.upsample import Upsample, Upsampling
from cvjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from cvjax.ops.padding import mirror_pad
from cvjax.ops.pool import avg_pool, global_avg_pool, global_max_pool, max_pool
from cvjax.ops.resize import resize

__all__ = [
    "DATA_AXIS",
    "BatchNorm",
    "BatchNormOptions",
    "Conv",
    "ConvBNReLU",
    "ConvTranspose",
    "DeformConv",
    "DenseCRF",
    "DropPath",
    "Dropout",
    "LocalResponseNorm",
    "ResizeConv",
    "SeparableConv",
    "SpatialPyramidPool",
    "SqueezeExcite",
    "TorchConv",
    "Upsample",
    "Upsampling",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "bilinear",
    "data_axis",
    "data_devices",
    "folded_conv_norm",
    "gaussian",
    "global_avg_pool",
    "global_max_pool",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "max_pool",
    "mirror_pad",
    "norm_and_pool",
    "relu_by_output",
    "resize",
    "row_keys",
    "xavier_normal",
    "xavier_uniform",
    "zero_gamma",
]
