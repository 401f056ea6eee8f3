"""Configures how examples of any task are read and varied; every task's configuration has it."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Says how examples of any task are read and varied.

    Attributes:
      train_split: Name of the split that trains.
      eval_split: Name of the split that is scored; `val` is the split that a set holds out, also where the set names it
        otherwise.
      fraction: Part of the training split that is used, above 0 to 1. It is the same at every start, and lies within
        that of every larger fraction.
      balance: Power of the inverse frequency of an example's label by which it is drawn more often: 1 makes all classes
        equally likely, 0 draws each example once in an epoch. Of masks and boxes it is LVIS's repeat factor, see
        `cvjax.data.drawing.balance`.
      balance_threshold: Share of images with masks or boxes below which a class counts as rare; 0.001 in LVIS.
      manual_dir: Folder with archives, an unpacked devkit, or images in folders, from which the data set is read; or a
        file of annotations.
      format: Name of the format of one's own data, such as coco or yolo; recognized by default.
      hold_out: Share of the training split's examples that becomes `val`, drawn so that each class keeps its share;
        what was drawn is written to `split.json` in the work folder. By default the data set's own splits are used.
      hold_out_seed: Seed of that draw; by default the run's.
      split_file: File with the ids of each split, such as the `split.json` of another run.
      crop: Height and width of training crops, in pixels.
      flip: Probability of mirroring left and right.
      brightness: Half-width of the random factor on brightness around 1; 0 is off.
      contrast: Half-width of the random factor on contrast around 1; 0 is off.
      saturation: Half-width of the random factor on saturation around 1; 0 is off.
      pca_noise: Standard deviation of AlexNet's noise along the principal components of ImageNet's colors, as a
        multiple of theirs; 0.1 in the paper, 0 is off.
      exposure: Largest factor by which the value of HSV goes up or down; 1.5 in YOLO, 1 is off.
      hsv_saturation: Largest factor by which the saturation of HSV goes up or down; 1.5 in YOLO, 1 is off.
      repeated_aug: Number of times that an image is drawn in an epoch, varied differently, in one batch; an epoch then
        sees so many times fewer images (repeated augmentation, 1902.05509).
      workers: Number of processes that decode; 0 decodes in threads of this process.
      on_bad_record: Whether to stop at a damaged record, or to skip and count it.
    """

    train_split: str = "train"
    eval_split: str = "val"
    fraction: float = 1.0
    balance: float = 0.0
    balance_threshold: float = 1.0
    manual_dir: str | None = None
    format: str | None = None
    hold_out: float | None = None
    hold_out_seed: int | None = None
    split_file: str | None = None
    crop: tuple[int, int] = (224, 224)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    pca_noise: float = 0.0
    exposure: float = 1.0
    hsv_saturation: float = 1.0
    repeated_aug: int = 1
    workers: int = 0
    on_bad_record: Literal["error", "skip"] = "error"


def recorded(config: DataConfig) -> dict[str, Any]:
    """Returns what a run records of its data, which must be the same where it goes on.

    It leaves out what may change, and choices that earlier versions did not have, where they are not made.
    """
    data, default = dataclasses.asdict(config), DataConfig()
    for unrelated in ("workers", "eval_split"):
        data.pop(unrelated)
    for later in ("fraction", "balance", "balance_threshold"):
        if data[later] == getattr(default, later):
            data.pop(later)
    return data
