"""Every bad input of docs/errors.md ends as the table says: one sentence, status 2, no traceback.

CVJAX_WRITE_ERRORS=1 python -m pytest tests/errors -n 0     writes the table anew
"""

import functools
import importlib
import os
import pathlib

import pytest
from bad_inputs import BadInput, as_row, refusal

_HERE = pathlib.Path(__file__).resolve().parent
_PAGE = _HERE.parents[1] / "docs" / "errors.md"
_HEAD = "| input | what cvjax says |\n| --- | --- |\n"


def _all_rows() -> list[BadInput]:
    pages = sorted(path.stem for path in _HERE.glob("rows_*.py"))
    return [row for page in pages for row in importlib.import_module(page).ROWS]


ROWS = _all_rows()


@functools.cache
def _table() -> list[str]:
    return _PAGE.read_text().partition(_HEAD)[2].splitlines()


@pytest.fixture(scope="module")
def written():
    """The lines that were made; they become the table where the environment asks for it."""
    lines: dict[str, str] = {}
    yield lines
    if os.environ.get("CVJAX_WRITE_ERRORS"):
        assert set(lines) == {row.what for row in ROWS}, "run all rows in one process to write the table"
        text = _PAGE.read_text().partition(_HEAD)[0]
        _PAGE.write_text(text + _HEAD + "".join(lines[row.what] + "\n" for row in ROWS))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_one_sentence_names_the_file_and_the_way_out(row, written, tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", os.fspath(tmp_path / "prepared"))
    (tmp_path / "data").mkdir()
    sentence = refusal(row, tmp_path / "data")
    missing = [name for name in row.names if name not in sentence]
    assert not missing, f"{missing} are not in: {sentence}"
    written[row.what] = as_row(row, sentence)
    if not os.environ.get("CVJAX_WRITE_ERRORS"):
        assert written[row.what] in _table(), "docs/errors.md has another sentence; see the head of this file"


@pytest.mark.skipif(bool(os.environ.get("CVJAX_WRITE_ERRORS")), reason="the table is being written")
def test_the_table_holds_these_rows_alone():
    assert len(_table()) == len(ROWS)
    assert len({row.what for row in ROWS}) == len(ROWS)
