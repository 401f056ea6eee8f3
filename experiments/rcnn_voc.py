"""R-CNN (1311.2524) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.rcnn_voc                            VOC 2007 where it is prepared, else the scenes
    python -m experiments.rcnn_voc voc07_caffenet --init bvlc_reference_caffenet.caffemodel     as in the paper
    python -m experiments.rcnn_voc voc07 --init alexnet       from torchvision's AlexNet
    python -m experiments.rcnn_voc voc07 --init VGG_ILSVRC_16_layers.caffemodel --model.name rcnn_vgg16
    python -m experiments.rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.rcnn_voc quick --resume             continues a run that was stopped

A run has three stages: the net is fine-tuned into WORKDIR/net; then a linear support vector machine for each class
learns from its second dense layer, with hard negatives; and a ridge regression for each class learns to move boxes. The
finished detector is in WORKDIR, see `cvjax.tasks.detection.staged.run`.

| preset | recipe | steps x batch | published mAP |
| --- | --- | --- | --- |
| quick | a narrow VGG, windows of 48 pixels, 300 boxes, the scenes | 900 x 16 |  |
| voc07_caffenet | CaffeNet, selective search, 128 windows, 32 of objects | 50,000 x 8 | 54.2, boxes moved 58.5 |
| voc07 | likewise, torchvision's AlexNet | 50,000 x 8 | VGG-16 66.0 |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.models.classification.alexnet import CAFFENET
from cvjax.tasks.detection.config import DetectionData, DetectionEval, StagedDetectionConfig
from experiments._shared import NARROW_REGIONS, QUICK_DENSE_OPTIM, QUICK_DETECTION, QUICK_PROPOSALS, voc07

_MODEL = ModelConfig(
    "rcnn_vgg16",
    window_size=48,
    context=4,
    rois_per_image=12,
    positive_fraction=0.4,
    dropout=0.2,
    backbone=NARROW_REGIONS,
    norm={"momentum": 0.95},
)
_QUICK = {**vars(QUICK_DETECTION), "input": QUICK_PROPOSALS, "optim": QUICK_DENSE_OPTIM}

VOC07 = voc07(
    StagedDetectionConfig(
        model=ModelConfig("rcnn_alexnet", rois_per_image=16),
        # Windows are cut out of the images as they are: none of VOC's is larger than 500 pixels.
        input=DetectionData(crop=(500, 500), proposals=2000, workers=8),
        eval=DetectionEval(batch_size=1),
        steps=50_000,
        batch_size=8,
        log_every=100,
        eval_every=50_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            learning_rate=1e-3, weight_decay=5e-4, bias_lr_mult=2.0, schedule="step", milestones=(0.4, 0.8)
        ),
    )
)

PRESETS = {
    "quick": StagedDetectionConfig(**_QUICK | {"model": _MODEL, "steps": 900, "images": 300}),
    "voc07": VOC07,
    "voc07_caffenet": replace(VOC07, model=VOC07.model.replace(backbone=CAFFENET | {"stem_padding": 0})),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc07")
