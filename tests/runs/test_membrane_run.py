"""A whole run of the unpadded U-Net in this process: trained on drawn cells, scored again, asked about pictures."""

import json

import cv2
import numpy as np
import pytest
from commands import configure, run
from rich.console import Console

from cvjax.cli.evaluate import Arguments, evaluate_checkpoint
from cvjax.cli.predict import Arguments as PredictArguments
from cvjax.cli.predict import predict_files
from cvjax.errors import ConfigError, DataError
from experiments import unet_isbi

pytestmark = pytest.mark.slow

# Every random change is on, so that they run; images of two sizes, none of which the net could take as it is.
TINY = (
    "quick --model.width 2 --model.depth 1 --input.crop 36 36 --input.elastic 2 --batch-size 8 --eval.batch-size 8"
    " --eval.window 16 16 --steps 4 --log-every 2 --eval-every 4 --checkpoint-every 4"
).split()
ERRORS = ("pixel_error", "rand_error", "one_minus_rand_index", "warping_error")


def draw_cells(folder, count: int = 10):
    """Bright cells of 10 pixels between dark membranes of two, in ten pictures."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        rows, columns = np.mgrid[: 50 + number % 2, :61]
        cells = ((rows % 12 < 10) & (columns % 12 < 10)).astype(np.uint8)
        image = cells * 120 + rng.integers(0, 90, cells.shape, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), cells * 255)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_cells(tmp_path_factory.mktemp("cells") / "em")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    run(configure(unet_isbi, [*TINY, "--input.manual-dir", folder, "--workdir", workdir]))
    return workdir


def test_a_run_reports_the_challenges_errors_and_draws(trained):
    report = json.loads((trained / "report.json").read_text())
    assert report["examples"] == 2
    assert all(0 <= report[name] < 1 for name in ERRORS)
    assert report["pixel_error"] > 0
    assert report["pixel_error_threshold"] in unet_isbi.PRESETS["quick"].eval.em_thresholds
    assert cv2.imread(str(trained / "predictions.png")).shape[1] > 300


def test_evaluate_gives_the_loops_figures_whatever_the_tiles(trained):
    looped = json.loads((trained / "report.json").read_text())
    for window in (None, (200, 200)):
        report = evaluate_checkpoint(Arguments(str(trained), window=window), Console(quiet=True))
        assert {name: report[name] for name in ERRORS} == pytest.approx({name: looped[name] for name in ERRORS})
        assert report["miou"] == pytest.approx(looped["miou"])
    report = evaluate_checkpoint(
        Arguments(str(trained), split="val1", em_thresholds=(0.5,), parallel="pmap", flip=True), Console(quiet=True)
    )
    assert report["examples"] == 2
    assert report["rand_error_threshold"] == 0.5


@pytest.mark.parametrize("size", [(1, 1), (7, 90)])
def test_pictures_of_any_size(trained, tmp_path, size):
    cv2.imwrite(str(tmp_path / "a.png"), np.full(size, 128, np.uint8))
    overlay, mask = predict_files(PredictArguments(str(trained), (str(tmp_path / "a.png"),), out=str(tmp_path / "out")))
    assert cv2.imread(str(mask), cv2.IMREAD_UNCHANGED).shape[:2] == size
    assert overlay.exists()


def test_what_the_user_can_mend(folder, tmp_path):
    def fails(kind, match: str, *flags: object) -> None:
        with pytest.raises(kind, match=match):
            run(configure(unet_isbi, [*TINY, "--workdir", tmp_path / "run", *flags]))

    fails(DataError, r"no folders images and labels .*--input\.manual-dir", "--data-dir", tmp_path)
    there = ("--input.manual-dir", folder)
    fails(ConfigError, "nearest sizes that fit are 34x34 or 36x36", *there, "--input.crop", 35, 35)
    fails(ConfigError, "not square", *there, "--input.crop", 36, 40)
    fails(ConfigError, "input.cells is 2, and the classes are 0 to 1", *there, "--input.cells", 2)
