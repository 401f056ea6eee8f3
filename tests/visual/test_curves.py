"""Metrics files and the curves drawn from them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cvjax.errors import ConfigError, DataError
from cvjax.visual import curves

TRAIN = {"step": 10, "loss": 1.2, "learning_rate": 0.01, "images_per_second": 12.3}
SCORE = {"step": 100, "val/miou": 0.31, "val/pixel_accuracy": 0.8}


@pytest.fixture
def write(tmp_path):
    def write_lines(*entries, tail: str = ""):
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
        return path

    return write_lines


def points(path, name: str) -> list[tuple[int, float]]:
    steps, values = curves.read_metrics(path)[name]
    return list(zip(steps.tolist(), values.tolist()))


def test_reads_every_number(write):
    path = write(TRAIN, TRAIN | {"step": 20, "loss": 1.0}, SCORE | {"note": "text", "flag": True, "none": None})
    assert points(path, "loss") == [(10, 1.2), (20, 1.0)]
    assert points(path, "val/miou") == [(100, 0.31)]
    assert set(curves.read_metrics(path)) == {
        "loss", "learning_rate", "images_per_second", "val/miou", "val/pixel_accuracy"
    }  # fmt: skip


def test_the_last_value_of_a_repeated_step_wins(write):
    path = write({"step": 1, "loss": 5}, {"step": 1, "loss": 4}, {"step": 2, "loss": 3})
    assert points(path, "loss") == [(1, 4.0), (2, 3.0)]


def test_a_resumed_run_replaces_what_came_after(write):
    first = [{"step": step, "loss": 1.0} for step in (10, 20, 30, 40)]
    path = write(*first, {"step": 30, "val/miou": 0.5}, {"step": 25, "loss": 2.0}, {"step": 35, "loss": 2.0})
    assert points(path, "loss") == [(10, 1.0), (20, 1.0), (25, 2.0), (35, 2.0)]
    assert points(path, "val/miou") == [(30, 0.5)]


def test_a_line_cut_off_by_a_crash_is_passed_over_at_the_end_only(write):
    assert points(write(TRAIN, tail='{"step": 20, "lo'), "loss") == [(10, 1.2)]
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        curves.read_metrics(write(TRAIN, tail='{"step": 20, "lo\n{"step": 30, "loss": 1}\n'))
    with pytest.raises(DataError, match="line 1"):
        curves.read_metrics(write({"loss": 1.0}))


def test_missing_or_empty_files_are_the_users_to_mend(tmp_path, write):
    with pytest.raises(DataError, match="cannot read"):
        curves.read_metrics(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="none of loss"):
        curves.plot_curves(write({"step": 1, "images_per_second": 3}), tmp_path / "a.png")
    with pytest.raises(ConfigError, match="cannot write"):
        curves.plot_curves(write(TRAIN), write(TRAIN) / "a.png")


def test_one_panel_for_each_metric_that_is_there(write, tmp_path):
    heights = []
    for entries in ([TRAIN], [TRAIN, SCORE], [SCORE]):
        curves.plot_curves(write(*entries), tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.mode == "RGB"
            assert picture.width == 960
            assert np.asarray(picture).std() > 5  # something is drawn
            heights.append(picture.height)
    assert heights[2] < heights[0] < heights[1]


def test_draws_long_runs_and_losses_that_are_not_finite(write, tmp_path, recwarn):
    entries = [{"step": s, "loss": 1 / s if s % 7 else float("nan"), "learning_rate": 0.0} for s in range(1, 300)]
    curves.plot_curves(write(*entries, {"step": 300, "val/miou": float("nan")}), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    assert not recwarn


def test_moving_mean_by_hand():
    values = np.array([1.0, 2.0, 6.0, np.nan, 4.0])
    np.testing.assert_allclose(curves.moving_mean(values, 3), [1.5, 3.0, 4.0, np.nan, 4.0])


def test_small_learning_rates_are_scaled():
    values, title = curves._without_exponent(np.array([0.007, 0.0035]), "rate")
    np.testing.assert_allclose(values, [7, 3.5])
    assert "10^{-3}" in title
    assert curves._without_exponent(np.array([0.5]), "rate")[1] == "rate"


def test_pictures_need_no_global_matplotlib_state():
    code = (
        "import sys, cvjax.visual.curves, cvjax.visual.tables\n"
        "assert not {'matplotlib', 'rich', 'jax'} & set(sys.modules), 'imported too early'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "matplotlib.pyplot" not in sys.modules
