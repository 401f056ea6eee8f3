"""Hypercolumns as a classifier of pixels on PASCAL VOC 2012, or on anything laid out like it.

    python -m experiments.hypercolumn_voc                  VOC where it is prepared or found, else the embedded scenes
    python -m experiments.hypercolumn_voc quick --resume   continues a run that was stopped
    python -m experiments.hypercolumn_voc voc --init vgg16

| preset | paper | steps x batch | published |
| --- | --- | --- | --- |
| quick | a narrow VGG with BatchNorm, from scratch on the scenes | 1,200 x 16 |  |
| voc | 1411.5752 on VGG-16, with FCN's recipe (1411.4038) | 30,000 x 20 | none |

The paper scores masks inside of detected boxes (see `hypercolumn_masks`) and parts of persons, so it has neither a
figure nor a recipe for this. The new layers learn at ten times the rate.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from experiments._shared import NARROW_VGG, QUICK_SEGMENTATION

QUICK_MODEL = ModelConfig("hypercolumn_vgg16", dropout=0.0, backbone=NARROW_VGG, norm={"momentum": 0.95})
VOC_OPTIM = OptimizerConfig(
    learning_rate=1e-4, momentum=0.9, weight_decay=5e-4, head_lr_mult=10.0, bias_lr_mult=2.0, schedule="poly"
)

PRESETS = {
    "quick": replace(QUICK_SEGMENTATION, model=QUICK_MODEL),
    "voc": SegmentationConfig(
        model=ModelConfig("hypercolumn_vgg16"),
        data="voc_segmentation",
        steps=30_000,
        batch_size=20,
        eval_every=5_000,
        input=SegmentationData(train_split="trainaug", crop=(321, 321), workers=8),
        eval=SegmentationEval(batch_size=4, pad_multiple=32),
        optim=VOC_OPTIM,
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc")
