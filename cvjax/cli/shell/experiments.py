"""This module finds the experiments and the studies, without importing any of them, or what they import.

They are a package of their own, installed beside this one, which no room here may import.
"""

import ast
import importlib.util
import pathlib

PACKAGE = "experiments"
STUDIES = "experiments.studies"


def experiment_files() -> dict[str, pathlib.Path]:
    """Returns the file of each experiment by its name, in order; nothing where the package is not installed."""
    return _pages("*.py")


def study_files() -> dict[str, pathlib.Path]:
    """Returns the file of each study by its name, in order; nothing where the package is not installed."""
    return _pages("studies/*.py")


def _pages(pattern: str) -> dict[str, pathlib.Path]:
    found = importlib.util.find_spec(PACKAGE)
    folders = (found.submodule_search_locations or ()) if found is not None else ()
    files = (path for folder in folders for path in pathlib.Path(folder).glob(pattern))
    return {path.stem: path for path in sorted(files) if not path.stem.startswith("_")}


def experiment_sentence(path: pathlib.Path) -> str:
    """Returns the first line of an experiment's docstring."""
    return (ast.get_docstring(ast.parse(path.read_bytes())) or path.stem).splitlines()[0]
