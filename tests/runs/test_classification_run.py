"""A whole classification run in this process: trained from a zip, scored again, asked about pictures."""

import dataclasses
import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from commands import configure, run
from rich.console import Console

from cvjax.cli.evaluate import Arguments, evaluate_checkpoint
from cvjax.cli.predict import Arguments as PredictArguments
from cvjax.cli.predict import predict_files
from cvjax.errors import CheckpointError, ConfigError, DataError
from cvjax.tasks.load import load_for_inference
from experiments import efficientnet_imagenet, resnet_imagenet

pytestmark = pytest.mark.slow

# One block a stage, and an optimizer that compiles soon; mixing and every random change are on, so that they run.
TINY = (
    "quick --data image_folder_classification --model.width 8 --input.crop 32 32 --batch-size 16 --eval.batch-size 8"
    " --eval.resize 40 --steps 30 --log-every 10 --eval-every 30 --checkpoint-every 30 --optim.learning-rate 0.02"
    " --optim.name nesterov --label-smoothing 0 --mixup 0.2 --cutmix 1.0 --input.brightness 0.1 --input.pca-noise 0.1"
).split()


def write_zip(path, count: int) -> None:
    """Noisy squares, red, green or blue as their folder says, of several sizes."""
    rng = np.random.default_rng(count)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            label = number % 3
            image = rng.integers(0, 90, (36 + number % 5, 44, 3), np.uint8)
            image[..., 2 - label] += 120  # OpenCV stores BGR
            content = cv2.imencode(".jpg", image)[1].tobytes()
            archive.writestr(f"{('red', 'green', 'blue')[label]}/{number:03d}.jpg", content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("colors")
    write_zip(place / "train.zip", 48)
    write_zip(place / "test.zip", 13)
    return place


def config(folder, workdir, *flags: str):
    return configure(resnet_imagenet, [*TINY, "--input.manual-dir", folder, "--workdir", workdir, *flags])


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    run(config(folder, workdir))
    return workdir


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def test_a_run_learns_and_leaves_what_a_person_looks_at(trained):
    report = json.loads((trained / "report.json").read_text())
    assert report["examples"] == 13
    assert report["top1"] > 0.8
    assert report["top5"] == 1.0
    for name in ("predictions", "confusion", "reliability", "curves"):
        assert cv2.imread(str(trained / f"{name}.png")).shape[1] > 300
    assert (trained / "report.md").read_text().startswith("| class | accuracy % |\n")
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 31))
    assert [line["val/top1"] for line in lines if "val/top1" in line] == [report["top1"]]
    told = json.loads((trained / "config.json").read_text())
    assert told["task"]["kind"] == "classification"
    assert told["task"]["class_names"] == ["blue", "green", "red"]


def test_evaluate_gives_the_loops_figures_and_ten_crops_others(trained, tmp_path):
    console = quiet()
    arguments = Arguments(str(trained), pictures=str(tmp_path))
    report, looped = evaluate_checkpoint(arguments, console), json.loads((trained / "report.json").read_text())
    assert {key: report[key] for key in looped} == looped
    assert (report["data"], report["split"]) == ("image_folder_classification", "test")
    assert "top-1 " in console.file.getvalue()
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "reliability.png", "report.md"}
    ten = evaluate_checkpoint(Arguments(str(trained), crops="ten"), console)
    assert ten["examples"] == 13
    assert ten["top1"] > 0.8
    assert ten["loss"] != report["loss"]


def test_predict_names_the_likeliest_classes(trained, tmp_path):
    for name, shape in (("wide", (7, 301, 3)), ("dot", (1, 1, 3))):
        image = np.random.default_rng(0).integers(0, 90, shape, np.uint8)
        image[..., 0] += 120
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    console = quiet()
    files = tuple(str(tmp_path / f"{name}.png") for name in ("wide", "dot"))
    assert predict_files(PredictArguments(str(trained), files, out=str(tmp_path / "out")), console) == []
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3  # the last names the sheet
    assert len((tmp_path / "out" / "classes.csv").read_text().splitlines()) == 1 + 2 * 3
    for line, file in zip(lines, files):
        assert line.startswith(f"{file}: ")
        chances = [float(part.rsplit(" ", 1)[1].rstrip("%")) for part in line.removeprefix(f"{file}: ").split(", ")]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(100, abs=0.2)
    assert lines[0].startswith(f"{files[0]}: blue ")


def test_a_checkpoint_is_rebuilt_with_its_task(trained):
    loaded = load_for_inference(trained)
    assert loaded.task.name == "classification"
    assert loaded.task.config.input.crop == (32, 32)
    assert loaded.task.config.eval.resize == 40
    images = loaded.task.normalize(np.zeros((2, 32, 32, 3), np.uint8))
    assert loaded.model.apply(loaded.variables, images, train=False).shape == (2, 3)


def test_what_does_not_fit_is_one_sentence(trained, folder, tmp_path):
    console = quiet()
    with pytest.raises(ConfigError, match=r"^--scales, --flip is of no use to a checkpoint of this task"):
        evaluate_checkpoint(Arguments(str(trained), scales=(0.5,), flip=True), console)
    other = shutil.copytree(folder, tmp_path / "other")
    with zipfile.ZipFile(other / "train.zip", "a") as archive:
        archive.writestr("gray/0.jpg", b"")
    with pytest.raises(DataError, match="gray is no class of the model, which knows blue, green, red; give data"):
        evaluate_checkpoint(Arguments(str(trained), manual_dir=str(other)), console)
    with pytest.raises(ConfigError, match=r"ten crops of 32x32 pixels are cut from a larger square; give its side"):
        evaluate_checkpoint(Arguments(str(trained), crops="ten", resize=20), console)
    with pytest.raises(CheckpointError, match="add --resume to continue it"):
        run(config(folder, trained))
    with pytest.raises(ConfigError, match="label_smoothing is 1"):
        run(config(folder, tmp_path, "--label-smoothing", "1"))
    with pytest.raises(ConfigError, match="--steps, --epochs or --hours"):
        run(config(folder, tmp_path, "--steps", "None"))
    with pytest.raises(ConfigError, match="voc_segmentation has masks, no labels"):
        run(config(folder, tmp_path, "--data", "voc_segmentation"))


@pytest.mark.parametrize("experiment", [resnet_imagenet, efficientnet_imagenet])
def test_a_bare_command_takes_imagenet_where_it_is_prepared(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path))
    assert configure(experiment).data == "scenes"
    assert "imagenet2012 is not prepared or found under" in capsys.readouterr().out
    assert configure(experiment, ["--data", "cifar10"]).data == "cifar10"
    place = tmp_path / "imagenet2012" / "5.1.0"
    place.mkdir(parents=True)
    (place / "dataset_info.json").write_text("{}")
    name = experiment.__name__.split(".")[1]
    expected = dataclasses.replace(experiment.PRESETS["imagenet"], workdir=f"runs/{name}/imagenet")
    assert configure(experiment) == expected
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="cifar10 is not prepared in"):
        run(configure(experiment, ["cifar10"]))
