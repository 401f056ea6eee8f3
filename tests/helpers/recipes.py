"""The page docs/recipes.md, which follows from the docstrings of the experiments; run this to write it anew."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "recipes.md"
CHAPTERS = {
    "Classification": "alexnet_imagenet vgg_imagenet nin_imagenet googlenet_imagenet resnet_imagenet densenet_imagenet"
    " senet_imagenet efficientnet_imagenet darknet_imagenet",
    "Segmentation": "fcn_voc hypercolumn_voc deeplab_voc unet_isbi camvid",
    "Masks of objects in boxes": "hypercolumn_masks",
    "Detection": "rcnn_voc sppnet_voc fast_rcnn_voc faster_rcnn_voc yolo_voc",
}
HEAD = """# Recipes

Each experiment is a page of presets: a net, its data and how it is trained, as values that any flag changes.
`cvjax train` lists them, `cvjax train EXPERIMENT PRESET` runs one, and `cvjax train EXPERIMENT --help` shows all of its
flags. `quick`, which every experiment has, trains a small net from scratch within minutes on two cores, without any
data at hand but for `camvid` and `unet_isbi`.

Numbers such as [1512.03385](https://arxiv.org/abs/1512.03385) are papers on arXiv. Published figures are the papers'
or the named releases', not ours; what was measured here stands in the [results](results.md), with what nobody has run
yet. The tables are those of the experiments' own docstrings.
"""


def names() -> list[str]:
    """All experiments, those of a chapter beside one another."""
    return [name for chapter in CHAPTERS.values() for name in chapter.split()]


def section(name: str) -> str:
    """What the docstring of an experiment says, without its commands and what leads to them."""
    docstring = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8"))) or ""
    parts = [part for part in docstring.split("\n\n") if not part.startswith("    ") and not part.endswith(":")]
    text = "\n\n".join([f"### `{name}`", *parts])
    text = re.sub(r"\b(\d{4}\.\d{4,5})\b", r"[\1](https://arxiv.org/abs/\1)", text)
    return text.replace("docs/results.md", "[results](results.md)")


def page() -> str:
    """The whole page."""
    chapters = [f"## {title}\n\n" + "\n\n".join(map(section, found.split())) for title, found in CHAPTERS.items()]
    return "\n\n".join([HEAD.rstrip(), *chapters]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
