"""Faster R-CNN on the feature pyramid of a ResNet (Lin et al., 1612.03144), as torchvision has it.

Every level has anchors of one size. A region is read from the level that suits its size. Two dense layers, which do not
start from ImageNet's weights, classify it. torchvision's ResNet is frozen in its stem and first stage, and in all its
BatchNorms: `norm={"frozen": True}`, and `OptimizerConfig.frozen` for their scale and bias.
"""

from cvjax.models.blocks.dense_head import DenseHead
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.detection.faster_rcnn import FasterRCNN
from cvjax.models.detection.fpn import FeaturePyramid
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.nn import he_uniform

_TORCHVISION = {
    "fpn": FeaturePyramid(256, 4),
    "box_head": DenseHead(0, window=7, hidden=1024, dropout=0.0, kernel_init=he_uniform()),
    "rpn_channels": 256,
    "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
    "rpn_pre_nms_top_n": (2000, 1000),
    "rpn_post_nms_top_n": (2000, 1000),
    "rpn_min_size": 1e-3,
    "rpn_border": None,
    "rois_per_image": 512,
    "box_beta": 1 / 9,
    "nms_threshold": 0.5,
}


def _variant(depth: int, params: int) -> Variant:
    info = ModelInfo(
        name=f"fasterrcnn_resnet{depth}_fpn",
        task="detection",
        paper="1612.03144",
        year=2016,
        image_size=800,
        params=params,
        gmacs=None,
        params_classes=90,
        preprocessing=Preprocessing(None, 800),
    )
    return Variant(info, FasterRCNN, {"backbone": ResNet(0, **SHAPES[depth]), **_TORCHVISION})


VARIANTS = (
    _variant(18, 28_739_606),
    _variant(34, 38_847_766),
    _variant(50, 41_808_406),
    _variant(101, 60_800_534),
)
