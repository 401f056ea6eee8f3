"""Commands of README and docs: each runs as it stands, but for fewer, smaller steps, or says there what it needs."""

import importlib
import json
import pathlib
import re
import shlex

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import configure, run
from documented import PAGES, commands
from own_sets import WRITERS, photos
from tiny_run import draw_folder
from tiny_sets import camvid_tree, class_tree, detection_tree, draw_membranes, photo, voc_tree, write_tree

from cvjax.datasets.scenes import render
from cvjax.datasets.scenes.objects import CLASS_NAMES
from cvjax.models import create_model
from cvjax.weights import to_torch, write_state_dict

pytestmark = pytest.mark.slow

# Pages that record what was run, with the time that it took.
RECORDS = {
    "results.md": "Every command here was run as it stands, for the time that stands beside it",
    "lab.md": "Every command here was run as it stands",
    "aot.md": "Every command here was run as it stands",
}
# What a command needs that a test cannot have, and the words with which its page says so.
NEEDS = {
    r"prepare (voc_segmentation|cityscapes|imagenet2012) ": r"as archives|their archives|ImageNet's archives",
    r"^deeplab_voc voc$": r"VOC 2012 \(and SBD\), as archives",
    r"^resnet_imagenet imagenet$": r"ImageNet's archives",
    r"prepare cifar10$|^resnet_imagenet cifar10$": r"a connection to the internet",
    r"fcn8s-heavy-pascal": r"the authors' file",
    r"(gs|s3)://BUCKET": r"a bucket of yours",
    r"--average 5": r"kept five checkpoints",
    r"--progress-from": r"an earlier run with a time budget",
    r"^cvjax\.cli\.sweeping\.sweep ": r"runs trials one after another",
    r"^cvjax\.cli\.aot .*--topology v5e": r"By TPU's own compiler",
    r"voc_pod|--cluster\.coordinator HOST0": r"[Ee](very|ach) host",
}
OWN = {
    "deeplab_voc": "image_folder_segmentation",
    "resnet_imagenet": "image_folder_classification",
    "yolo_voc": "xml_folder_detection",
}
SHORT = "--steps 1 --log-every 0 --eval-every 0 --checkpoint-every 0 --batch-size 8 --eval.batch-size 8".split()
# Most commands are not about the net, and a DeepLab takes several times as long to compile.
QUICKER = {"deeplab_voc": "--input.crop 32 32 --model.name unet --model.width 4 --model.depth 1 --eval.no-flip"}
SMALL = {
    "deeplab_voc": "--input.crop 33 33 --model.aspp-features 8 --model.backbone.width 8"
    " --model.backbone.stage-sizes 1 1 1 1 --eval.no-flip",
    "resnet_imagenet": "--input.crop 32 32 --eval.resize 32 --model.width 8 --model.stage-sizes 1 1 1 1",
    "camvid": "--input.crop 32 32 --model.width 4 --model.depth 2 --eval.no-flip",
    "unet_isbi": "--model.width 4 --optim.warmup 0",
    "yolo_voc": "--input.crop 64 64 --model.grid 4 4 --model.hidden 16",
    "faster_rcnn_voc": "--input.crop 64 64 --model.backbone.width 8 --model.rpn-pre-nms-top-n 64 64"
    " --model.rpn-post-nms-top-n 16 16",
    "fast_rcnn_voc": "--input.crop 64 64 --input.proposals 20",
    "rcnn_voc": "--input.crop 64 64 --input.proposals 20",
}


def _unique() -> list[tuple[str, str]]:
    """Commands and what stands around them, once each, whatever a page calls the user's folder.

    Studies are started in tests/studies, each with its smallest settings.
    """
    seen = {}
    for found in commands():
        if found.page not in RECORDS and "studies." not in found.text and "studying." not in found.text:
            text = re.sub(r"\b(VOCDEVKIT|CAMVID)\b", "FOLDER", found.text).removeprefix("experiments.")
            seen.setdefault(text, found.around)
    return list(seen.items())


COMMANDS = _unique()


def _needs(text: str) -> str | None:
    return next((words for pattern, words in NEEDS.items() if re.search(pattern, text)), None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder in which all commands are typed, with a few scenes, photographs and everybody's own folders."""
    place = tmp_path_factory.mktemp("documented")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("CVJAX_DATA_DIR", str(place / "data"))
        patch.setattr(render, "SIZES", {"train": 8, "val": 2, "test": 2})
        for name in ("a.jpg", "photo.jpg"):
            cv2.imwrite(name, photo(3, 50, 70))
        (place / "photos").mkdir()
        for number, size in enumerate(((50, 70), (66, 40))):
            cv2.imwrite(f"photos/{number}.jpg", photo(number, *size))
        (place / "list.txt").write_text("photos/0.jpg\nphoto.jpg\n")
        categories = [{"id": 5 + number, "name": name} for number, name in enumerate(CLASS_NAMES)]
        images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(2)]
        (place / "val.json").write_text(json.dumps({"images": images, "categories": categories}))
        clip = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
        for number in range(11):
            clip.write(photo(number, 48, 64))
        clip.release()
        np.save("a.npy", np.random.default_rng(0).dirichlet(np.ones(3), (50, 70)).astype(np.float32))
        draw_folder(place / "image_folder_segmentation", train=4, val=2)
        write_tree(place / "image_folder_classification", class_tree("train/", 2) | class_tree("val/", 1))
        write_tree(place / "xml_folder_detection", detection_tree({"train": range(4), "val": range(4, 7)}))
        for kind, write in WRITERS.items():
            write(place / f"pets-{kind}", photos(), kind != "voc")
        write_tree(place / "voc_segmentation" / "VOC2012", voc_tree(4, 2))
        for year, lists in (("VOC2007", ("trainval", "test")), ("VOC2012", ("trainval",))):
            write_tree(place / "voc_detection" / year, detection_tree({name: range(4) for name in lists}))
        write_tree(place / "camvid" / "CamVid", camvid_tree(segnet=True))
        draw_membranes(place / "unet_isbi")
        shapes = jax.eval_shape(create_model("resnet50").init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        write_state_dict(place / "resnet50.pth", to_torch("resnet50", zeros))
        yield place


def _data(words: list[str]) -> str:
    """The name of the data of a command; each has a folder of that name."""
    if "--data" in words:
        name = words[words.index("--data") + 1]
        return f"./{OWN[words[0]]}" if name == "FOLDER" else name
    if words[0].startswith("cvjax.cli.data.") and words[1] == "FOLDER":
        return "./xml_folder_detection"
    return words[1] if words[0].startswith("cvjax.cli") else words[0]


def _smaller(experiment: str, argv: list[str]) -> list[str]:
    """The flags that make an experiment's net small, the quickest where a command names nothing of the net."""
    names_net = any(word.startswith("--model") for word in argv)
    return (SMALL[experiment] if names_net else QUICKER.get(experiment, SMALL[experiment])).split()


def _execute(text: str) -> None:
    words = shlex.split(text)
    words = [_data(words) if word == "FOLDER" else word for word in words]
    module, *argv = words
    if module == "cvjax.cli.training.lr":
        argv += [*_smaller(argv[0], argv), "--batch-size", "8", "--sweep", "3"]
    if module == "cvjax.cli.crf_search" and len(argv) == 1:  # 6 trials in the place of 54
        argv += "--rounds 1 --appearance-sigma 30 --color-sigma 3 6".split()
    if module.startswith("cvjax.cli."):
        importlib.import_module(module).main(argv)
        return
    more = [*SHORT, *_smaller(module, argv)]
    if "--patience" in argv:
        more += ["--eval-every", "1"]
    if "--hours" in argv:  # a step takes longer than that
        more += ["--hours", "1e-9"]
    if "--resume" in argv:
        more += ["--steps", "2"]
    elif "--workdir" not in argv and pathlib.Path("runs", module, "quick").exists():  # where no run may start again
        more += ["--workdir", f"runs/{len(list(pathlib.Path('runs').iterdir()))}"]
    outcome = run(configure(importlib.import_module(f"experiments.{module}"), [*argv, *more]))
    assert outcome.step == (2 if "--resume" in argv else 1)
    assert outcome.report


@pytest.mark.parametrize(("text", "around"), COMMANDS, ids=[text for text, _ in COMMANDS])
def test_it_runs_or_says_what_it_needs(place, text, around):
    words = _needs(text)
    if words is not None:
        assert re.search(words, around), f"the page does not say that {text} needs {words}"
        return
    earlier = re.search(r"runs/(\w+)/(quick)", text) or ("--resume" in text and re.search(r"(\w+) (quick)", text))
    if earlier and not (place / "runs" / earlier[1] / earlier[2] / "checkpoints").exists():
        _execute(f"{earlier[1]} {earlier[2]}")
    _execute(text)


@pytest.mark.parametrize("page", RECORDS)
def test_a_page_of_records_says_so(page):
    text = next(path for path in PAGES if path.name == page).read_text()
    assert RECORDS[page] in text.replace("\n", " ")
