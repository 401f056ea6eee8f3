"""docs/adding/task.md: its folder, recipe and lines make a task that is trained, scored and shown photographs."""

import csv
import json

import cv2
import numpy as np
import pytest
from tiny_sets import photo
from worked_example import WorkedExample, read_losses

SMALL = (
    "--steps 16 --log-every 0 --batch-size 8 --input.workers 0 --input.crop 32 32 --model.width 4 --optim.warmup 0"
    " --eval.batch-size 6 --optim.learning-rate 0.02 --checkpoint-every 8"
).split()
HERE = ("-n", "0", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return WorkedExample("task.md", tmp_path_factory.mktemp("task"), ("conftest.py", "helpers"))


def test_it_is_a_folder_a_recipe_a_test_and_three_lines(example):
    folders = [path.rpartition("/")[0] for path in example.files]
    assert set(folders) == {"cvjax/tasks/tagging", "experiments", "tests/tasks"}
    assert {path: len(lines) for path, lines in example.lines.items()} == {
        "cvjax/tasks/load.py": 2,
        "pyproject.toml": 1,
    }
    starts = ("lint-imports", "python -m pytest tests/tasks", "cvjax train", "cvjax evaluate", "cvjax predict")
    assert len(example.commands) == len(starts)
    assert all(command.startswith(start) for command, start in zip(example.commands, starts))


def test_its_files_have_the_houses_form(example):
    example.check_form()


def test_its_test_passes(example):
    assert "5 passed" in example.run(example.command("python -m pytest"), *HERE)


@pytest.mark.slow
def test_no_wall_is_broken(example):
    assert "Tasks do not know one another KEPT" in example.run(example.command("lint-imports"))


@pytest.mark.slow
def test_it_is_trained_scored_and_shown_photographs(example):
    example.draw_scenes()
    said = example.run(example.command("cvjax train"), *SMALL)
    assert "resnet18 on scenes: 16 training and 8 val images" in said
    run = example.tree / "runs" / "tagging_voc" / "quick"
    losses = list(read_losses(run / "metrics.jsonl"))
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < 0.8 * losses[0]
    report = json.loads((run / "report.json").read_text())
    assert 0 < report["map"] <= 1
    assert report["examples"] == 8
    assert "average precision" in (run / "report.md").read_text()
    assert cv2.imread(str(run / "predictions.png")).shape[0] > 180

    again = example.tree / "again.json"
    assert "on 8 images of scenes val" in example.run(example.command("cvjax evaluate"), "--json", again)
    assert json.loads(again.read_text())["map"] == pytest.approx(report["map"], abs=1e-5)

    cv2.imwrite(str(example.tree / "a.jpg"), photo(3, 50, 70))
    example.run(example.command("cvjax predict"))
    with open(example.tree / "predictions" / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == list("12345")
    assert 0 < float(rows[4]["probability"]) <= float(rows[0]["probability"]) < 1
