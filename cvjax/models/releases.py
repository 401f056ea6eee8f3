"""Says which release of each model the default options follow, and what is published of that."""

import fnmatch

from cvjax.models.info import Figure

TIMM_RESULTS = "timm's results-imagenet.csv"

# The first pattern of a model's name that matches counts. A layout of `cvjax.weights` has this name; "paper" follows
# the paper's text where no release has just these options; "own" is a net of ours that no paper scored.
_RELEASES = (
    ("resnet*_cifar", "akamaster"),
    ("resnetv2_*", "timm"),
    ("resnet*", "torchvision"),
    ("resnext*", "torchvision"),
    ("wide_resnet*", "torchvision"),
    ("alexnet", "torchvision"),
    ("vgg*", "torchvision"),
    ("googlenet", "torchvision"),
    ("densenet*", "torchvision"),
    ("efficientnet*", "torchvision"),
    ("fcn_resnet*", "torchvision"),
    ("deeplabv3_resnet*", "torchvision"),
    ("fasterrcnn_resnet*_fpn", "torchvision"),
    ("seres*", "timm"),
    ("legacy_senet154", "timm"),
    ("xception*", "timm"),
    ("nin*", "caffe"),
    ("googlenet_original", "caffe"),
    ("fcn*_vgg16", "caffe"),
    ("deeplabv1_*", "caffe"),
    ("deeplabv2_vgg16", "caffe"),
    ("darknet_*", "darknet"),
    ("yolov1*", "darknet"),
    ("deeplabv2_resnet101", "caffe"),
    ("deeplabv2_resnet*", "own"),
    ("deeplabv3plus_xception65", "tensorflow"),
    ("deeplabv3plus_resnet101", "paper"),
    ("deeplabv3plus_resnet*", "own"),
    ("unet_original", "paper"),
    ("unet*", "own"),
    ("*", "paper"),
)
# Values in percent, of what `cvjax.weights.load_pretrained` takes by the model's name.
_TORCHVISION = {
    "alexnet": 56.522,
    "densenet121": 74.434,
    "densenet161": 77.138,
    "densenet169": 75.6,
    "densenet201": 76.896,
    "efficientnet_b0": 77.692,
    "efficientnet_b1": 79.838,
    "efficientnet_b2": 80.608,
    "efficientnet_b3": 82.008,
    "efficientnet_b4": 83.384,
    "efficientnet_b5": 83.444,
    "efficientnet_b6": 84.008,
    "efficientnet_b7": 84.122,
    "efficientnet_v2_s": 84.228,
    "efficientnet_v2_m": 85.112,
    "efficientnet_v2_l": 85.808,
    "googlenet": 69.778,
    "resnet18": 69.758,
    "resnet34": 73.314,
    "resnet50": 80.858,
    "resnet101": 81.886,
    "resnet152": 82.284,
    "resnext50_32x4d": 81.198,
    "resnext101_32x8d": 82.834,
    "resnext101_64x4d": 83.246,
    "vgg11": 69.02,
    "vgg11_bn": 70.37,
    "vgg13": 69.928,
    "vgg13_bn": 71.586,
    "vgg16": 71.592,
    "vgg16_bn": 73.36,
    "vgg19": 72.376,
    "vgg19_bn": 74.218,
    "wide_resnet50_2": 81.602,
    "wide_resnet101_2": 82.51,
}
_TORCHVISION_COCO = {
    "fcn_resnet50": 60.5,
    "fcn_resnet101": 63.7,
    "deeplabv3_resnet50": 66.4,
    "deeplabv3_resnet101": 67.4,
}
# With the side of the images that timm's table was made with.
_TIMM = {
    "legacy_senet154": (81.308, 224),
    "resnetv2_50": (81.398, 288),
    "resnetv2_101": (83.002, 288),
    "seresnet50": (81.102, 288),
    "seresnext50_32x4d": (82.196, 288),
    "seresnext101_32x4d": (80.892, 224),
    "seresnext101_32x8d": (84.186, 288),
    "xception41": (78.504, 299),
    "xception65": (83.182, 299),
    "xception71": (79.872, 299),
}
_CIFAR = {"resnet20_cifar": 91.78, "resnet32_cifar": 92.78, "resnet44_cifar": 93.14, "resnet56_cifar": 93.62}
_AUTHORS_FCN = {"fcn32s_vgg16": 63.6, "fcn16s_vgg16": 65.0, "fcn8s_vgg16": 65.5}
_VOC12, _VOC07 = "VOC 2012 val", "VOC 2007 test"
_PAPERS = {
    "deeplabv1_largefov_vgg16": (62.25, "mIoU", _VOC12, "1412.7062", "67.64 with a CRF"),
    "deeplabv2_vgg16": (68.96, "mIoU", _VOC12, "1606.00915", "71.57 with a CRF"),
    "deeplabv2_resnet101": (76.35, "mIoU", _VOC12, "1606.00915", "77.69 with a CRF"),
    "deeplabv3plus_resnet101": (78.85, "mIoU", _VOC12, "1802.02611", "79.35 at output stride 8"),
    "deeplabv3plus_xception65": (
        79.79,
        "mIoU",
        _VOC12,
        "1802.02611",
        "81.39 at output stride 8, with scales and flips",
    ),
    "rcnn_alexnet": (54.2, "mAP", _VOC07, "1311.2524", "58.5 with regressed boxes"),
    "rcnn_vgg16": (66.0, "mAP", _VOC07, "1311.2524", ""),
    "sppnet_zf5": (59.2, "mAP", _VOC07, "1406.4729", "of five scales, with regressed boxes"),
    "fast_rcnn_vgg16": (66.9, "mAP", _VOC07, "1504.08083", ""),
    "faster_rcnn_vgg16": (69.9, "mAP", _VOC07, "1506.01497", ""),
    "yolov1": (63.4, "mAP", _VOC07, "1506.02640", ""),
    "yolov1_tiny": (52.7, "mAP", _VOC07, "1506.02640", ""),
}


def release_of(name: str) -> str:
    """Returns the name of the release that a model's default options follow."""
    return next(release for pattern, release in _RELEASES if fnmatch.fnmatchcase(name, pattern))


def figure_of(name: str) -> Figure | None:
    """Returns the accuracy that is published of that release; None where none was found."""
    if name in _TORCHVISION:
        return Figure(_TORCHVISION[name], "top-1", "ImageNet", "torchvision")
    if name in _TORCHVISION_COCO:
        return Figure(_TORCHVISION_COCO[name], "mIoU", "COCO val2017 with VOC's classes", "torchvision")
    if name == "fasterrcnn_resnet50_fpn":
        return Figure(37.0, "AP", "COCO val2017", "torchvision")
    if name in _TIMM:
        value, side = _TIMM[name]
        return Figure(value, "top-1", f"ImageNet at {side}", TIMM_RESULTS)
    if name in _CIFAR:
        return Figure(_CIFAR[name], "top-1", "CIFAR-10 test", "best_prec1 in the file")
    if name in _AUTHORS_FCN:
        return Figure(_AUTHORS_FCN[name], "mIoU", "VOC seg11valid", "the authors' repository")
    if name in _PAPERS:
        value, metric, data, number, more = _PAPERS[name]
        return Figure(value, metric, data, f"arXiv:{number}", more)
    return None
