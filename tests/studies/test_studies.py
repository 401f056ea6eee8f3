"""Every study: its page, its record in docs/lessons, and a start with its smallest settings."""

import dataclasses
import importlib
import inspect
import os

import pytest
from lessons import CHAPTERS, NAMES, PAGE, RECORDS, page, record, started, study

from cvjax.cli.commandline import read_fields
from cvjax.engine.config import as_json
from cvjax.errors import ConfigError
from experiments.studies._study import Lab, make_figure, run_study


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_a_page_with_a_question(name):
    module = importlib.import_module(f"experiments.studies.{name}")
    assert module.__doc__.splitlines()[0].endswith("?")
    assert f"cvjax study {name}" in module.__doc__
    assert inspect.getsource(module).count("\n") <= 300
    assert module.STUDY.paper
    assert module.STUDY.meaning


@pytest.mark.parametrize("name", NAMES)
def test_the_command_on_the_page_has_the_settings_of_the_record(name):
    ran = record(name)["settings"]
    words = started(name).split()[3:]
    read_back = as_json(read_fields(study(name).settings, words, f"study {name}", ""))
    shown = {field: read_back[field] for field in ran}
    assert shown | {"data": ran["data"]} == ran
    assert shown["data"] in (ran["data"], "FOLDER")


@pytest.mark.parametrize("name", NAMES)
def test_the_record_gives_table_verdict_and_figure(name):
    """Figure and words of docs/lessons follow from the record beside them, which a run of the study wrote."""
    about, found = study(name), record(name)
    assert found["study"] == name
    finding = about.conclude(found["cells"])
    assert found["table"]["verdict"] == finding.verdict
    assert [list(row) for row in finding.rows] == found["table"]["rows"]
    assert all(len(row) == len(finding.columns) for row in finding.rows)
    figure = make_figure(about, found["cells"])
    drawn = [axes for axes in figure.axes if axes.lines or axes.patches or axes.collections]
    assert drawn or any(axes.images for axes in figure.axes)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn if not axes.images)
    assert (RECORDS / f"{name}.png").stat().st_size < 250_000


def test_the_page_of_lessons_follows_from_the_records():
    """With CVJAX_WRITE_LESSONS=1 it is written."""
    assert sorted(" ".join(CHAPTERS.values()).split()) == NAMES
    if os.environ.get("CVJAX_WRITE_LESSONS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_trial_measures_once(name, tmp_path):
    about = study(name)
    settings = dataclasses.replace(about.trial, workdir=str(tmp_path))
    first = run_study(about, name, settings)
    assert first["cells"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert first["table"]["verdict"] in (tmp_path / "table.md").read_text(encoding="utf-8")

    class Full(Lab):
        def measure(self, cell, take):
            assert cell in self.cells
            return super().measure(cell, take)

    about.measure(settings, Full(name, settings))
    with pytest.raises(ConfigError, match="seeds"):
        run_study(about, name, dataclasses.replace(settings, seeds=settings.seeds + 1))
