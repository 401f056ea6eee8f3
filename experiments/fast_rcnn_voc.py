"""Fast R-CNN (1504.08083) on PASCAL VOC, or on any folder of images with XML boxes.

    python -m experiments.fast_rcnn_voc                       VOC 2007 where it is prepared, else the scenes
    python -m experiments.fast_rcnn_voc voc07 --init VGG_ILSVRC_16_layers.caffemodel
    python -m experiments.fast_rcnn_voc voc07_caffenet --init bvlc_reference_caffenet.caffemodel
    python -m experiments.fast_rcnn_voc quick --data xml_folder_detection --input.manual-dir FOLDER
    python -m experiments.fast_rcnn_voc quick --resume        continues a run that was stopped

Boxes to look at are selective search's; what is not on disk yet is made before the run (`cvjax data propose`
does it beforehand). `--input.proposal-mode grid` has boxes that are the same for all images.

The paper's nets start from these files of Caffe's (CaffeNet.v2.caffemodel is the second in a newer format);
`--init vgg16` takes torchvision's instead.

| preset | recipe | steps x batch | published mAP |
| --- | --- | --- | --- |
| quick | a narrow VGG with BatchNorm on 300 boxes, the scenes | 1,200 x 16 |  |
| voc07 | VGG-16: 64 regions of each image, 0.001 and at last a tenth | 40,000 x 2 | 66.9 |
| voc07_caffenet | CaffeNet, the paper's model S | 40,000 x 2 | 57.1 |
| voc0712 | likewise on the trainval of 2007 and 2012 | 60,000 x 2 | 70.0 |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.models.classification.alexnet import CAFFENET
from cvjax.tasks.detection.config import DetectionConfig, DetectionData, DetectionEval
from experiments._shared import NARROW_REGIONS, QUICK_DENSE_OPTIM, QUICK_DETECTION, QUICK_PROPOSALS, voc07

_MODEL = ModelConfig(
    "fast_rcnn_vgg16", rois_per_image=32, bg_iou_low=0.0, dropout=0.2, backbone=NARROW_REGIONS, norm={"momentum": 0.95}
)
_CAFFENET = ModelConfig("fast_rcnn_alexnet", inclusive_boxes=True, backbone=CAFFENET | {"ceil_mode": True})

VOC07 = voc07(
    DetectionConfig(
        model=ModelConfig("fast_rcnn_vgg16", inclusive_boxes=True),
        input=DetectionData(crop=(1000, 1000), short_side=600, long_side=1000, proposals=2000, workers=8),
        eval=DetectionEval(batch_size=1),
        steps=40_000,
        batch_size=2,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=5_000,
        optim=OptimizerConfig(
            learning_rate=1e-3,
            weight_decay=5e-4,
            bias_lr_mult=2.0,
            schedule="step",
            milestones=(0.75,),
            frozen=("backbone/conv[12]_*",),
        ),
    )
)

PRESETS = {
    "quick": replace(QUICK_DETECTION, model=_MODEL, input=QUICK_PROPOSALS, steps=1200, optim=QUICK_DENSE_OPTIM),
    "voc07": VOC07,
    "voc07_caffenet": replace(VOC07, model=_CAFFENET, optim=replace(VOC07.optim, frozen=("backbone/conv_0/*",))),
    "voc0712": voc07(replace(VOC07, steps=60_000), "trainval0712"),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc07")
