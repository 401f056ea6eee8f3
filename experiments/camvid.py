"""Street scenes of CamVid with U-Net or DeepLab v3+.

    python -m experiments.camvid quick --input.manual-dir FOLDER            a narrow U-Net from scratch, CPU
    python -m experiments.camvid camvid --input.manual-dir FOLDER           U-Net at full size
    python -m experiments.camvid camvid --model.name deeplabv3plus_resnet50 --init resnet50
    python -m experiments.camvid quick --resume                             continues a run that was stopped

FOLDER holds `train`, `trainannot`, `val`, ... as SegNet's authors publish them, or `train/images`, `train/masks`, ...
Without the flag the set is looked for as `camvid` or `CamVid` in the folder of prepared data sets, or as
`cvjax data prepare` wrote it. It has 11 classes, unlabeled pixels do not count, and where there is a
split `test` the papers score that: `--input.eval-split test`.

| preset | recipe | steps x batch | published mIoU on test |
| --- | --- | --- | --- |
| quick | a U-Net of width 16 on images of 180x240 | 1,200 x 8 | docs/results.md, beside the same in PyTorch |
| quick_deeplab | DeepLab v3+ on a ResNet-50, on the same images | 240 x 8 | docs/results.md |
| camvid | SegNet's (1511.00561) at 360x480, for U-Net | 12,000 x 12 | 46.4 SegNet, 66.9 FC-DenseNet (1611.09326) |
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from experiments._shared import MUON

QUICK = SegmentationConfig(
    model=ModelConfig("unet", width=16, norm={"momentum": 0.95}),
    data="camvid",
    steps=1200,
    batch_size=8,
    jaccard_weight=1.0,
    log_every=20,
    eval_every=300,
    checkpoint_every=150,
    # Crops are never larger than the image, and whole cells of the lowest map.
    input=SegmentationData(crop=(160, 208), resize=(180, 240), min_scale=0.9, max_scale=1.5, scale_step=0.0),
    optim=replace(MUON, learning_rate=0.02, schedule="cosine"),
    eval=SegmentationEval(batch_size=8, pad_multiple=1),
)

PRESETS = {
    "quick": QUICK,
    "quick_deeplab": replace(
        QUICK,
        model=ModelConfig("deeplabv3plus_resnet50", dropout=0.1),
        steps=240,
        eval_every=60,
        checkpoint_every=60,
        input=SegmentationData(crop=(180, 240), resize=(180, 240)),
        optim=MUON,
        eval=SegmentationEval(batch_size=4, pad_multiple=1),
    ),
    "camvid": SegmentationConfig(
        model=ModelConfig("unet"),
        data="camvid",
        steps=12_000,
        batch_size=12,
        class_balance=1.0,
        log_every=100,
        eval_every=1_000,
        checkpoint_every=500,
        input=SegmentationData(
            crop=(360, 480), resize=(360, 480), min_scale=0.75, max_scale=1.5, scale_step=0.0, workers=4
        ),
        optim=OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=5e-4, warmup=0.02),
        eval=SegmentationEval(batch_size=4, pad_multiple=1),
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__)
