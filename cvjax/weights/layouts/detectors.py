"""Maps our parameters to the names of layers in published detectors: the authors' Caffe nets, and two PyTorch ports.

The Caffe nets are those of SPP_net, R-CNN, Fast R-CNN and py-faster-rcnn. The ports of Faster R-CNN are "chenyuntc"
(simple-faster-rcnn-pytorch) and "jwyang" (faster-rcnn.pytorch), both on VGG-16.
"""

from typing import Any

from cvjax.models.classification.alexnet import CAFFENET
from cvjax.models.classification.zfnet import RELEASED, SPP_NET
from cvjax.weights.layouts.architecture import Architecture, Fold, Table
from cvjax.weights.layouts.caffe import IMAGENET, bgr
from cvjax.weights.layouts.caffe_rows import VGG, VGG_DENSE, numbered, under
from cvjax.weights.layouts.folds_detectors import BoxRows, Chain, HalvedInputs, Objectness, Unfitted
from cvjax.weights.layouts.orders import BoxOrder, PyramidOrder

PIXELS = bgr((102.9801, 115.9465, 122.7717), resize=600)
SWAPPED_PIXELS = bgr((122.7717, 115.9465, 102.9801), resize=600)
"""Of chenyuntc's published files, whose mean of red is subtracted from blue and that of blue from red."""
_SPP_LEVELS = (6, 3, 2, 1)

_VGG = under("backbone", VGG)
_NUMBERED = numbered(5)
_FIVE = under("backbone", _NUMBERED)
_DENSE = under("backbone", VGG_DENSE)
_FAST = ((r"classifier", r"cls_score"), (r"regressor", r"bbox_pred"))
_PREDICTOR = ((r"predictor/classes", r"cls_score"), (r"predictor/deltas", r"bbox_pred"))
_STAGES = ((r"(svm|regressor)", r"\1"),)
_STAGES_KEYS = ("svm.weight", "regressor.weight")
_THIN = (
    *((rf"dense/{fc}_svd", f"{fc}_L") for fc in ("fc6", "fc7")),
    *((rf"dense/{fc}", f"{fc}_U") for fc in ("fc6", "fc7")),
)


def _caffe(
    rows: Table, *, layout: str = "caffe", first: str = "conv1", classes: str = "cls_score", **more: Any
) -> Architecture:
    fields = {"background": 1, "preprocessing": PIXELS} | more
    return Architecture(
        rows,
        classes_key=f"{classes}.weight",
        input_key=f"{first}.weight",
        layout=layout,
        counts=False,
        **fields,
    )


def _fast(body: Table, window: int, *, dense: Table = _DENSE, reads: str = "fc6", **more: Any) -> Architecture:
    options = {"inclusive_boxes": True} | more.pop("options", {})
    return _caffe(
        (*body, *dense, *_FAST),
        aux_classes_keys=("bbox_pred.weight",),
        flattened={f"{reads}.weight": (window, window)},
        fold=BoxRows("bbox_pred", background=False),
        options=options,
        **more,
    )


def _faster(body: Table, window: int, rpn: str, *, folds: tuple[Fold, ...] = (), **more: Any) -> Architecture:
    names = ((r"rpn/conv", rpn), (r"rpn/objectness", r"rpn_cls_score"), (r"rpn/deltas", r"rpn_bbox_pred"))
    options = {"inclusive_boxes": True} | more.pop("options", {})
    return _caffe(
        (*body, *_DENSE, *names, *_PREDICTOR),
        aux_classes_keys=("bbox_pred.weight",),
        flattened={"fc6.weight": (window, window)},
        fold=Chain((Objectness("rpn_cls_score"), BoxRows("bbox_pred"), *folds)),
        options=options,
        **more,
    )


def _zf(layout: str, rpn: str, sign: str) -> Architecture:
    folds = (HalvedInputs(("fc7", "cls_score", "bbox_pred")),)
    return _faster(_FIVE, 6, rpn, folds=folds, layout=layout, sign=sign, options={"backbone": RELEASED})


def _port(layout: str, body: str, names: dict[str, str], **more: Any) -> Architecture:
    """Describes a PyTorch port on VGG-16, whose convolutions torchvision's features number."""
    rows, place = [], 0
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, count + 1):
            rows.append((rf"backbone/conv{stage}_{number}", f"{body}.{place}"))
            place += 2
        place += 1
    return Architecture(
        (*rows, *names.items()),
        classes_key=f"{names['predictor/classes']}.weight",
        aux_classes_keys=(f"{names['predictor/deltas']}.weight",),
        input_key=f"{body}.0.weight",
        flattened={f"{names['backbone/head/fc6']}.weight": (7, 7)},
        background=1,
        layout=layout,
        **more,
    )


_SPP_ORDER = PyramidOrder("fc6.weight", (1, 2, 3, 6), _SPP_LEVELS)
DETECTORS: dict[str, tuple[Architecture, ...]] = {
    "zfnet_spp": (
        _caffe(
            (*_NUMBERED, (r"head/(fc\d)", r"\1"), (r"head/head", r"fc8")),
            classes="fc8",
            reorder=_SPP_ORDER,
            options=SPP_NET | {"pyramid_windows": ((3, 2), (5, 4), (7, 7), (13, 13))},
            background=0,
            preprocessing=IMAGENET,
        ),
    ),
    "sppnet_zf5": (
        _caffe(
            (*_FIVE, *_DENSE, (r"classifier", r"fc8"), *_STAGES),
            classes="fc8",
            aux_classes_keys=_STAGES_KEYS,
            reorder=_SPP_ORDER,
            fold=Unfitted("fc8"),
            options={"backbone": SPP_NET, "map_start": 20.0},
            preprocessing=bgr((104.0, 117.0, 123.0)),
        ),
    ),
    "rcnn_alexnet": (
        _caffe(
            (*_FIVE, *_DENSE, (r"classifier", r"fc8_pascal"), *_STAGES),
            classes="fc8_pascal",
            aux_classes_keys=_STAGES_KEYS,
            flattened={"fc6.weight": (6, 6)},
            fold=Unfitted("fc8_pascal"),
            options={"backbone": CAFFENET | {"stem_padding": 0}},
            preprocessing=bgr((104.0, 117.0, 123.0)),
        ),
    ),
    "fast_rcnn_vgg16": (
        _fast(_VGG, 7, first="conv1_1"),
        _fast(
            _VGG,
            7,
            dense=_THIN,
            reads="fc6_L",
            first="conv1_1",
            layout="caffe_svd",
            sign="fc6_L.weight",
            options={"svd_ranks": (1024, 256)},
        ),
    ),
    "fast_rcnn_alexnet": (_fast(_FIVE, 6, options={"backbone": CAFFENET | {"ceil_mode": True}}),),
    "fast_rcnn_vgg_cnn_m": (_fast(_FIVE, 6),),
    "faster_rcnn_zf": (
        _zf("caffe", r"rpn_conv/3x3", "rpn_conv/3x3.weight"),
        _zf("caffe_alt_opt", r"rpn_conv1", "rpn_conv1.weight"),
    ),
    "faster_rcnn_vgg16": (
        _faster(_VGG, 7, r"rpn_conv/3x3", first="conv1_1"),
        _faster(
            _VGG,
            7,
            r"rpn_conv/3x3",
            first="conv1_1",
            layout="caffe_coco",
            sign="rpn_cls_score.weight",
            sign_shape=(24, 512, 1, 1),
            options={"anchor_sizes": (64.0, 128.0, 256.0, 512.0)},
        ),
        _port(
            "chenyuntc",
            "extractor",
            {
                r"backbone/head/fc6": "head.classifier.0",
                r"backbone/head/fc7": "head.classifier.2",
                r"rpn/conv": "rpn.conv1",
                r"rpn/objectness": "rpn.score",
                r"rpn/deltas": "rpn.loc",
                r"predictor/classes": "head.score",
                r"predictor/deltas": "head.cls_loc",
            },
            # With dropout between the dense layers the second one is the fourth module.
            renamed=((r"head\.classifier\.3\.", "head.classifier.2."),),
            reorder=BoxOrder(("rpn.loc", "head.cls_loc")),
            fold=Objectness("rpn.score", side_by_side=True),
            options={"round_anchors": False, "floor_pools": True},
            preprocessing=SWAPPED_PIXELS,
        ),
        _port(
            "jwyang",
            "RCNN_base",
            {
                r"backbone/head/fc6": "RCNN_top.0",
                r"backbone/head/fc7": "RCNN_top.3",
                r"rpn/conv": "RCNN_rpn.RPN_Conv",
                r"rpn/objectness": "RCNN_rpn.RPN_cls_score",
                r"rpn/deltas": "RCNN_rpn.RPN_bbox_pred",
                r"predictor/classes": "RCNN_cls_score",
                r"predictor/deltas": "RCNN_bbox_pred",
            },
            fold=Objectness("RCNN_rpn.RPN_cls_score"),
            options={
                "inclusive_boxes": True,
                "floor_pools": True,
                "rpn_min_size": 0.0,
                "region_reader": "corner_align",
            },
            preprocessing=PIXELS,
        ),
    ),
}
"""Layouts of published detectors by patterns of our models' names."""
