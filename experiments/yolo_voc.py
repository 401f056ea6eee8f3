"""YOLO v1 (1506.02640) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.yolo_voc                     VOC 2007 where it is prepared, else the embedded scenes
    python -m experiments.yolo_voc voc0712 --init runs/darknet_imagenet/imagenet
    python -m experiments.yolo_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.yolo_voc quick --resume      continues a run that was stopped

The first convolutions start from a classifier that was trained at 224 pixels (`experiments.darknet_imagenet`, or
darknet's own file with --init FILE.weights); detection then sees 448.

| preset | recipe | steps x batch | published mAP (VOC 2007) |
| --- | --- | --- | --- |
| quick | narrow, fully convolutional, BatchNorm, 8 x 8 cells, the scenes | 1,800 x 16 |  |
| voc07 | the paper's, on VOC 2007 alone | 135 epochs x 64 |  |
| voc0712 | on the trainval of 2007 and 2012, as in the paper | 135 epochs x 64 | 63.4, 45 images/s on a Titan X |
| tiny | Fast YOLO, likewise | 135 epochs x 64 | 52.7, 155 images/s |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from experiments._shared import QUICK_DETECTION, voc07
from experiments.darknet_imagenet import NARROW_STAGES

_MODEL = ModelConfig(
    "yolov1",
    backbone={"stages": NARROW_STAGES},
    neck=((3, 192, 1),),
    grid=(8, 8),
    hidden=512,
    fully_convolutional=True,  # Muon's steps are too long for dense layers, which nothing normalizes.
    batch_norm=True,
    dropout=0.2,
    norm={"momentum": 0.95},
)
_QUICK_DATA = replace(
    QUICK_DETECTION.input, keep_aspect=False, shift=0.15, exposure=1.3, hsv_saturation=1.3, max_scale=1.2
)

VOC07 = voc07(
    DetectionConfig(
        model=ModelConfig("yolov1"),
        # Random scaling and shifts by a fifth of the image, exposure and saturation by up to 1.5; images are stretched.
        input=DetectionData(
            crop=(448, 448),
            keep_aspect=False,
            shift=0.2,
            min_scale=0.8,
            max_scale=1.2,
            exposure=1.5,
            hsv_saturation=1.5,
            workers=8,
        ),
        eval=DetectionEval(batch_size=32),
        epochs=135.0,
        batch_size=64,
        log_every=50,
        eval_every=2000,
        checkpoint_every=1000,
        # Darknet's gradients are half of the paper's loss's, so its 0.01 is 0.005 here; 75, 30 and 30 epochs.
        optim=OptimizerConfig(
            learning_rate=5e-3, weight_decay=5e-4, schedule="step", milestones=(75 / 135, 105 / 135), warmup=1 / 135
        ),
    )
)
VOC0712 = voc07(VOC07, "trainval0712")

PRESETS = {
    "quick": replace(QUICK_DETECTION, model=_MODEL, input=_QUICK_DATA, steps=1800),
    "voc07": VOC07,
    "voc0712": VOC0712,
    "tiny": replace(VOC0712, model=ModelConfig("yolov1_tiny")),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc07")
