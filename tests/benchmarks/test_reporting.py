"""Tables, and files that grow row by row."""

import json
import pathlib

import pytest
import reporting

HELLO = {"versions": {"jax": "1"}, "device": "cpu"}
MACHINE = {"processor": "P", "cores": 4, "threads": 2, "contestants": {"cvjax": HELLO, "torch": HELLO}}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.4, "1234"), (12.345, "12.3"), (1.2345, "1.23"), (0.05678, "0.0568"), (0.0, "0"), (None, "-")],
)
def test_cell(value, text):
    assert reporting.cell(value) == text


def test_table_is_markdown():
    assert reporting.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_place_is_the_device():
    assert reporting.place(MACHINE) == "cpu"
    gpu = {"contestants": {"cvjax": {"device": "NVIDIA H200"}}}
    assert reporting.place(gpu) == "h200"
    gpu["contestants"]["torch"] = {"device": "cpu"}
    with pytest.raises(SystemExit, match="different devices"):
        reporting.place(gpu)


def test_files_of_a_newer_jax_say_so():
    def stem(version, threads=None):
        cvjax = {"versions": {"jax": version}, "device": "cpu"}
        torch = {"versions": {"torch": "2.14.1"}, "device": "cpu"}
        return reporting.stem_of("models", {"contestants": {"cvjax": cvjax, "torch": torch}}, threads)

    assert f'"jax>={reporting.OLDEST_JAX}"' in (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert [stem("0.10.2"), stem("0.10.2", 1)] == ["models_cpu", "models_cpu_threads1"]
    assert [stem("0.12.0.1"), stem("0.12.0.1", 2)] == ["models_cpu_jax012", "models_cpu_threads2_jax012"]


def test_report_keeps_rows_of_the_same_machine_and_settings(tmp_path):
    def report(**settings):
        return reporting.Report(tmp_path / "out" / "x", MACHINE, settings, lambda record: f"{len(record['rows'])} rows")

    first = report(batch=4)
    first.add({"case": "a", "mode": "forward", "figure": 1})
    first.add({"case": "b", "mode": "forward", "figure": 2})
    again = report(batch=4)
    again.add({"case": "a", "mode": "forward", "figure": 3})
    again.add({"case": "a", "mode": "gradients", "figure": 4})
    saved = json.loads((tmp_path / "out" / "x.json").read_text())
    assert [(row["case"], row["mode"], row["figure"]) for row in saved["rows"]] == [
        ("a", "forward", 3),
        ("b", "forward", 2),
        ("a", "gradients", 4),
    ]
    assert (tmp_path / "out" / "x.md").read_text() == "3 rows"
    assert report(batch=8).record["rows"] == []


def test_a_write_that_is_cut_off_leaves_the_file_of_before(tmp_path, monkeypatch):
    report = reporting.Report(tmp_path / "x", MACHINE, {}, lambda record: "")
    report.add({"case": "a", "mode": "forward"})
    whole = type(tmp_path).write_text

    def half(path, text):
        whole(path, text[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        report.add({"case": "b", "mode": "forward"})
    assert [row["case"] for row in json.loads((tmp_path / "x.json").read_text())["rows"]] == ["a"]


def test_rows_of_several_batch_sizes_stay_side_by_side(tmp_path):
    report = reporting.Report(tmp_path / "x", MACHINE, {}, lambda record: "")
    for batch, figure in ((1, 1), (8, 2), (1, 3)):
        report.add({"case": "a", "mode": "inference", "batch": batch, "figure": figure})
    assert [(row["batch"], row["figure"]) for row in report.record["rows"]] == [(1, 3), (8, 2)]


def test_notes_say_the_batch_where_there_is_one():
    row = {"case": "a", "mode": "inference", "absent": {"torch": "no torch"}}
    assert reporting.notes([row, row | {"batch": 8}]) == [
        "- Without torch: a (inference): no torch.",
        "- Without torch: a (inference, batch 8): no torch.",
    ]
