"""SPPnet (1406.4729) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.sppnet_voc                          VOC 2007 where it is prepared, else the scenes
    python -m experiments.sppnet_voc voc07 --init Zeiler_conv5.caffemodel    the release's classifier, as in the paper
    python -m experiments.sppnet_voc voc07 --init runs/CLASSIFIER
    python -m experiments.sppnet_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.sppnet_voc quick --resume           continues a run that was stopped

One pass of the convolutions serves all boxes of an image; the dense layers are fine-tuned on pyramids of windows into
WORKDIR/net, then come support vector machines and a regression as in R-CNN; the finished detector is in WORKDIR.

| preset | recipe | steps x batch | published mAP |
| --- | --- | --- | --- |
| quick | a narrow ZF-5 at 160 pixels, 300 boxes, the scenes | 700 x 16 |  |
| voc07 | ZF-5 on five scales, dense layers alone | 40,000 x 2 | 59.2 with boxes moved |

In `quick` gradients reach the convolutions, as no ImageNet has taught them. `voc07` starts from a ZF-5 with a pyramid
that was trained on ImageNet, and has its paddings and normalization; `zfnet_spp` is that classifier.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.models.classification.zfnet import SPP_NET
from cvjax.tasks.detection.config import DetectionData, DetectionEval, StagedDetectionConfig
from experiments._shared import QUICK_DETECTION, QUICK_DETECTOR_OPTIM, QUICK_PROPOSALS, voc07

_MODEL = ModelConfig(
    "sppnet_zf5",
    rois_per_image=32,
    bg_iou_low=0.0,
    scales=(192, 288),
    canonical_size=128.0,
    train_convolutions=True,
    dropout=0.2,
    backbone={"channels": (32, 64, 96, 96, 64), "hidden": 256},
)
_OPTIM = replace(QUICK_DETECTOR_OPTIM, learning_rate=4e-3)
_QUICK = {**vars(QUICK_DETECTION), "input": QUICK_PROPOSALS, "optim": _OPTIM}

PRESETS = {
    "quick": StagedDetectionConfig(**_QUICK | {"model": _MODEL, "steps": 700, "images": 600}),
    "voc07": voc07(
        StagedDetectionConfig(
            model=ModelConfig("sppnet_zf5", map_start=20.0, backbone=SPP_NET),
            input=DetectionData(crop=(500, 500), proposals=2000, workers=8),
            eval=DetectionEval(batch_size=1),
            steps=40_000,
            batch_size=2,
            log_every=100,
            eval_every=40_000,
            checkpoint_every=5_000,
            optim=OptimizerConfig(
                learning_rate=1e-3, weight_decay=5e-4, bias_lr_mult=2.0, schedule="step", milestones=(0.75,)
            ),
        )
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc07")
