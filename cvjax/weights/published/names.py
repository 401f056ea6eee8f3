"""Lists the published weights that have a name here, with values that are torchvision's and timm's own."""

import dataclasses
import functools
from collections.abc import Iterator
from types import MappingProxyType

from cvjax.models.info import Figure, Preprocessing
from cvjax.models.releases import TIMM_RESULTS, figure_of

HUB = "hf-hub:"
_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Published:
    """Describes weights that somebody published.

    Attributes:
      model: Name of the model, one of `cvjax.list_models()`.
      source: URL of a file whose name ends with the first eight digits of its SHA-256, or a repository on Hugging
        Face's hub as `hf-hub:OWNER/NAME`.
      preprocessing: Preprocessing that they were scored with; None if the repository says it.
      figure: Accuracy that their publisher states.
    """

    model: str
    source: str
    preprocessing: Preprocessing | None = None
    figure: Figure | None = None


_AT_224 = Preprocessing()
_CUBIC = functools.partial(Preprocessing, interpolation="bicubic")
_IMAGENET_V1 = {
    "alexnet": ("alexnet-owt-7be5be79.pth", _AT_224),
    "vgg11": ("vgg11-8a719046.pth", _AT_224),
    "vgg11_bn": ("vgg11_bn-6002323d.pth", _AT_224),
    "vgg13": ("vgg13-19584684.pth", _AT_224),
    "vgg13_bn": ("vgg13_bn-abd245e5.pth", _AT_224),
    "vgg16": ("vgg16-397923af.pth", _AT_224),
    "vgg16_bn": ("vgg16_bn-6c64b313.pth", _AT_224),
    "vgg19": ("vgg19-dcbb9e9d.pth", _AT_224),
    "vgg19_bn": ("vgg19_bn-c79401a0.pth", _AT_224),
    # torchvision normalizes with ImageNet's mean and has the net convert to this (`transform_input`).
    "googlenet": ("googlenet-1378be20.pth", Preprocessing(mean=_HALF, std=_HALF)),
    "resnet18": ("resnet18-f37072fd.pth", _AT_224),
    "resnet34": ("resnet34-b627a593.pth", _AT_224),
    "resnet50": ("resnet50-0676ba61.pth", _AT_224),
    "resnet101": ("resnet101-63fe2227.pth", _AT_224),
    "resnet152": ("resnet152-394f9c45.pth", _AT_224),
    "resnext50_32x4d": ("resnext50_32x4d-7cdf4587.pth", _AT_224),
    "resnext101_32x8d": ("resnext101_32x8d-8ba56ff5.pth", _AT_224),
    "resnext101_64x4d": ("resnext101_64x4d-173b62eb.pth", Preprocessing(224, 232)),
    "wide_resnet50_2": ("wide_resnet50_2-95faca4d.pth", _AT_224),
    "wide_resnet101_2": ("wide_resnet101_2-32ee1156.pth", _AT_224),
    "densenet121": ("densenet121-a639ec97.pth", _AT_224),
    "densenet161": ("densenet161-8d451a50.pth", _AT_224),
    "densenet169": ("densenet169-b2777c0a.pth", _AT_224),
    "densenet201": ("densenet201-c1103571.pth", _AT_224),
    "efficientnet_b0": ("efficientnet_b0_rwightman-7f5810bc.pth", _CUBIC(224, 256)),
    "efficientnet_b1": ("efficientnet_b1_rwightman-bac287d4.pth", _CUBIC(240, 256)),
    "efficientnet_b2": ("efficientnet_b2_rwightman-c35c1473.pth", _CUBIC(288, 288)),
    "efficientnet_b3": ("efficientnet_b3_rwightman-b3899882.pth", _CUBIC(300, 320)),
    "efficientnet_b4": ("efficientnet_b4_rwightman-23ab8bcd.pth", _CUBIC(380, 384)),
    "efficientnet_b5": ("efficientnet_b5_lukemelas-1a07897c.pth", _CUBIC(456, 456)),
    "efficientnet_b6": ("efficientnet_b6_lukemelas-24a108a5.pth", _CUBIC(528, 528)),
    "efficientnet_b7": ("efficientnet_b7_lukemelas-c5b4e57e.pth", _CUBIC(600, 600)),
    "efficientnet_v2_s": ("efficientnet_v2_s-dd5fe13b.pth", Preprocessing(384, 384)),
    "efficientnet_v2_m": ("efficientnet_v2_m-dc08266a.pth", Preprocessing(480, 480)),
    "efficientnet_v2_l": ("efficientnet_v2_l-59c71312.pth", Preprocessing(480, 480, _HALF, _HALF, "bicubic")),
}
_IMAGENET_V2 = {
    "resnet50": ("resnet50-11ad3fa6.pth", Preprocessing(224, 232)),
    "resnet101": ("resnet101-cd907fc2.pth", Preprocessing(224, 232)),
    "resnet152": ("resnet152-f82ba261.pth", Preprocessing(224, 232)),
    "resnext50_32x4d": ("resnext50_32x4d-1a0047aa.pth", Preprocessing(224, 232)),
    "resnext101_32x8d": ("resnext101_32x8d-110c445d.pth", Preprocessing(224, 232)),
    "wide_resnet50_2": ("wide_resnet50_2-9ba9bcbe.pth", Preprocessing(224, 232)),
    "wide_resnet101_2": ("wide_resnet101_2-d733dc28.pth", Preprocessing(224, 232)),
    "efficientnet_b1": ("efficientnet_b1-c27df63c.pth", Preprocessing(240, 255)),
}
_COCO_V1 = {
    "fcn_resnet50": ("fcn_resnet50_coco-1167a1af.pth", Preprocessing(None, 520)),
    "fcn_resnet101": ("fcn_resnet101_coco-7ecb50ca.pth", Preprocessing(None, 520)),
    "deeplabv3_resnet50": ("deeplabv3_resnet50_coco-cd0a2569.pth", Preprocessing(None, 520)),
    "deeplabv3_resnet101": ("deeplabv3_resnet101_coco-586e9e4e.pth", Preprocessing(None, 520)),
}
# torchvision scored it with images of at most 1333 pixels, and with BatchNorms of bn_epsilon=0.
_COCO = {"fasterrcnn_resnet50_fpn": ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", Preprocessing(None, 800))}
# timm's, with the tag that is its default.
_ON_HUB = (
    "resnetv2_50.a1h_in1k",
    "resnetv2_101.a1h_in1k",
    "seresnet50.a1_in1k",
    "seresnext50_32x4d.racm_in1k",
    "seresnext101_32x4d.gluon_in1k",
    "seresnext101_32x8d.ah_in1k",
    "xception41.tf_in1k",
    "xception65.tf_in1k",
    "xception65.ra3_in1k",
    "xception71.tf_in1k",
)
# Of weights that are no model's default; figures of defaults are `cvjax.models.releases`'.
_FIRST = {
    "resnet50": 76.13,
    "resnet101": 77.374,
    "resnet152": 78.312,
    "resnext50_32x4d": 77.618,
    "resnext101_32x8d": 79.312,
    "wide_resnet50_2": 78.468,
    "wide_resnet101_2": 78.848,
    "efficientnet_b1": 78.642,
}
_OTHERS = {
    f"{model}.imagenet1k_v1": Figure(value, "top-1", "ImageNet", "torchvision") for model, value in _FIRST.items()
}
_OTHERS["xception65.tf_in1k"] = Figure(79.556, "top-1", "ImageNet at 299", TIMM_RESULTS)


def _rows() -> Iterator[tuple[str, Published]]:
    blocks = (
        ("imagenet1k_v1", _IMAGENET_V1),
        ("imagenet1k_v2", _IMAGENET_V2),
        ("coco_with_voc_labels_v1", _COCO_V1),
        ("coco_v1", _COCO),
    )
    for tag, block in blocks:
        for model, (file, preprocessing) in block.items():
            name = f"{model}.{tag}"
            figure = _OTHERS.get(name) or figure_of(model)
            yield name, Published(model, f"{_TORCHVISION}{file}", preprocessing, figure)
    for name in _ON_HUB:
        model = name.partition(".")[0]
        yield name, Published(model, f"{HUB}timm/{name}", None, _OTHERS.get(name) or figure_of(model))
    senet = "legacy_senet154"
    yield f"{senet}.in1k", Published(senet, f"{_TIMM}legacy_senet154-e9eb9fe6.pth", _AT_224, figure_of(senet))


# By "MODEL.TAG". Of several weights of a model the last is its default, as it is torchvision's.
PUBLISHED = MappingProxyType(dict(_rows()))
DEFAULTS = MappingProxyType({published.model: name for name, published in PUBLISHED.items()})
