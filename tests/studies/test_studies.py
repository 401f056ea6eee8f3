"""Every study: its page, its record in docs/lessons, and a start with its smallest settings."""

import dataclasses
import importlib
import inspect
import json
import pathlib
import pkgutil

import pytest

from cvjax.errors import ConfigError
from experiments import studies
from experiments.studies._study import Lab, make_figure, run_study

NAMES = [module.name for module in pkgutil.iter_modules(studies.__path__) if module.name[0] != "_"]
LESSONS = pathlib.Path(__file__).parents[2] / "docs" / "lessons"


def _module(name: str):
    return importlib.import_module(f"experiments.studies.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_a_page_with_a_question(name):
    module = _module(name)
    assert module.__doc__.splitlines()[0].endswith("?")
    assert f"cvjax study {name}" in module.__doc__
    assert inspect.getsource(module).count("\n") <= 300
    assert module.STUDY.paper
    assert module.STUDY.meaning


@pytest.mark.parametrize("name", NAMES)
def test_the_record_gives_table_verdict_and_figure(name):
    """Figure and words of docs/lessons follow from the record beside them, which a run of the study wrote."""
    record = json.loads((LESSONS / f"{name}.json").read_text(encoding="utf-8"))
    study = _module(name).STUDY
    assert record["study"] == name
    finding = study.conclude(record["cells"])
    assert record["table"]["verdict"] == finding.verdict
    assert [list(row) for row in finding.rows] == record["table"]["rows"]
    assert all(len(row) == len(finding.columns) for row in finding.rows)
    figure = make_figure(study, record["cells"])
    drawn = [axes for axes in figure.axes if axes.lines or axes.patches or axes.collections]
    assert drawn or any(axes.images for axes in figure.axes)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn if not axes.images)
    assert (LESSONS / f"{name}.png").stat().st_size < 250_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_trial_measures_once(name, tmp_path):
    study = _module(name).STUDY
    settings = dataclasses.replace(study.trial, workdir=str(tmp_path))
    first = run_study(study, name, settings)
    assert first["cells"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert first["table"]["verdict"] in (tmp_path / "table.md").read_text(encoding="utf-8")

    class Full(Lab):
        def measure(self, cell, take):
            assert cell in self.cells
            return super().measure(cell, take)

    study.measure(settings, Full(name, settings))
    with pytest.raises(ConfigError, match="seeds"):
        run_study(study, name, dataclasses.replace(settings, seeds=settings.seeds + 1))
