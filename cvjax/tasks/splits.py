"""Splits a run's data where they have no split of their own, writes the split down, and takes what is written.

The work folder's `split.json` holds the ids of both parts. A resumed run takes these, whatever was added to the data
since, and so does every later look at the run's data, such as `evaluate`. Another run takes them with
`--input.split-file`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from cvjax.data.dataset import Dataset, held_out
from cvjax.data.part import ids_of, part_of
from cvjax.engine.checkpoint import complete_steps
from cvjax.errors import ConfigError, DataError
from cvjax.files import write_json
from cvjax.storage import AnyPath, as_path

FILE = "split.json"
_FORMAT = 1
_SHOWN = 3  # how many ids a message lists

Open = Callable[[str], Dataset]


def open_part(config: Any, split: str, open_split: Open) -> Dataset:
    """Opens a split of a run's data, with a part held out or by a file of splits where the configuration says so.

    With `input.hold_out`, the split `input.train_split` is what is left of the set's own, and `val` is what was held
    out of it; any other name is a split of the set itself. With `input.split_file`, the names of the file's splits are
    those of the run, and their examples are found in the set's `input.train_split`.

    Args:
      config: Configuration of the run.
      split: Name of the split.
      open_split: Function that opens a split of the set itself.

    Raises:
      ConfigError: The file of the split cannot be read or written, or the run was split otherwise.
      DataError: The set lacks examples of the split, or has too few to split.
    """
    data = config.input
    if data.split_file is not None:
        place = as_path(data.split_file)
        written = read_split(place)
        found = held_out(split, written)
        return open_split(split) if found not in written else _taken(open_split, data, written, found, place)
    if data.hold_out is None or split not in (data.train_split, "val"):
        return open_split(split)
    if data.train_split == "val":
        raise ConfigError("--input.hold-out makes the split val; give another --input.train-split")
    written, place = _held_out(config, open_split)
    return _taken(open_split, data, written, "train" if split == data.train_split else "val", place, split)


def find_split(run: AnyPath) -> AnyPath | None:
    """Returns the file of the split that a run wrote into its work folder; None where there is none."""
    place = run / FILE
    return place if place.is_file() else None


def read_split(place: AnyPath) -> dict[str, list[str]]:
    """Reads the ids of each split from a file: as a run writes it, or an object of lists alone.

    Raises:
      ConfigError: The file cannot be read or is none of the two.
    """
    return _splits_in(_read(place), place)


def _splits_in(content: Any, place: AnyPath) -> dict[str, list[str]]:
    splits = content.get("splits", content) if isinstance(content, Mapping) else None
    good = isinstance(splits, Mapping) and all(
        isinstance(ids, list) and all(isinstance(key, str) for key in ids) for ids in splits.values()
    )
    if not good or not splits:
        raise ConfigError(
            f'{place}: holds no splits; write {{"train": ["ID", ...], "val": ["ID", ...]}}, as {FILE} of a run has them'
        )
    every = [key for ids in splits.values() for key in ids]
    if len(set(every)) < len(every):
        seen: set[str] = set()
        twice = next(key for key in every if key in seen or seen.add(key))
        raise ConfigError(f"{place}: {twice!r} is there more than once; leave it in one split")
    return dict(splits)


def _read(place: AnyPath) -> Any:
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no JSON"
        raise ConfigError(f"{place}: cannot be read ({why}); mend the path, or the file of the split") from error


def _held_out(config: Any, open_split: Open) -> tuple[dict[str, list[str]], AnyPath]:
    """Returns the parts of a run's data, from what its work folder holds or made now, and the file."""
    data, workdir = config.input, as_path(config.workdir)
    place = workdir / FILE
    seed = config.seed if data.hold_out_seed is None else data.hold_out_seed
    made = {"format": _FORMAT, "hold_out": data.hold_out, "seed": seed}
    content = _read(place) if place.is_file() else None
    has_begun = bool(complete_steps(workdir / "checkpoints")) or (config.resume and content is not None)
    if content is not None and isinstance(content, Mapping):
        same = all(content.get(name) == value for name, value in made.items())
        if has_begun and not same:
            raise ConfigError(
                f"{place}: this run held out {content.get('hold_out')} by seed {content.get('seed')}; give the same, or"
                " another --workdir"
            )
        if has_begun:
            return _splits_in(content, place), place
    source = open_split(data.train_split)
    made |= {"data": source.name, "content": source.fingerprint()}
    if isinstance(content, Mapping) and all(content.get(name) == value for name, value in made.items()):
        return _splits_in(content, place), place
    from cvjax.datasets.own.splits import choose_held_out, traits_of

    examples = traits_of(source, skip=data.on_bad_record == "skip")
    held = choose_held_out(examples, data.hold_out, seed, f"{data.manual_dir or source.name}")
    keys = [example.key for example in examples]
    splits = {"train": [key for key in keys if key not in held], "val": [key for key in keys if key in held]}
    if jax.process_index() == 0 and not has_begun:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(place, {**made, "splits": splits})
        except OSError as error:
            raise ConfigError(f"{place} cannot be written ({error.strerror}); give another --workdir") from error
    return splits, place


def _taken(
    open_split: Open,
    data: Any,
    written: Mapping[str, Sequence[str]],
    part: str,
    place: AnyPath,
    split: str | None = None,
) -> Dataset:
    """Returns the examples of a part, in the order of its list."""
    source = open_split(data.train_split)
    position = {key: index for index, key in enumerate(ids_of(source))}
    absent = [key for key in written[part] if key not in position]
    if absent:
        shown = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
        raise DataError(
            f"{place}: {len(absent)} of the {len(written[part])} examples of {part} are not in {source.name}"
            f" {source.split} ({shown}); restore these files, or split the data anew in another --workdir"
        )
    return part_of(source, [position[key] for key in written[part]], split or part)
