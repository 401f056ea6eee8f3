"""DeepLab v1 to v3+ on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.deeplab_voc                  VOC where it is prepared or found, else the embedded scenes
    python -m experiments.deeplab_voc quick --resume   continues a run that was stopped
    python -m experiments.deeplab_voc voc --init resnet101.safetensors
    python -m experiments.deeplab_voc v1 --init vgg_16_fc_reduced.caffemodel         as the papers; a whole VGG-16,
    python -m experiments.deeplab_voc v2_vgg16 --init vgg_16_fc_reduced.caffemodel   such as vgg16, is thinned out here
    python -m experiments.deeplab_voc v2_resnet101 --init init.caffemodel            COCO's, or MSRA's ResNet-101

| preset | paper | steps x batch | published mIoU on val (with CRF) |
| --- | --- | --- | --- |
| quick | a narrow v3+, from scratch on the scenes | 1,210 x 16 | 0.60 to 0.63 in docs/results.md |
| voc | v3's recipe (1706.05587) for v3+ (1802.02611) | 30,000 x 16 | 78.9, ResNet-101, output stride 16 |
| voc_pod | the same images in bfloat16, on up to 256 devices; see below | 1,875 x 256 |  |
| v1 | LargeFOV (1412.7062), loss on every 8th pixel | 6,000 x 20 | 62.3 (67.6) |
| v2_vgg16 | ASPP-L (1606.00915) | 20,000 x 10 | 69.0 (71.6) |
| v2_resnet101 | ASPP, three scales, frozen BatchNorm | 20,000 x 10 | 76.4 (77.7), from COCO's weights |
| v3, v3plus | `voc` with the head of v3, and by its own name | 30,000 x 16 | 77.2, 78.9 |
| quick_v1 | LargeFOV on a narrow VGG with BatchNorm | 1,210 x 16 |  |
| quick_v2 | v2's branches and scales, the backbone of `quick` | 1,210 x 16 |  |
| quick_v3 | `quick` with the head of v3 | 1,210 x 16 |  |

`voc_pod` follows from `voc` by the linear rule (1706.02677): 16 times the batch and the rate, a sixteenth of the steps.
Nobody has trained it; `voc --cluster.distributed --model.dtype bfloat16` is the paper's recipe on up to 16 devices.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from cvjax.tasks.segmentation.crf_config import CRFS
from experiments._shared import ADAMW, MUON, NARROW_VGG, QUICK_SEGMENTATION, on_a_pod

V3PLUS = ModelConfig("deeplabv3plus_resnet101", multi_grid=(1, 2, 4), dropout=0.1, norm={"momentum": 0.9997})
VOC = SegmentationConfig(
    model=V3PLUS,
    data="voc_segmentation",
    input=SegmentationData(train_split="trainaug", workers=8),
    eval=SegmentationEval(batch_size=16, pad_multiple=None),
    optim=OptimizerConfig(learning_rate=0.007, weight_decay=1e-4, schedule="poly"),
)

_NARROW = {"width": 32, "stage_sizes": (2, 1, 1, 1)}
_SMALL = {"aspp_features": 48, "aspp_rates": (2, 4, 6), "dropout": 0.0, "backbone": _NARROW, "norm": {"momentum": 0.95}}
QUICK = replace(
    QUICK_SEGMENTATION,
    model=ModelConfig("deeplabv3plus_resnet18", low_level_features=16, separable_decoder=False, **_SMALL),
    steps=1210,
    eval_every=1210,
    checkpoint_every=250,
    optim=MUON,
)

# v1 and v2: crops of 321 pixels, ten times the learning rate for the classifier and twice that for biases.
_CAFFE = OptimizerConfig(learning_rate=1e-3, weight_decay=5e-4, head_lr_mult=10.0, bias_lr_mult=2.0)
V1 = SegmentationConfig(
    model=ModelConfig("deeplabv1_largefov_vgg16"),
    data="voc_segmentation",
    steps=6_000,
    batch_size=20,
    loss_stride=8,
    input=SegmentationData(train_split="trainaug", crop=(321, 321), min_scale=1.0, max_scale=1.0, workers=8),
    optim=replace(_CAFFE, schedule="step", milestones=(1 / 3, 2 / 3)),
    eval=SegmentationEval(batch_size=8, pad_multiple=None, crf=CRFS["v1"]),
)
V2 = replace(
    V1,
    model=ModelConfig("deeplabv2_vgg16"),
    steps=20_000,
    batch_size=10,
    optim=_CAFFE,
    eval=replace(V1.eval, crf=CRFS["v2"]),
)
_VGG = {name: value for name, value in NARROW_VGG.items() if name != "hidden"}
_NARROW_V1 = {"aspp_rates": (4,), "hidden": 256, "dropout": 0.0, "backbone": _VGG, "norm": {"momentum": 0.95}}
# Rates are 2, 4, 6 and 8 at this output stride.
_NARROW_V2 = {"output_stride": 16, "aspp_rates": (4, 8, 12, 16), "backbone": _NARROW, "norm": {"momentum": 0.95}}

PRESETS = {
    "quick": QUICK,
    "voc": VOC,
    "voc_pod": replace(on_a_pod(VOC, 16, momentum=0.9997), eval_every=500, checkpoint_every=125),
    "v1": V1,
    "v2_vgg16": V2,
    "v2_resnet101": replace(
        V2,
        model=ModelConfig("deeplabv2_resnet101", norm={"frozen": True}),
        aux_weight=1.0,
        input=replace(V2.input, min_scale=0.5, max_scale=1.5, scale_step=0.0),
        optim=replace(V2.optim, learning_rate=2.5e-4),
    ),
    "v3": replace(VOC, model=V3PLUS.with_name("deeplabv3_resnet101")[0].replace(output_stride=16, aux=False)),
    "v3plus": VOC,
    "quick_v1": replace(QUICK, model=ModelConfig("deeplabv1_largefov_vgg16", **_NARROW_V1), optim=ADAMW),
    "quick_v2": replace(QUICK, model=ModelConfig("deeplabv2_resnet18", **_NARROW_V2), aux_weight=1.0),
    "quick_v3": replace(QUICK, model=ModelConfig("deeplabv3_resnet18", output_stride=16, aux=False, **_SMALL)),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc")
