"""`cvjax models`: its table of facts is the code's, and it answers without the code.

CVJAX_WRITE_MODELS=1 python -m pytest tests/cli/test_cli_models.py -n 0     writes the table anew, in some minutes

The rows of models that the table lacks are added by the test that compares it.
"""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

import cvjax
from cvjax.cli import models
from cvjax.errors import ConfigError
from cvjax.inspection import inspect_model
from cvjax.weights import list_pretrained

_FACTS = ("name", "task", "paper", "year", "image_size", "params", "gmacs", "release")
_OF_FILES = ("name", "file", "whose", "layout", "default")


def _figure(figure):
    return None if figure is None else figure._asdict()


def _facts() -> list[dict]:
    """The facts that the code states; multiply-adds that nobody published are counted, and None here."""
    files: dict[str, list] = {}
    for file in list_pretrained():
        row = {name: getattr(file, name) for name in _OF_FILES} | {"figure": _figure(file.figure)}
        files.setdefault(file.model, []).append(row)
    rows = []
    for name in cvjax.list_models():
        info = cvjax.model_info(name)
        row = {fact: getattr(info, fact) for fact in _FACTS} | {"figure": _figure(info.figure)}
        rows.append(row | {"weights": files.get(name, [])})
    return rows


def _counted(name: str) -> float:
    return round(inspect_model(name).macs / 1e9, 4)


def _write(rows: list[dict]) -> None:
    models.TABLE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


def _with_macs(row: dict) -> dict:
    return row | {"gmacs": row["gmacs"] or _counted(row["name"])}


def test_the_table_is_the_codes():
    facts = _facts()
    if os.environ.get("CVJAX_WRITE_MODELS"):
        _write([_with_macs(row) for row in facts])
    table = {row["name"]: row for row in models.read_table()}
    new = [row["name"] for row in facts if row["name"] not in table]
    if new:
        _write([table.get(row["name"]) or _with_macs(row) for row in facts])
        pytest.fail(f"the rows of {', '.join(new)} were added to {models.TABLE.name}; commit them, and test again")
    assert all(row["gmacs"] > 0 for row in table.values())
    published = {row["name"] for row in facts if row["gmacs"]}
    assert [row if row["name"] in published else row | {"gmacs": None} for row in table.values()] == facts


@pytest.mark.parametrize(
    "name",
    [
        "nin_cifar",
        pytest.param("rcnn_alexnet", marks=pytest.mark.slow),
        pytest.param("deeplabv3_resnet18", marks=pytest.mark.slow),
        pytest.param("yolov1_tiny", marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_counted(name):
    (row,) = (row for row in models.read_table() if row["name"] == name)
    assert row["gmacs"] == _counted(name)


def _names(*words: str, **more) -> set[str]:
    return {row["name"] for row in models.choose(models.read_table(), models.Arguments(words, **more))}


def test_words_and_patterns_filter():
    names = cvjax.list_models()
    assert _names() == set(names)
    assert _names("resnet*") == {name for name in names if name.startswith("resnet")}
    assert _names("deeplab", "resnet50") == {name for name in names if "deeplab" in name and "resnet50" in name}
    assert _names("1512.03385", task="classification") >= {"resnet50", "plain34"}
    with pytest.raises(ConfigError, match=r"no model fits 1512\.03385 segmentation; cvjax models lists all"):
        _names("1512.03385", task="segmentation")
    assert _names(task="detection") == set(cvjax.list_models("detection"))
    assert _names(weights=True) == {row.model for row in list_pretrained()}
    with pytest.raises(ConfigError, match=r"no model fits resnett50; did you mean resnet50\?"):
        _names("resnett50")


def test_lines_state_what_is_published():
    rows = models.choose(models.read_table(), models.Arguments(("resnet50",)))
    line = next(line for line in models.as_text(rows).splitlines() if line.startswith("resnet50 "))
    files = list(list_pretrained("resnet50"))
    assert line.split()[:6] == ["resnet50", "classification", "25.56", "4.09", "224", str(len(files))]
    assert line.endswith(str(cvjax.model_info("resnet50").figure))
    text = models.as_text(rows, weights=True)
    assert all(f"{'*' if file.default else ' '} {file.name or file.file}" in text for file in files)


def test_it_answers_without_the_code(tmp_path):
    path = tmp_path / "models.json"
    code = "import sys; from cvjax.cli.main import main; main(); print(*sys.modules, file=sys.stderr)"
    words = ["models", "vgg16", "--task", "classification", "--json"]

    def answer(*place: str):
        return subprocess.run([sys.executable, "-c", code, *words, *place], capture_output=True, text=True, check=True)

    done = answer(str(path))
    assert done.stdout.startswith("model ")
    assert not {"jax", "numpy", "flax", "cv2", "etils", "fsspec"} & set(done.stderr.split())
    rows = json.loads(path.read_text())
    assert {row["name"] for row in rows} == _names("vgg16", task="classification")
    onto = answer("-")
    assert json.loads(onto.stdout) == rows  # people's table is on stderr then
    assert onto.stderr.startswith("model ")


def test_arguments_are_told_by_help(capsys):
    with pytest.raises(SystemExit) as ended:
        models.main(["--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    parts = ("usage: cvjax models", "Lists the models", "arguments:", "options:", "every command", "examples:")
    order = [page.index(part) for part in parts]
    assert order == sorted(order)
    assert all(f"--{field.name}" in page for field in dataclasses.fields(models.Arguments)[1:])
