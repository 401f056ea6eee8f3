"""U-Net on the membranes of the ISBI 2012 challenge, or on any cells that are laid out like them.

    python -m experiments.unet_isbi quick --input.manual-dir FOLDER    a narrow net, CPU
    python -m experiments.unet_isbi isbi --input.train-split all       trains on all thirty sections
    python -m experiments.unet_isbi quick --resume                     continues a run that was stopped

FOLDER holds `images` and `labels`, thirty pictures each; without the flag it is looked for as `isbi_membrane` in the
folder of prepared data sets. There is no official validation split, so the last six sections are held out; the other
folds are `--input.train-split train1 --input.eval-split val1` and so on (see `cvjax.datasets.isbi`).

| preset | paper | steps x batch | published on the challenge's test |
| --- | --- | --- | --- |
| quick | the unpadded net at a quarter of its width, three halvings | 2,400 x 4 | docs/results.md |
| isbi | 1505.04597: one large tile a step, elastic | 30,000 x 1 | warping 0.000353, Rand 0.0382, pixel 0.0611 |

The paper's elastic deformation moves by 10 pixels on a grid of 3x3; borders between cells weigh w0 = 10, sigma = 5.
Learning rate and length are ours, as the paper names none.
"""

from dataclasses import replace

from cvjax.experiment import ModelConfig, OptimizerConfig, main, parse
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval

# Of the probability of a cell; each error is reported at its best, as the challenge does.
_THRESHOLDS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))

ISBI = SegmentationConfig(
    model=ModelConfig("unet_original"),
    data="isbi_membrane",
    steps=30_000,
    batch_size=1,
    class_balance=1.0,
    log_every=100,
    eval_every=3_000,
    checkpoint_every=1_000,
    input=SegmentationData(
        crop=(572, 572),
        min_scale=1.0,
        max_scale=1.0,
        scale_step=0.0,
        flip=0.5,
        flip_vertical=0.5,
        rotate=True,
        elastic=10.0,
        brightness=0.2,
        contrast=0.2,
        border_weight=10.0,
        border_sigma=5.0,
    ),
    optim=OptimizerConfig(name="sgd", learning_rate=1e-3, momentum=0.99, weight_decay=0.0, schedule="poly"),
    eval=SegmentationEval(batch_size=1, em_thresholds=_THRESHOLDS),
)

PRESETS = {
    "quick": replace(
        ISBI,
        model=ModelConfig("unet_original", width=16, depth=3, dropout=0.2),
        steps=2400,
        batch_size=4,
        class_balance=0.5,
        log_every=50,
        eval_every=800,
        checkpoint_every=200,
        input=replace(ISBI.input, crop=(220, 220)),
        optim=OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup=0.03),
        eval=replace(ISBI.eval, window=(260, 260)),
    ),
    "isbi": ISBI,
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__)
