"""docs/adding/dataset.md: its file and its line make a data set; all of its commands are run on a small one."""

import json

import cv2
import numpy as np
import pytest
from worked_example import WorkedExample, read_losses

NAMES = "airplane bird car cat deer dog horse monkey ship truck".split()
SMALL = (
    "--steps 3 --log-every 0 --batch-size 8 --input.workers 0 --input.crop 32 32 --eval.resize 32 --model.width 4"
    " --eval.batch-size 8"
).split()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return WorkedExample("dataset.md", tmp_path_factory.mktemp("dataset"), ("conftest.py", "helpers"))


def _draw(folder) -> None:
    """Gratings, whose directions tell the classes, in the layout that the set's page on the web describes."""
    folder.mkdir()
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        planes, labels = [], []
        for number in range(count):
            label = number % 10
            rows, columns = np.mgrid[:96, :96]
            wave = np.cos(label * np.pi / 10) * rows + np.sin(label * np.pi / 10) * columns
            gray = 128 + 60 * np.sin(wave / 3 + rng.uniform(0, 6)) + rng.normal(0, 20, (96, 96))
            image = cv2.merge([gray.clip(0, 255).astype(np.uint8)] * 3)
            planes.append(b"".join(image[:, :, channel].T.tobytes() for channel in range(3)))
            labels.append(label + 1)
        (folder / f"{split}_X.bin").write_bytes(b"".join(planes))
        (folder / f"{split}_y.bin").write_bytes(bytes(labels))


def test_it_is_one_file_one_line_and_a_test(example):
    assert example.files == ["cvjax/datasets/stl10.py", "tests/datasets/test_stl10.py"]
    assert {path: len(lines) for path, lines in example.lines.items()} == {"cvjax/datasets/registry.py": 1}
    starts = ("python -m pytest tests/datasets", "cvjax data check", "cvjax train", "cvjax evaluate")
    assert len(example.commands) == len(starts)
    assert all(command.startswith(start) for command, start in zip(example.commands, starts))


def test_its_files_have_the_houses_form(example):
    example.check_form()


def test_its_test_passes(example):
    said = example.run(example.command("python -m pytest"), "-n", "0", "-p", "no:cacheprovider")
    assert "3 passed" in said


@pytest.mark.slow
def test_it_is_checked_and_trained_on(example):
    _draw(example.tree / "stl10_binary")
    checked = example.run(example.command("cvjax data check"), "--json", example.tree / "check.json")
    assert "Files that cannot be read" not in checked
    report = json.loads((example.tree / "check.json").read_text())
    assert {finding["kind"] for finding in report["findings"]} <= {"near-duplicates", "near-duplicates-across-splits"}
    said = example.run(example.command("cvjax train"), *SMALL)
    assert "resnet18 on stl10: 20 training and 10 test images" in said
    run = example.tree / "runs" / "stl10"
    assert len(list(read_losses(run / "metrics.jsonl"))) == 3
    assert "on 10 images of stl10 test" in example.run(example.command("cvjax evaluate"))
