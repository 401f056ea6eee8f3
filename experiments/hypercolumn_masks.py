"""Hypercolumns as the paper uses them: the masks of objects inside given boxes, on PASCAL VOC 2012 or the scenes.

    python -m experiments.hypercolumn_masks                  VOC where it is unpacked, else the embedded scenes
    python -m experiments.hypercolumn_masks quick --model.levels fc7        what the top layer alone can tell
    python -m experiments.hypercolumn_masks quick --model.grid 1            one classifier for the whole box
    python -m experiments.hypercolumn_masks voc --init vgg16

| preset | paper | steps x batch | published |
| --- | --- | --- | --- |
| quick | a narrow VGG with BatchNorm, from scratch on the scenes | 1,200 x 16 |  |
| voc | 1411.5752: VGG-16, 5 x 5 classifiers, masks of 50 x 50 pixels | 30,000 x 20 | none for given boxes |

An object's pixels are those of its class inside its box. The paper scores boxes that a detector found, by the average
precision of their masks at overlaps of 0.5 and 0.7; here boxes are given, so the figures are the mean overlap and the
shares of objects above 0.5 and 0.7. Its recipe is not public in full; this one is that of `hypercolumn_voc`.
"""

from cvjax.experiment import ModelConfig, main, parse
from cvjax.tasks.object_masks.config import ObjectMasksConfig, ObjectMasksData, ObjectMasksEval
from experiments._shared import ADAMW
from experiments.hypercolumn_voc import QUICK_MODEL, VOC_OPTIM

PRESETS = {
    "quick": ObjectMasksConfig(
        model=QUICK_MODEL.replace(mask_size=28),
        data="scenes",
        steps=1200,
        batch_size=16,
        log_every=50,
        eval_every=1200,
        checkpoint_every=300,
        input=ObjectMasksData(crop=(112, 112), min_scale=0.8, max_scale=1.25),
        optim=ADAMW,
        eval=ObjectMasksEval(batch_size=10),
    ),
    "voc": ObjectMasksConfig(
        model=ModelConfig("hypercolumn_vgg16"),
        data="voc_segmentation",
        steps=30_000,
        batch_size=20,
        eval_every=5_000,
        input=ObjectMasksData(workers=8),
        eval=ObjectMasksEval(batch_size=4, boxes=64, pad_multiple=32),
        optim=VOC_OPTIM,
    ),
}

if __name__ == "__main__":
    main(parse, PRESETS, __doc__, default="voc")
