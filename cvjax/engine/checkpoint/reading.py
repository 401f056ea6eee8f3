"""This module finds a checkpoint that is whole, and reads it."""

import functools
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from cvjax.engine.checkpoint.digests import LIST, DamagedError, check_files, damaged, listed_items
from cvjax.engine.checkpoint.plain_path import plain_path
from cvjax.engine.checkpoint.stores import copied_for_inference, named, steps_in, told
from cvjax.engine.version01 import upgrade
from cvjax.errors import CheckpointError
from cvjax.storage import AnyPath, UrlPath, as_path, is_remote

Tree = Any

_LOG = logging.getLogger(__name__)
_UNREADABLE = re.compile(r"(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|FAILED_PRECONDITION|PERMISSION_DENIED|UNAVAILABLE):")
"""TensorStore's words for files that are missing or damaged, at the start of a message."""


def complete_steps(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, ascending, without opening it for writing.

    Raises:
      CheckpointError: It is at a URL that cannot be reached.
    """
    place = as_path(directory)
    if is_remote(place):
        with told(place):
            return [step for step, complete in steps_in(place).items() if complete]
    names = [entry.name for entry in place.iterdir() if entry.is_dir()] if place.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def find_checkpoint(path: str | os.PathLike[str]) -> pathlib.Path:
    """Finds the folder of one checkpoint: from that folder, from a folder of checkpoints, or from a run's work folder.

    If there are several, it takes the best by the run's metric. Without any scores it takes the latest. It checks the
    files that inference needs. A checkpoint that is damaged is passed over, with a warning, if there are others. Of one
    at a URL it returns a copy in the user's cache, of what inference needs.

    Raises:
      CheckpointError: There is no checkpoint, or none that is whole, or it cannot be fetched.
    """
    place = as_path(path).absolute()
    if is_remote(place):
        return _find_in_store(place)
    if _is_checkpoint(place):
        _check_for_inference(place)
        return place
    for folder in (place, place / "checkpoints"):
        found = [step for step in complete_steps(folder) if _is_checkpoint(folder / str(step))]
        if found:
            return _best(folder, found)
    if not place.exists():
        raise CheckpointError(f"there is no folder {path}; give a run's --workdir or one of its checkpoints/STEP")
    raise CheckpointError(f"{path} holds no checkpoint; give a run's --workdir or one of its checkpoints/STEP")


def _find_in_store(place: UrlPath) -> pathlib.Path:
    """Returns a copy of the checkpoint that `find_checkpoint` looks for, of one at a URL."""
    with told(place):
        names = set(place.files_below())
    if LIST in names or any(name.startswith(("info/", "variables/")) for name in names):
        local = copied_for_inference(place)
        with named(local, place):
            _check_for_inference(local)
        return local
    for folder in (place, place / "checkpoints"):
        steps = complete_steps(folder)
        if steps:
            local = [copied_for_inference(folder / str(step), "info").parent for step in steps]
            with named(local[0], folder):
                return _best(local[0], steps, functools.partial(_copy_step, folder))
    what = "holds no checkpoint" if names else "is no folder with files in it"
    raise CheckpointError(f"{place} {what}; give a run's --workdir or one of its checkpoints/STEP")


def _copy_step(folder: UrlPath, step: int) -> None:
    copied_for_inference(folder / str(step))


def read_metadata(place: AnyPath) -> dict[str, Any]:
    """Reads the metadata of one checkpoint, the JSON in its folder: configuration, data position, scores.

    Raises:
      DamagedError: The metadata cannot be read.
      CheckpointError: It is at a URL that cannot be reached.
    """
    if is_remote(place):
        local = copied_for_inference(place, "info")
        with named(local, place):
            return read_metadata(local)
    check_files(place, ["info"])
    _require(place, "info", "metadata")
    try:
        with plain_path(place) as plain, ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            metadata = reader.restore(plain / "info")
        if isinstance(metadata, dict) and "model" in metadata:
            return upgrade(metadata)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(place, "info/metadata cannot be read") from error
    raise damaged(place, "info/metadata does not describe a run")


def read_variables(place: pathlib.Path, like: Mapping[str, Tree], *, averaged: bool = True) -> dict[str, Tree]:
    """Reads the Flax variables of one checkpoint as numpy arrays, the averaged ones where there are any.

    Args:
      place: Folder that `find_checkpoint` returned.
      like: {"params", "batch_stats"} of the model, arrays or `jax.ShapeDtypeStruct`.
      averaged: Whether to prefer the moving average.

    Raises:
      CheckpointError: The checkpoint is of another model, or unreadable.
    """
    check_same_variables(place, like)
    return read_item(place, "ema" if averaged and (place / "ema").is_dir() else "variables", dict(like))


def read_stored_variables(path: str | os.PathLike[str]) -> dict[str, Tree]:
    """Reads the Flax variables of a checkpoint of any model as numpy arrays, the averaged ones where there are any.

    Args:
      path: Path as for `find_checkpoint`.

    Raises:
      CheckpointError: There is no checkpoint.
    """
    place = find_checkpoint(path)
    item = "ema" if (place / "ema").is_dir() else "variables"
    return read_item(place, item, _stored_tree(place, item))


def check_same_variables(place: pathlib.Path, like: Mapping[str, Tree]) -> None:
    """Checks that a checkpoint holds variables of exactly these names and shapes.

    Args:
      place: Folder of the checkpoint.
      like: {"params", "batch_stats"} of the model, arrays or `jax.ShapeDtypeStruct`.

    Raises:
      CheckpointError: Some variables differ; the message lists them.
    """
    saved = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(_stored_tree(place, "variables"))}
    wanted = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(dict(like))}
    if saved == wanted:
        return
    both = [n for n in wanted if n in saved and saved[n] != wanted[n]]
    differences = [f"{n} is {saved[n]} there and {wanted[n]} here" for n in both]
    differences += [f"{n} is missing there" for n in wanted if n not in saved]
    differences += [f"{n} is there only" for n in saved if n not in wanted]
    shown = "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")
    name = read_metadata(place).get("model", {}).get("name", "another model")
    raise CheckpointError(
        f"{place} is a checkpoint of {name} with other variables ({shown}); use that model and its options, which"
        f" {place / 'info'} records, or another --workdir"
    )


def read_item(place: pathlib.Path, item: str, like: Tree) -> Tree:
    """Reads one item of a checkpoint, as numpy arrays or as arrays on devices.

    Args:
      place: Folder of the checkpoint.
      item: Name of the item.
      like: Arrays or `jax.ShapeDtypeStruct`, in the tree of the item. Each host reads its devices' parts of a struct
        with a sharding, and places them; all others it reads whole.

    Raises:
      DamagedError: The item cannot be read.
      ValueError: The item has another tree or other shapes; also KeyError.
    """
    _require(place, item, "_METADATA")

    def template(x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct) and x.sharding is not None:
            return x
        return np.zeros(x.shape, x.dtype)  # for Orbax this means whole and in host memory, whatever devices are here

    try:
        with plain_path(place) as plain, ocp.StandardCheckpointer() as reader:
            return reader.restore(plain / item, jax.tree.map(template, like))
    except Exception as error:
        if isinstance(error, OSError | json.JSONDecodeError | UnicodeDecodeError) or _UNREADABLE.match(str(error)):
            raise damaged(place, f"{item} cannot be read ({reason(error)})") from error
        raise


def reason(error: Exception) -> str:
    """Returns the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def _best(
    folder: pathlib.Path, steps: list[int], complete: Callable[[int], object] = lambda step: None
) -> pathlib.Path:
    """Returns the whole checkpoint with the best score, or the latest whole one if none has a score.

    Args:
      folder: Folder of the checkpoints.
      steps: Their steps.
      complete: Function that makes a step be there whole, called before its files are checked.
    """
    ranks, wrong = {}, []
    for step in steps:
        try:
            metadata = read_metadata(folder / str(step))
        except DamagedError as error:
            wrong.append(error)
            continue
        score = (metadata.get("scores") or {}).get(metadata.get("metric", "miou"))
        known = isinstance(score, int | float) and score == score  # nan is no score
        ranks[step] = (known, score if known else 0.0, step)
    for step in sorted(ranks, key=lambda step: ranks[step], reverse=True):
        place = folder / str(step)
        try:
            complete(step)
            _check_for_inference(place)
        except DamagedError as error:
            wrong.append(error)
            continue
        for error in wrong:
            _LOG.warning("warning: %s; %s is read instead", error, place)
        return place
    raise CheckpointError(f"{wrong[0]}, of which there is no whole one here")


def _is_checkpoint(place: pathlib.Path) -> bool:
    return (place / "variables").is_dir() or (place / "info").is_dir() or (place / LIST).is_file()


def _check_for_inference(place: pathlib.Path) -> None:
    averaged = "ema" in listed_items(place) or (place / "ema").is_dir()
    for item in ("info", "variables", *(["ema"] if averaged else [])):
        check_files(place, [item])
        _require(place, item, "metadata" if item == "info" else "_METADATA")


def _require(place: pathlib.Path, item: str, name: str) -> None:
    if not (place / item / name).is_file():
        raise damaged(place, f"{item}/{name} is missing")


def _stored_tree(place: pathlib.Path, item: str) -> Tree:
    """Returns the shapes and dtypes of the arrays in one item of a checkpoint."""
    _require(place, item, "_METADATA")
    try:
        with plain_path(place) as plain:
            tree = ocp.StandardCheckpointHandler().metadata(epath.Path(plain / item))
    except Exception as error:
        # Whatever a damaged description makes of Orbax's reader: it compares nothing here that could not fit.
        raise damaged(place, f"{item} cannot be read ({reason(error)})") from error
    return getattr(tree, "tree", tree)


def _leaves(tree: Tree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
