"""This module reads flags and presets from source files, without importing them: a shell waits for the answer."""

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

from cvjax.cli.shell.experiments import PACKAGE, STUDIES, experiment_files

_RUN = "RunConfig"
"""Class that the configurations of runs derive from."""


def command_flags(module: str) -> list[str]:
    """Returns the flags of a command: of the dataclass that its module gives to `read`."""
    for call in ast.walk(_tree(module)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("read", "read_known"):
            kind = call.args[0]
            if isinstance(kind, ast.Name):
                return list(_flags(kind.id, module))
    return []


def presets(experiment: str) -> list[str]:
    """Returns the names of an experiment's presets."""
    if experiment in experiment_files():
        for node in _tree(f"{PACKAGE}.{experiment}").body:
            if isinstance(node, ast.Assign) and "PRESETS" in _bound(node) and isinstance(node.value, ast.Dict):
                return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def experiment_flags(experiment: str) -> list[str]:
    """Returns the flags of an experiment, but for those of its model, which follow from the model's name."""
    if experiment not in experiment_files():
        return []
    module, shared = f"{PACKAGE}.{experiment}", f"{PACKAGE}._shared"
    kinds = [(name, module) for name in _runs(_tree(module), module)]
    if not kinds:  # its presets are made of others'
        used = {node.id for node in ast.walk(_tree(module)) if isinstance(node, ast.Name)}
        made = [node for node in _tree(shared).body if _bound(node) & used]
        kinds = [(name, shared) for node in made for name in _runs(node, shared)]
    flags = [flag for name, home in kinds for flag in _flags(name, home)]
    return ["--model.name", *dict.fromkeys(flags), "--config", "--json"]


def study_flags(study: str) -> list[str]:
    """Returns the flags of a study: those of its settings, and those that all have."""
    settings = _of_study(study).get("settings")
    if not isinstance(settings, ast.Call) or not isinstance(settings.func, ast.Name):
        return []
    return [*_flags(settings.func.id, f"{STUDIES}.{study}"), "--trial", "--json"]


def study_task(study: str) -> str:
    """Returns the task of a study, whose data it reads: `classification`, `segmentation`, `detection` or `none`."""
    return str(ast.literal_eval(_of_study(study)["task"]))


def _of_study(study: str) -> dict[str | None, ast.expr]:
    """Returns what a module's `Study` is made of, by name."""
    for call in ast.walk(_tree(f"{STUDIES}.{study}")):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Study":
            return {word.arg: word.value for word in call.keywords}
    return {}


@functools.cache
def _tree(module: str) -> ast.Module:
    """Returns a module's syntax; an empty one, where there is no such source."""
    package = module.partition(".")[0]
    if package not in ("cvjax", PACKAGE):
        return ast.Module([], [])
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        place = pathlib.Path(root, *module.split(".")[1:])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return ast.parse(path.read_bytes())
    return ast.Module([], [])


def _home(name: str, module: str) -> tuple[ast.ClassDef, str] | None:
    """Returns a class and the module that defines it, through the imports of the one that names it."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return _home(name, node.module)
    return None


def _bound(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _runs(node: ast.AST, module: str) -> list[str]:
    """Returns the configurations of runs that a part of a module calls."""
    called = [call.func.id for call in ast.walk(node) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    return [
        name
        for name in dict.fromkeys(called)
        if name.endswith("Config") and any(owner.name == _RUN for owner, _ in _ancestors(name, module))
    ]


def _ancestors(name: str, module: str) -> list[tuple[ast.ClassDef, str]]:
    """Returns a class behind its bases, each with the module that defines it."""
    found = _home(name, module)
    if found is None:
        return []
    bases = [base.id for base in found[0].bases if isinstance(base, ast.Name)]
    return [*(other for base in reversed(bases) for other in _ancestors(base, found[1])), found]


def _flags(name: str, module: str, prefix: str = "") -> Iterator[str]:
    fields: dict[str, tuple[ast.expr, str]] = {}
    for owner, home in _ancestors(name, module):
        for node in owner.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                fields[node.target.id] = node.annotation, home
    for field, (annotation, home) in fields.items():
        text = ast.unparse(annotation)
        if "ClassVar" in text or "Positional" in text or field == "model":
            continue
        if isinstance(annotation, ast.Name) and _home(text, home) is not None:
            yield from _flags(text, home, f"{prefix}{field}.")
            continue
        said = dict(_spellings(annotation))
        shown = said.get("name", field).replace("_", "-")
        yield f"--{prefix}{shown}"
        yield from said.get("aliases", ())
        if text == "bool":
            yield f"--{prefix}no-{shown}"


def _spellings(annotation: ast.expr) -> Iterator[tuple[str | None, Any]]:
    """Yields the keywords of `tyro.conf.arg` that say how a flag is spelled, with their values."""
    for word in ast.walk(annotation):
        if isinstance(word, ast.keyword) and word.arg in ("name", "aliases"):
            yield word.arg, ast.literal_eval(word.value)
