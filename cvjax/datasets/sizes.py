"""Tells how many classes and examples a data set of the catalog has, without its files."""

from collections.abc import Callable, Mapping

from cvjax.data.dataset import Target
from cvjax.datasets.published import PUBLISHED
from cvjax.datasets.tfds_sets import SETS

_LABELED = {"imagenet2012": 1000, "cifar10": 10, "cifar100": 100, "fashion_mnist": 10}

_EXAMPLES = {
    ("imagenet2012", "train"): 1_281_167,
    ("cifar10", "train"): 50_000,
    ("cifar100", "train"): 50_000,
    ("fashion_mnist", "train"): 60_000,
    ("voc_segmentation", "trainaug"): 10_582,
    ("coco", "train2017"): 118_287,
    ("camvid", "train"): 367,
    ("isbi_membrane", "train"): 30,
}


def class_count(name: str, target: Target) -> int | None:
    """Returns the number of classes of a data set, with a background where the target's labels have one.

    None stands for a user's own folder, whose files alone tell.
    """
    if name == "scenes":
        from cvjax.datasets.scenes.objects import CLASS_NAMES

        return len(CLASS_NAMES) - (target in ("label", "boxes"))
    by_name: Mapping[str, Callable[[], int]] = {
        "voc_segmentation": _voc,
        "voc_detection": lambda: _voc() - 1,
        "coco": lambda: 80,
        "isbi_membrane": lambda: 2,
    }
    if name in by_name:
        return by_name[name]()
    if name in PUBLISHED:
        return len(PUBLISHED[name].class_names)
    names = SETS[name].class_names if name in SETS else None
    return _LABELED.get(name) if names is None else len(names)


def example_count(name: str, split: str) -> int | None:
    """Returns the number of examples of a split as its authors published it, or None where nobody has counted."""
    return _EXAMPLES.get((name, split))


def _voc() -> int:
    from cvjax.datasets.voc.segmentation import VOC_CLASSES

    return len(VOC_CLASSES)
