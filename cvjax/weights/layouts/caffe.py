"""Maps our parameters to the names of layers in the authors' Caffe nets.

A blob of a layer is NAME.weight or NAME.bias, and BatchNorm's are NAME.running_mean and NAME.running_var, see
`cvjax.weights.readers.caffe`. Caffe has BatchNorm in two layers: a row "bn|scale" names both. All nets see an image in
the order blue, green, red, with values from 0 to 255 less a mean.
"""

from typing import Any

from cvjax.models.info import Preprocessing
from cvjax.weights.layouts.architecture import Architecture, Table
from cvjax.weights.layouts.caffe_rows import (
    GOOGLENET,
    VGG,
    VGG_DENSE,
    densenet,
    msra,
    nin,
    numbered,
    senet,
    under,
)
from cvjax.weights.layouts.folds import Factors, StemBias


def bgr(
    mean: tuple[float, float, float], *, size: int | None = None, resize: int | None = None, scale: float = 1.0
) -> Preprocessing:
    """Returns the preprocessing of a net that reads blue, green, red from 0 to 255, less a mean, times a scale.

    Args:
      mean: Mean of blue, green and red, from 0 to 255.
      size, resize: Sides of the crop and of the resized image, in pixels.
      scale: Factor on what is left.
    """
    blue, green, red = (value / 255 for value in mean)
    std = 1 / (255 * scale)
    return Preprocessing(size, resize, mean=(red, green, blue), std=(std, std, std), bgr=True)


IMAGENET = bgr((104.0, 117.0, 123.0), size=224, resize=256)
"""Of nets that subtract a mean a channel: that of ImageNet's mean image."""
VGG_MEAN = bgr((103.939, 116.779, 123.68), size=224, resize=256)
DEEPLAB = bgr((104.008, 116.669, 122.675))
FCN = bgr((104.00699, 116.66877, 122.67892))

# The stride sits in the first convolution of a block, and the first pooling is not padded.
MSRA = {"stride_in_1x1": True, "stem_pool": "ceil"}


def _caffe(table: Table, classes: str, first: str, layout: str = "caffe", **more: Any) -> Architecture:
    return Architecture(
        table,
        classes_key=f"{classes}.weight",
        input_key=f"{first}.weight",
        layout=layout,
        counts=False,
        **more,
    )


_SIZES = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_STEM = ("conv1/7x7_s2",)
_DEEP_STEM = ("conv1_1/3x3_s2", "conv1_2/3x3", "conv1_3/3x3")
_CAFFE_LRN = {"lrn": (5, 1e-4 / 5, 0.75, 1.0)}


def _vgg() -> Architecture:
    table = (*VGG, *VGG_DENSE, (r"head/head", "fc8"))
    return _caffe(table, "fc8", "conv1_1", flattened={"fc6.weight": (7, 7)}, preprocessing=VGG_MEAN)


def _alexnet(layout: str, classes: str, **options: Any) -> Architecture:
    table = (*numbered(5), (r"head/(fc\d)", r"\1"), (r"head/head", classes))
    options = _CAFFE_LRN | options
    return _caffe(
        table,
        classes,
        "conv1",
        layout,
        flattened={"fc6.weight": (6, 6)},
        options=options,
        preprocessing=bgr((104.0, 117.0, 123.0), size=227, resize=256),
    )


def _fcn(ups: dict[str, str], **more: Any) -> Architecture:
    table = (
        *under("backbone", (*VGG, *VGG_DENSE)),
        (r"score", "score_fr"),
        (r"(score_pool\d)", r"\1"),
        *((rf"{ours}/conv", theirs) for ours, theirs in ups.items()),
    )
    return _caffe(
        table,
        "score_fr",
        "conv1_1",
        aux_classes_keys=tuple(f"{layer}.weight" for layer in ("score_pool4", "score_pool3", *ups.values())),
        windows={"fc6.weight": (7, 7), "fc7.weight": (1, 1)},
        turned=tuple(f"{theirs}.weight" for theirs in ups.values()),
        preprocessing=FCN,
        **more,
    )


def _deeplab_vgg(branches: tuple[str, ...]) -> Architecture:
    table = under("backbone", VGG)
    for place, suffix in enumerate(branches):
        table += tuple((rf"backbone/branch_{place}/{fc}", f"{fc}{suffix}") for fc in ("fc6", "fc7"))
        table += ((rf"classifier_{place}", f"fc8_voc12{suffix}"),)
    return _caffe(
        table,
        f"fc8_voc12{branches[0]}",
        "conv1_1",
        aux_classes_keys=tuple(f"fc8_voc12{suffix}.weight" for suffix in branches[1:]),
        preprocessing=DEEPLAB,
    )


_FCN8 = {"up_pool4": "upscore2", "up_pool3": "upscore_pool4", "up_image8": "upscore8"}
CAFFE: dict[str, tuple[Architecture, ...]] = {
    "vgg16": (_vgg(),),
    "vgg19": (_vgg(),),
    "nin": (_caffe(nin(("conv4-1024", "cccp7-1024", "cccp8-1024")), "cccp8-1024", "conv1", preprocessing=IMAGENET),),
    "nin_cifar": (_caffe(nin(("conv3", "cccp5", "cccp6")), "cccp6", "conv1"),),
    "googlenet_original": (
        _caffe(
            GOOGLENET,
            "loss3/classifier",
            "conv1/7x7_s2",
            aux_prefix=("loss1/", "loss2/"),
            aux_classes_keys=("loss1/classifier.weight", "loss2/classifier.weight"),
            flattened={"loss?/fc.weight": (4, 4)},
            preprocessing=IMAGENET,
        ),
    ),
    "alexnet_grouped": (
        _alexnet("caffe", "fc8"),
        _alexnet("caffe_caffenet", "fc8", pool_first=True),
        _alexnet("caffe_rcnn_ilsvrc13", "fc-rcnn", pool_first=True),
        _alexnet("caffe_rcnn_pascal", "fc8_pascal", pool_first=True),
    ),
    "densenet[12][0269][19]": (
        _caffe(
            densenet(),
            "fc6",
            "conv1",
            windows={"fc6.weight": (1, 1)},
            preprocessing=bgr((103.94, 116.78, 123.68), size=224, resize=256, scale=0.017),
        ),
    ),
    **{
        f"resnet{depth}": (
            _caffe(
                (*msra(sizes), (r"head", "fc1000")),
                "fc1000",
                "conv1",
                options=MSRA,
                fold=StemBias("conv1", "bn_conv1"),
                preprocessing=IMAGENET,
            ),
        )
        for depth, sizes in _SIZES.items()
    },
    **{
        f"seresnet{depth}": (_caffe(senet(sizes, _STEM), "classifier", _STEM[0], options=MSRA, preprocessing=IMAGENET),)
        for depth, sizes in _SIZES.items()
    },
    **{
        f"seresnext{depth}_32x4d": (
            _caffe(
                senet(_SIZES[depth], _STEM),
                "classifier",
                _STEM[0],
                options={"stem_pool": "ceil"},
                preprocessing=IMAGENET,
            ),
        )
        for depth in ("50", "101")
    },
    "legacy_senet154": (_caffe(senet(_SIZES["152"], _DEEP_STEM), "classifier", _DEEP_STEM[0], preprocessing=IMAGENET),),
    "fcn32s_vgg16": (_fcn({"up_image32": "upscore"}),),
    "fcn16s_vgg16": (_fcn({"up_pool4": "upscore2", "up_image16": "upscore16"}),),
    "fcn8s_vgg16": (
        _fcn(_FCN8),
        _fcn(
            _FCN8,
            layout="caffe_at_once",
            sign="scale_pool4.weight",
            options={"skip_scales": (0.01, 0.0001)},
            fold=Factors({"scale_pool4": (0.01, 512), "scale_pool3": (0.0001, 256)}),
        ),
    ),
    "deeplabv1_largefov_vgg16": (_deeplab_vgg(("",)),),
    "deeplabv2_vgg16": (_deeplab_vgg(("_1", "_2", "_3", "_4")),),
    "deeplabv2_resnet101": (
        _caffe(
            (
                *under("backbone", msra(_SIZES["101"])),
                *((rf"classifier_{place}", f"fc1_voc12_c{place}") for place in range(4)),
            ),
            "fc1_voc12_c0",
            "conv1",
            aux_classes_keys=tuple(f"fc1_voc12_c{place}.weight" for place in (1, 2, 3)),
            options={
                "backbone": {**MSRA, "stem_pool": "ceil_padded", "dilate_first": True},
                "fuse_first": True,
            },
            preprocessing=DEEPLAB,
        ),
    ),
}
"""Layouts of the authors' nets by patterns of our models' names."""
