"""Lists the files that authors and their followers published, with figures as their publishers or papers state them.

Where no figure stands, none was found in what this table is made from; none is from memory. No file here has an address
that is known to last, so each is listed by its name, and `cvjax.load_pretrained` takes its path.
"""

from collections.abc import Iterator
from typing import Any

from cvjax.models.info import Figure
from cvjax.models.releases import TIMM_RESULTS, figure_of
from cvjax.weights.published.files import PublishedFile
from cvjax.weights.published.names import HUB

_IMAGENET, _VOC07, _VOC12 = "ImageNet", "VOC 2007 test", "VOC 2012 val"


def _theirs(value: float, metric: str, data: str, more: str = "") -> Figure:
    return Figure(value, metric, data, "its repository", more)


# Caffe's: (publisher, (model, layout, file, figure), ...).
_CAFFE: tuple[tuple[str, tuple[tuple[str, str, str, Figure | None], ...]], ...] = (
    (
        "BVLC",
        (
            ("alexnet_grouped", "caffe", "bvlc_alexnet.caffemodel", None),
            ("alexnet_grouped", "caffe_caffenet", "bvlc_reference_caffenet.caffemodel", None),
            ("alexnet_grouped", "caffe_rcnn_ilsvrc13", "bvlc_reference_rcnn_ilsvrc13.caffemodel", None),
            ("googlenet_original", "caffe", "bvlc_googlenet.caffemodel", None),
        ),
    ),
    (
        "VGG",
        (
            ("vgg16", "caffe", "VGG_ILSVRC_16_layers.caffemodel", None),
            ("vgg19", "caffe", "VGG_ILSVRC_19_layers.caffemodel", None),
        ),
    ),
    (
        "NIN",
        (
            ("nin", "caffe", "nin_imagenet.caffemodel", None),
            ("nin_cifar", "caffe", "cifar10_nin.caffemodel", None),
        ),
    ),
    (
        "KaimingHe/deep-residual-networks",
        tuple((f"resnet{depth}", "caffe", f"ResNet-{depth}-model.caffemodel", None) for depth in (50, 101, 152)),
    ),
    (
        "hujie-frank/SENet",
        (
            ("seresnet50", "caffe", "SE-ResNet-50.caffemodel", None),
            ("seresnext50_32x4d", "caffe", "SE-ResNeXt-50.caffemodel", None),
            ("legacy_senet154", "caffe", "SENet-154.caffemodel", None),
        ),
    ),
    ("shicai/DenseNet-Caffe", (("densenet121", "caffe", "DenseNet_121.caffemodel", None),)),
    (
        "shelhamer/fcn.berkeleyvision.org",
        (
            ("fcn32s_vgg16", "caffe", "fcn32s-heavy-pascal.caffemodel", figure_of("fcn32s_vgg16")),
            ("fcn16s_vgg16", "caffe", "fcn16s-heavy-pascal.caffemodel", figure_of("fcn16s_vgg16")),
            ("fcn8s_vgg16", "caffe", "fcn8s-heavy-pascal.caffemodel", figure_of("fcn8s_vgg16")),
            ("fcn8s_vgg16", "caffe_at_once", "fcn8s-atonce-pascal.caffemodel", None),
        ),
    ),
    (
        "DeepLab",
        (
            ("deeplabv1_largefov_vgg16", "caffe", "train2_iter_8000.caffemodel", figure_of("deeplabv1_largefov_vgg16")),
            ("deeplabv2_vgg16", "caffe", "train2_iter_20000.caffemodel", figure_of("deeplabv2_vgg16")),
            ("deeplabv2_resnet101", "caffe", "train2_iter_20000.caffemodel", figure_of("deeplabv2_resnet101")),
        ),
    ),
    ("U-Net", (("unet_original", "caffe", "phseg_v5.caffemodel", None),)),
    (
        "rbgirshick/rcnn",
        (("rcnn_alexnet", "caffe", "finetune_voc_2007_trainval_iter_70k", figure_of("rcnn_alexnet")),),
    ),
    (
        "ShaoqingRen/SPP_net",
        (
            ("zfnet_spp", "caffe", "Zeiler_conv5", None),
            ("sppnet_zf5", "caffe", "Zeiler_conv5", figure_of("sppnet_zf5")),
        ),
    ),
    (
        "rbgirshick/fast-rcnn",
        (
            ("fast_rcnn_alexnet", "caffe", "caffenet_fast_rcnn_iter_40000.caffemodel", None),
            ("fast_rcnn_vgg_cnn_m", "caffe", "vgg_cnn_m_1024_fast_rcnn_iter_40000.caffemodel", None),
            ("fast_rcnn_vgg16", "caffe", "vgg16_fast_rcnn_iter_40000.caffemodel", figure_of("fast_rcnn_vgg16")),
        ),
    ),
    (
        "rbgirshick/py-faster-rcnn",
        (
            ("faster_rcnn_vgg16", "caffe", "VGG16_faster_rcnn_final.caffemodel", figure_of("faster_rcnn_vgg16")),
            ("faster_rcnn_vgg16", "caffe_coco", "coco_vgg16_faster_rcnn_final.caffemodel", None),
            ("faster_rcnn_zf", "caffe_alt_opt", "ZF_faster_rcnn_final.caffemodel", None),
        ),
    ),
)
# PyTorch's, TensorFlow's and darknet's.
_OTHERS: tuple[tuple[str, tuple[tuple[str, str, str, Figure | None], ...]], ...] = (
    (
        "akamaster/pytorch_resnet_cifar10",
        tuple(
            (
                f"resnet{depth}_cifar",
                "akamaster",
                f"resnet{depth}-{digits}.th",
                Figure(value, "top-1", "CIFAR-10 test", "best_prec1 in the file"),
            )
            for depth, digits, value in (
                (20, "12fca82f", 91.78),
                (32, "d509ac18", 92.78),
                (44, "014dd654", 93.14),
                (56, "4bfd9763", 93.62),
            )
        ),
    ),
    (
        "VainF/DeepLabV3Plus-Pytorch",
        tuple(
            (model, "vainf", f"best_{model}_{data}_os16.pth", _theirs(value, "mIoU", where))
            for model, data, value, where in (
                ("deeplabv3_resnet50", "voc", 76.9, _VOC12),
                ("deeplabv3plus_resnet50", "voc", 77.2, _VOC12),
                ("deeplabv3plus_resnet101", "voc", 78.3, _VOC12),
                ("deeplabv3plus_resnet101", "cityscapes", 76.2, "Cityscapes val"),
            )
        ),
    ),
    (
        "kazuto1011/deeplab-pytorch",
        tuple(
            (
                "deeplabv2_resnet101",
                "kazuto1011",
                f"deeplabv2_resnet101_msc-{ending}.pth",
                _theirs(value, "mIoU", where, f"{refined:.2f} with a CRF"),
            )
            for ending, value, refined, where in (
                ("vocaug-20000", 76.65, 77.93, _VOC12),
                ("cocostuff10k-20000", 34.8, 35.6, "COCO-Stuff 10k val"),
                ("cocostuff164k-100000", 39.1, 39.7, "COCO-Stuff 164k val"),
            )
        ),
    ),
    (
        "wkentaro/pytorch-fcn",
        (
            ("fcn32s_vgg16", "caffe", "fcn32s_from_caffe.pth", _theirs(63.63, "mIoU", _VOC12)),
            ("fcn16s_vgg16", "caffe", "fcn16s_from_caffe.pth", _theirs(65.01, "mIoU", _VOC12)),
            ("fcn8s_vgg16", "caffe", "fcn8s_from_caffe.pth", _theirs(65.51, "mIoU", _VOC12)),
            ("fcn8s_vgg16", "wkentaro_at_once", "fcn8s-atonce_from_caffe.pth", _theirs(65.40, "mIoU", _VOC12)),
        ),
    ),
    (
        "milesial/Pytorch-UNet",
        tuple(("unet", "milesial", f"unet_carvana_scale{scale}_epoch2.pth", None) for scale in ("0.5", "1.0")),
    ),
    (
        "chenyuntc/simple-faster-rcnn-pytorch",
        tuple(
            ("faster_rcnn_vgg16", "chenyuntc", file, _theirs(value, "mAP", _VOC07))
            for file, value in (
                ("chainer_best_model_converted_to_pytorch_0.7053.pth", 70.53),
                ("fasterrcnn_12211511_0.701052458187_torchvision_pretrain.pth", 70.1),
                ("fasterrcnn_12222105_0.712649824453_caffe_pretrain.pth", 71.26),
            )
        ),
    ),
    (
        "jwyang/faster-rcnn.pytorch",
        (
            ("faster_rcnn_vgg16", "jwyang", "faster_rcnn_1_6_10021.pth", _theirs(70.1, "mAP", _VOC07)),
            ("faster_rcnn_vgg16", "jwyang", "faster_rcnn_1_9_2504.pth", _theirs(69.6, "mAP", _VOC07)),
        ),
    ),
    (
        "tensorflow/models research/deeplab",
        tuple(
            ("deeplabv3plus_xception65", "tensorflow", f"deeplabv3_pascal_{part}_2018_01_04.tar.gz", None)
            for part in ("train_aug", "trainval")
        ),
    ),
    (
        "darknet",
        (
            ("yolov1", "darknet", "yolov1.weights", figure_of("yolov1")),
            ("yolov1_tiny", "darknet", "tiny-yolov1.weights", figure_of("yolov1_tiny")),
        ),
    ),
)
# mmsegmentation's on VOC: name, schedule, its date and digest, and mIoU, without and with scales and flips.
_MMSEG_VOC = (
    ("deeplabv3plus", 50, "20k", "20200617_102323-aad58ef1", 75.93, 77.50),
    ("deeplabv3plus", 101, "20k", "20200617_102345-c7ff3d56", 77.22, 78.59),
    ("deeplabv3plus", 50, "40k", "20200613_161759-e1b43aa9", 76.81, 77.57),
    ("deeplabv3plus", 101, "40k", "20200613_205333-faf03387", 78.62, 79.53),
    ("deeplabv3", 50, "20k", "20200617_010906-596905ef", 76.17, 77.42),
    ("deeplabv3", 101, "20k", "20200617_010932-8d13832f", 78.70, 79.95),
    ("deeplabv3", 50, "40k", "20200613_161546-2ae96e7e", 77.68, 78.78),
    ("deeplabv3", 101, "40k", "20200613_161432-0017d784", 77.92, 79.18),
    ("fcn", 50, "20k", "20200617_010715-52dc5306", 67.08, 69.94),
    ("fcn", 101, "20k", "20200617_010842-0bb4e798", 71.16, 73.57),
    ("fcn", 50, "40k", "20200613_161222-5e2dbf40", 66.97, 69.04),
    ("fcn", 101, "40k", "20200613_161240-4c8bcefd", 69.91, 72.38),
)
# Its U-Nets: the rest of the file's name, the data, the metric, its value, and what else is told.
_MMSEG_UNET: tuple[tuple[str, str, str, float, str], ...] = (
    ("4x4_512x1024_160k_cityscapes_20211210_145204-6860854e", "Cityscapes val", "mIoU", 69.1, "71.05 with flips"),
    ("64x64_40k_drive_20201223_191051-5daf6d3b", "DRIVE", "mDice", 88.38, "Dice 78.67"),
    ("ce-1.0-dice-3.0_64x64_40k_drive_20211210_201820-785de5c2", "DRIVE", "mDice", 88.71, "Dice 79.32"),
    ("128x128_40k_stare_20201223_191051-7d77e78b", "STARE", "mDice", 89.78, "Dice 81.02"),
    ("ce-1.0-dice-3.0_128x128_40k_stare_20211210_201821-f75705a9", "STARE", "mDice", 90.65, "Dice 82.70"),
    ("128x128_40k_chase_db1_20201223_191051-11543527", "CHASE_DB1", "mDice", 89.46, "Dice 80.24"),
    ("ce-1.0-dice-3.0_128x128_40k_chase-db1_20211210_201821-1c4eb7cf", "CHASE_DB1", "mDice", 89.52, "Dice 80.40"),
    ("256x256_40k_hrf_20201223_173724-d89cf1ed", "HRF", "mDice", 88.92, "Dice 79.45"),
    ("ce-1.0-dice-3.0_256x256_40k_hrf_20211210_201821-c314da8a", "HRF", "mDice", 89.64, "Dice 80.87"),
)
# Cadene's SE nets, which timm's hub has.
_LEGACY = {
    "seresnet18": 71.766,
    "seresnet34": 74.808,
    "seresnet50": 77.644,
    "seresnet101": 78.386,
    "seresnet152": 78.660,
    "seresnext50_32x4d": 79.076,
    "seresnext101_32x4d": 80.230,
}


def authors_files() -> Iterator[PublishedFile]:
    """Yields the files, publisher by publisher."""
    for whose, rows in (*_CAFFE, *_OTHERS):
        for model, layout, file, figure in rows:
            yield PublishedFile(model, layout, whose, file, figure)
    yield from _mmsegmentation()
    for model, value in _LEGACY.items():
        name = f"{HUB}timm/legacy_{model}.in1k"
        figure = Figure(value, "top-1", f"{_IMAGENET} at 224", TIMM_RESULTS)
        yield PublishedFile(model, "timm_legacy", "timm", "model.safetensors", figure, name, address=name)


def _mmsegmentation() -> Iterator[PublishedFile]:
    given: dict[str, Any] = {"layout": "mmsegmentation", "whose": "mmsegmentation"}
    for net, depth, schedule, ending, value, averaged in _MMSEG_VOC:
        figure = _theirs(value, "mIoU", _VOC12, f"{averaged:.2f} with scales and flips")
        file = f"{net}_r{depth}-d8_512x512_{schedule}_voc12aug_{ending}.pth"
        yield PublishedFile(f"{net}_resnet{depth}", file=file, figure=figure, **given)
    for ending, data, metric, value, more in _MMSEG_UNET:
        file = f"fcn_unet_s5-d16_{ending}.pth"
        yield PublishedFile("unet", file=file, figure=_theirs(value, metric, data, more), **given)
