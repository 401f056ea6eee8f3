"""A net scores data by the classes' names: their order does not count, some may be absent, unknown ones are refused."""

import io
import json
import logging
import pathlib

import cv2
import jax
import numpy as np
import pytest
from commands import configure
from rich.console import Console
from saved_run import drawn_run
from tiny_sets import box_xml, encoded, photo

from cvjax.cli import crf_search
from cvjax.cli.evaluate import Arguments, evaluate_checkpoint
from cvjax.engine.run import initial_variables
from cvjax.errors import DataError
from cvjax.tasks.load import load_for_inference
from cvjax.tasks.segmentation.task import Segmentation
from experiments import deeplab_voc, resnet_imagenet, yolo_voc

NAMES = ("ground", "water", "roof")
VOID = 6


def _evaluate(run: pathlib.Path, **settings) -> dict:
    return evaluate_checkpoint(Arguments(str(run), **settings), Console(file=io.StringIO(), width=200))


def _draw_masks(folder: pathlib.Path, names=NAMES, kept=NAMES) -> pathlib.Path:
    """Blocks of color and of classes on 64 x 64 pixels; numbers follow `names`, and what is not `kept` is void."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(4):
            image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
            blocks = cv2.resize(rng.integers(0, 4, (8, 8), np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
            numbers = [names.index(name) if name in kept else VOID for name in NAMES] + [VOID]
            cv2.imwrite(str(folder / part / "images" / f"{number}.png"), image)
            cv2.imwrite(str(folder / part / "masks" / f"{number}.png"), np.array(numbers, np.uint8)[blocks])
    (folder / "classes.txt").write_text("\n".join(name for name in names if name in kept) + "\n")
    return folder


def _segmentation(folder: pathlib.Path, *flags: object):
    tiny = (
        f"quick --data image_folder_segmentation --input.void {VOID} --model.name deeplabv3plus_resnet18"
        " --model.backbone.width 4 --model.backbone.stage-sizes 1 1 1 1 --model.aspp-features 4"
        " --model.low-level-features 4 --input.crop 48 48 --input.workers 0 --eval.batch-size 8 --eval.pad-multiple 64"
    )
    return configure(deeplab_voc, [*tiny.split(), "--input.manual-dir", folder, *flags])


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A drawn net of the three classes, and its data."""
    folder = _draw_masks(tmp_path_factory.mktemp("ground"))
    run = tmp_path_factory.mktemp("runs") / "segmenter"
    drawn_run(_segmentation(folder), run, balanced="classifier")
    return run, folder


def _by_hand(run: pathlib.Path, folder: pathlib.Path, names) -> dict[str, float]:
    """IoU by class name from the net's predictions of single photographs and the masks as they lie, in numpy."""
    loaded = load_for_inference(run)
    pairs = []
    for path in sorted((folder / "val" / "images").iterdir()):
        mask = cv2.imread(str(folder / "val" / "masks" / path.name), cv2.IMREAD_UNCHANGED)
        guess = loaded.predict(cv2.imread(str(path))[..., ::-1])
        counted = mask != VOID
        pairs.append((np.array(names)[mask[counted]], np.array(NAMES)[guess[counted]]))
    truth, guess = (np.concatenate(part) for part in zip(*pairs))
    return {n: ((truth == n) & (guess == n)).sum() / ((truth == n) | (guess == n)).sum() for n in names}


@pytest.mark.slow
def test_a_segmentation_is_scored_by_name_in_any_order(segmenter, tmp_path):
    run, folder = segmenter
    own = _evaluate(run)
    iou = _by_hand(run, folder, NAMES)
    assert min(iou.values()) > 0.01  # so that another order would give other scores
    assert own["iou"] == pytest.approx(iou)
    assert own["miou"] == pytest.approx(np.mean(list(iou.values())))
    order = ("roof", "ground", "water")
    other = _evaluate(run, manual_dir=str(_draw_masks(tmp_path / "other", order)))
    assert {key: other[key] for key in own if key != "checkpoint"} == {k: own[k] for k in own if k != "checkpoint"}


def test_classes_that_data_lack_are_in_no_mean(segmenter, tmp_path):
    run, _ = segmenter
    kept = ("roof", "water")
    folder = _draw_masks(tmp_path / "some", kept, kept)
    report = _evaluate(run, manual_dir=str(folder), boundary=True, trimap=(2,))
    iou = _by_hand(run, folder, kept)
    photos = [cv2.imread(str(path))[..., ::-1] for path in (folder / "val" / "images").iterdir()]
    assert any((load_for_inference(run).predict(photo) == NAMES.index("ground")).any() for photo in photos)
    assert np.isnan(report["iou"]["ground"])
    assert {name: report["iou"][name] for name in kept} == pytest.approx(iou)
    assert report["miou"] == pytest.approx(np.mean(list(iou.values())))
    assert report["absent"] == ["ground"]


def test_unknown_names_are_refused(segmenter, tmp_path):
    folder = _draw_masks(tmp_path / "data")
    (folder / "classes.txt").write_text("ground\nriver\nroof\n")
    with pytest.raises(DataError, match="river is no class of the model, which knows ground, water, roof"):
        _evaluate(segmenter[0], manual_dir=str(folder))


@pytest.mark.slow
def test_a_crf_is_searched_by_name(segmenter, tmp_path):
    run, folder = segmenter
    order = ("roof", "ground", "water")
    other = _draw_masks(tmp_path / "other", order)
    found = []
    for place in (folder, other):
        grid = dict.fromkeys(("smooth_weight", "smooth_sigma", "appearance_weight", "color_sigma"), (3.0,))
        arguments = crf_search.Arguments(str(run), manual_dir=str(place), rounds=1, appearance_sigma=(49.0,), **grid)
        found.append(crf_search.search_checkpoint(arguments, Console(file=io.StringIO())))
    assert found[0]["without"] == found[1]["without"] == pytest.approx(_evaluate(run)["miou"], abs=2e-3)
    assert found[0]["trials"] == found[1]["trials"]


@pytest.mark.slow
def test_cases_void6_and_swapped_score_the_same(shared_dir, tmp_path):
    cases = shared_dir / "cases"
    drawn_run(_segmentation(cases / "void6"), tmp_path / "run", balanced="classifier")
    own, other = (_evaluate(tmp_path / "run", manual_dir=str(cases / name)) for name in ("void6", "swapped"))
    assert min(own["iou"].values()) > 0.05
    assert own["iou"] == other["iou"]
    assert own["miou"] == other["miou"]


def _start_from(run: pathlib.Path, folder: pathlib.Path) -> dict:
    """The first variables of a run on a folder that starts from another run."""
    config = _segmentation(folder, "--init", run)
    dataset = Segmentation.open(config, "train")
    model = config.model.build(num_classes=len(dataset.class_names))
    return jax.device_get(initial_variables(Segmentation.create(config, dataset, model), model))


@pytest.mark.slow
def test_a_run_that_starts_from_another_takes_the_head_by_name(segmenter, tmp_path, caplog):
    run, _ = segmenter
    before = load_for_inference(run).variables["params"]["classifier"]
    order = ("roof", "ground", "water")
    with caplog.at_level(logging.WARNING, "cvjax.weights"):
        head = _start_from(run, _draw_masks(tmp_path / "other", order))["params"]["classifier"]
    for part in ("kernel", "bias"):
        for label, name in enumerate(order):
            np.testing.assert_array_equal(head[part][..., label], before[part][..., NAMES.index(name)])
    assert "the head's rows are taken by the names of the classes, in the order roof, ground, water" in caplog.text


def test_a_head_of_other_names_starts_anew_and_says_so(segmenter, tmp_path, caplog):
    run, folder = segmenter
    other = _draw_masks(tmp_path / "other")
    (other / "classes.txt").write_text("ground\nriver\nroof\n")
    with caplog.at_level(logging.WARNING, "cvjax.weights"):
        variables = _start_from(run, other)["params"]
    stored = load_for_inference(run).variables["params"]
    assert not np.allclose(variables["classifier"]["kernel"], stored["classifier"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, variables["backbone"], stored["backbone"])
    assert "its classes lack river: the head starts anew" in caplog.text
    assert "these layers start anew: classifier" in caplog.text
    same = _start_from(run, folder)["params"]
    jax.tree.map(np.testing.assert_array_equal, same, stored)


def _draw_labels(folder: pathlib.Path, names, split="val") -> pathlib.Path:
    rng = np.random.default_rng(0)
    for label, name in enumerate(names):
        (folder / split / name).mkdir(parents=True)
        for number in range(3):
            image = rng.integers(0, 256, (32, 32, 3), np.uint8)
            cv2.imwrite(str(folder / split / name / f"{label}{number}.png"), image)
    return folder


def _photos(folder: pathlib.Path) -> dict[pathlib.Path, np.ndarray]:
    return {path: cv2.imread(str(path))[..., ::-1] for path in sorted(folder.rglob("*.png"))}


def test_a_classifier_is_scored_by_name_on_a_part_of_its_classes(tmp_path):
    names = ("blue", "green", "red")
    run, flags = (
        tmp_path / "run",
        (
            "quick --data image_folder_classification --model.width 4 --model.stage-sizes 1 1 1 1 --input.crop 32 32"
            " --eval.batch-size 8 --input.workers 0"
        ),
    )
    own = _draw_labels(_draw_labels(tmp_path / "own", names, "train"), names)
    drawn_run(configure(resnet_imagenet, [*flags.split(), "--input.manual-dir", own]), run)
    loaded = load_for_inference(run)
    for kept in (names, ("green", "red"), ("red",)):
        folder = own if kept == names else _draw_labels(tmp_path / "-".join(kept), kept)
        photos = _photos(folder / "val").items()
        right = [names[loaded.predict(image).argmax()] == path.parent.name for path, image in photos]
        report = _evaluate(run, manual_dir=str(folder))
        assert report["top1"] == pytest.approx(np.mean(right))
        assert report["accuracy"].keys() == set(names)
        assert report.get("absent", []) == [name for name in names if name not in kept]
    folder = _draw_labels(tmp_path / "amber", ("amber", "blue"))
    with pytest.raises(DataError, match="amber is no class of the model, which knows blue, green, red"):
        _evaluate(run, manual_dir=str(folder))


def _draw_boxes(folder: pathlib.Path, names) -> pathlib.Path:
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for number in range(3):
            boxes = [("cat", 3, 4, 40, 40), ("dog", 20, 16, 60, 60)]
            (folder / split / f"{number}.xml").write_bytes(box_xml(boxes, size=(64, 64)))
            (folder / split / f"{number}.png").write_bytes(encoded(photo(number, 64, 64), "PNG"))
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder


def test_a_detector_is_scored_by_name_in_any_order(tmp_path):
    flags = (
        "quick --data xml_folder_detection --model.grid 4 4 --model.hidden 16 --input.crop 64 64 --eval.crop 64 64"
        " --eval.score-threshold 0 --eval.batch-size 8 --input.workers 0"
    )
    run, own = tmp_path / "run", _draw_boxes(tmp_path / "own", ("cat", "dog"))
    drawn_run(configure(yolo_voc, [*flags.split(), "--input.manual-dir", own]), run)
    report = _evaluate(run)
    other = _evaluate(run, manual_dir=str(_draw_boxes(tmp_path / "other", ("dog", "cat"))))
    assert json.dumps(report) == json.dumps(other)
    assert report["objects"] == {"cat": 3, "dog": 3}
    assert sum(sum(kinds.values()) for kinds in report["errors"].values()) > 0
