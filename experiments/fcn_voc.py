"""FCN-32s, 16s and 8s on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.fcn_voc                      VOC where it is prepared or found, else the embedded scenes
    python -m experiments.fcn_voc quick --resume       continues a run that was stopped
    python -m experiments.fcn_voc voc --init VGG_ILSVRC_16_layers.caffemodel    all at once
    python -m experiments.fcn_voc voc_32s --init VGG_ILSVRC_16_layers.caffemodel
                                                       then voc_16s, then voc_8s: each starts from the one before
    python -m experiments.fcn_voc voc_batch --init VGG_ILSVRC_16_layers.caffemodel

The paper's nets start from VGG's own file of Caffe's, whose dense layers become the convolutions fc6 and fc7;
`--init vgg16` takes torchvision's instead.

Any run starts from any other by its folder, which is how to train the narrow nets in stages:

    python -m experiments.fcn_voc quick --model.name fcn32s_vgg16 --workdir runs/fcn_voc/quick_32s
    python -m experiments.fcn_voc quick --model.name fcn16s_vgg16 --init runs/fcn_voc/quick_32s

| preset | paper | steps x batch | published mIoU (seg11valid) |
| --- | --- | --- | --- |
| quick | a narrow FCN-8s with BatchNorm, the scenes | 1,200 x 16 |  |
| voc | 1605.06211: summed loss, momentum 0.99, FCN-8s at once | 100,000 x 1 | 62.7 (code 65.5) |
| voc_32s | in stages | 100,000 x 1 | 59.4 (code 63.6) |
| voc_16s | from FCN-32s, a hundredth of its learning rate | 100,000 x 1 | 62.4 (code 65.0) |
| voc_8s | from FCN-16s, a hundredth of its learning rate | 100,000 x 1 | 62.7 (code 65.5) |
| voc_batch | 1411.4038: mean loss, momentum 0.9, FCN-32s, 175 epochs | 90,000 x 20 | 59.4 |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from experiments._shared import NARROW_VGG, QUICK_SEGMENTATION

_MODEL = ModelConfig("fcn8s_vgg16", last_upsampling="transposed_fixed")
HEAVY = SegmentationConfig(
    model=_MODEL,
    data="voc_segmentation",
    steps=100_000,
    batch_size=1,
    normalize_loss=False,
    log_every=100,
    eval_every=10_000,
    checkpoint_every=5_000,
    # Whole images: none of VOC's is larger than 500 pixels.
    input=SegmentationData(
        train_split="trainaug", crop=(500, 500), min_scale=1.0, max_scale=1.0, scale_step=0.0, flip=0.0, workers=8
    ),
    eval=SegmentationEval(batch_size=1, pad_multiple=32),
    optim=OptimizerConfig(learning_rate=1e-10, momentum=0.99, weight_decay=5e-4, bias_lr_mult=2.0, schedule="constant"),
)

PRESETS = {
    "quick": replace(
        QUICK_SEGMENTATION,
        model=ModelConfig("fcn8s_vgg16", alignment="same", dropout=0.0, backbone=NARROW_VGG, norm={"momentum": 0.95}),
    ),
    "voc": replace(HEAVY, model=_MODEL.replace(skip_scales=(0.01, 0.0001))),
    "voc_32s": replace(HEAVY, model=_MODEL.replace("fcn32s_vgg16")),
    "voc_16s": replace(
        HEAVY,
        model=_MODEL.replace("fcn16s_vgg16"),
        optim=replace(HEAVY.optim, learning_rate=1e-12),
        init="runs/fcn_voc/voc_32s",
    ),
    "voc_8s": replace(HEAVY, optim=replace(HEAVY.optim, learning_rate=1e-14), init="runs/fcn_voc/voc_16s"),
    "voc_batch": SegmentationConfig(
        model=_MODEL.replace("fcn32s_vgg16"),
        data="voc_segmentation",
        steps=90_000,
        batch_size=20,
        eval_every=5_000,
        input=HEAVY.input,
        eval=SegmentationEval(batch_size=4, pad_multiple=32),
        optim=replace(HEAVY.optim, learning_rate=1e-4, momentum=0.9),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc")
