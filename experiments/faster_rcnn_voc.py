"""Faster R-CNN (1506.01497) on PASCAL VOC and COCO, or on any folder of images with XML boxes.

    python -m experiments.faster_rcnn_voc                        VOC 2007 where it is prepared, else the scenes
    python -m experiments.faster_rcnn_voc quick --model.backbone.deformable 3 4
    python -m experiments.faster_rcnn_voc voc07 --init VGG_ILSVRC_16_layers.caffemodel    as in the paper
    python -m experiments.faster_rcnn_voc four_steps --init vgg16
    python -m experiments.faster_rcnn_voc coco --init resnet50   a ResNet-50 with a feature pyramid
    python -m experiments.faster_rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.faster_rcnn_voc quick --resume         continues a run that was stopped

With `--four-steps` a run is the paper's alternating training: proposals, a detector on them, proposals on the
detector's convolutions, and the detector again, `--steps` each; see `cvjax.tasks.detection.alternating`.

| preset | recipe | steps x batch | published |
| --- | --- | --- | --- |
| quick | a narrow ResNet-18 with a feature pyramid, the scenes | 900 x 16 |  |
| voc07 | VGG-16, end to end: 0.001 and at last a tenth | 70,000 x 1 | 69.9 mAP, by four steps |
| voc0712 | likewise on the trainval of 2007 and 2012 | 110,000 x 1 | 73.2 mAP |
| four_steps | the paper's own: proposals, then detection, twice | 80,000 + 40,000 x 1 | 69.9 mAP |
| coco | torchvision's: a ResNet-50 with a pyramid | 26 epochs x 16 | 37.0 COCO AP |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from experiments._shared import QUICK_DETECTION, QUICK_DETECTOR_OPTIM, voc07

_MODEL = ModelConfig(
    "fasterrcnn_resnet18_fpn",
    rpn_channels=64,
    anchor_sizes=(12.0, 24.0, 48.0, 72.0, 96.0),
    rpn_pre_nms_top_n=(400, 200),
    rpn_post_nms_top_n=(200, 64),
    rpn_batch_size_per_image=64,
    rois_per_image=64,
    box_head={"hidden": 256},
    backbone={"stage_sizes": (1, 1, 1, 1), "width": 32},
    norm={"momentum": 0.95},
)

VOC07 = voc07(
    DetectionConfig(
        model=ModelConfig("faster_rcnn_vgg16"),
        # One shape for all images, whose shorter side is brought to 600 and the longer one to 1000 at most.
        input=DetectionData(crop=(1000, 1000), short_side=600, long_side=1000, workers=8),
        eval=DetectionEval(batch_size=1),
        steps=70_000,
        batch_size=1,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            learning_rate=1e-3,
            weight_decay=5e-4,
            bias_lr_mult=2.0,
            schedule="step",
            milestones=(5 / 7,),
            frozen=("backbone/conv[12]_*",),
        ),
    )
)

PRESETS = {
    "quick": replace(QUICK_DETECTION, model=_MODEL, steps=900, optim=replace(QUICK_DETECTOR_OPTIM, head_lr_mult=0.2)),
    "voc07": VOC07,
    "voc0712": voc07(replace(VOC07, steps=110_000), "trainval0712"),
    "four_steps": replace(VOC07, model=VOC07.model.replace(bg_iou_low=0.1), steps=80_000, four_steps=True),
    "coco": DetectionConfig(
        model=ModelConfig("fasterrcnn_resnet50_fpn", norm={"frozen": True}),
        data="coco",
        input=DetectionData(crop=(1333, 1333), short_side=800, long_side=1333, workers=8, on_bad_boxes="drop"),
        eval=DetectionEval(batch_size=1, coco=True),
        epochs=26.0,
        batch_size=16,
        log_every=100,
        eval_every=20_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            learning_rate=0.02,
            weight_decay=1e-4,
            schedule="step",
            milestones=(16 / 26, 22 / 26),
            warmup=0.005,
            frozen=("backbone/stem*", "backbone/stage1*", "backbone/*bn*"),
        ),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc07")
