"""One page of all results, which is what the results' files say."""

import pathlib
import subprocess
import sys

import everything

HERE = pathlib.Path(everything.__file__).parent


def test_the_page_is_that_of_the_results():
    """Write it with `python benchmarks/everything.py --page`."""
    text = everything.page()
    assert (HERE / "README.md").read_text() == text
    for path in (HERE / "results").glob("*.md"):
        assert f"(`{path.stem}`)" in text
        assert path.read_text().strip().splitlines()[-1] in text


def test_programs_are_there_and_know_their_arguments():
    for _, (program, *options), with_torch in everything.PROGRAMS:
        asked = [o for o in options if o.startswith("--")] + ["--torch-python"] * with_torch
        source = "".join((HERE / file).read_text() for file in (program, "paired.py", "model_tables.py"))
        assert all(f'"{option}"' in source for option in asked), program


def test_page_alone_runs_nothing(tmp_path):
    command = [sys.executable, str(HERE / "everything.py"), "--page"]
    before = (HERE / "README.md").read_bytes()
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    assert (HERE / "README.md").read_bytes() == before
