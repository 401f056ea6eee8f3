"""Holds out a part of a data set that has no split of its own, so that both parts have the same shares of the classes.

The rule is iterative stratification (Sechidis, Tsoumakas, Vlahavas, 2011). The rarest class that is left is dealt out
first, in an order that a seed draws: each of its examples goes to the part that still lacks most of this class by its
share, among equals to the one that lacks most examples. Then the next class follows. The classes of an example are its
label, those of its boxes, or those in its mask. As rounding adds up over many classes, examples are then moved until
the held out part has its size: those whose classes it lacks most, or has too many of. Every class keeps an example for
training.

Examples with the same image stay together on one side.
"""

import concurrent.futures
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import IGNORE, decode_label_numbers
from cvjax.data.part import ids_of, unknown_id
from cvjax.errors import DataError

_SHOW_FROM = 1000  # so many records take seconds, and a bar is shown


class Traits(NamedTuple):
    """Holds what decides the side of an example.

    Attributes:
      key: Id of the example.
      classes: Numbers of the classes that it has.
      digest: Digest of its encoded image; equal ones are one image.
    """

    key: str
    classes: frozenset[int]
    digest: str


def traits_of(source: Dataset, *, skip: bool = False) -> list[Traits]:
    """Reads what decides the sides of a data set's examples, each record once.

    Args:
      source: Data set with any target.
      skip: Whether an example that cannot be read is one without classes.

    Raises:
      DataError: A record cannot be read, or two have the same id.
    """
    found = list(_in_threads(source, skip))
    keys: set[str] = set()
    for traits in found:
        if traits.key in keys:
            raise DataError(f"{source.name}: two examples have the id {traits.key!r}; rename one of the files.")
        keys.add(traits.key)
    return found


def choose_held_out(examples: Sequence[Traits], fraction: float, seed: int, where: str = "the data") -> set[str]:
    """Returns the ids of the examples that are held out; their order in the data set plays no part.

    Args:
      examples: The examples.
      fraction: Share of the examples to hold out, above 0 and below 1.
      seed: Seed of the draw among equals.
      where: Name of the data set, for messages.

    Raises:
      DataError: There are too few different images for both parts, or every one is the only one of a class.
    """
    groups = _groups(examples, seed)
    if len(groups) < 2:
        raise DataError(f"{where}: {len(groups)} different images cannot be split into two parts; add some.")
    sizes = np.array([len(group) for group in groups])
    classes = [frozenset().union(*(example.classes for example in group)) for group in groups]
    numbers = {label: row for row, label in enumerate(sorted(frozenset().union(*classes)))}
    rows = [np.array([numbers[label] for label in sorted(own)], int) for own in classes]
    held = _dealt(sizes, rows, len(numbers), fraction)
    _level(held, sizes, rows, len(numbers), fraction)
    if not held.any():
        raise DataError(
            f"{where}: none of {len(examples)} examples can be held out, because each is the only one of a class; add"
            " examples."
        )
    return {example.key for group, is_held in zip(groups, held, strict=True) if is_held for example in group}


def _groups(examples: Iterable[Traits], seed: int) -> list[list[Traits]]:
    """Gathers the examples with one image, in an order that the seed draws.

    Images are put in order by their content, because each format calls the same photograph by another id.
    """
    groups: dict[str, list[Traits]] = {}
    for example in sorted(examples, key=lambda example: (example.digest, example.key)):
        groups.setdefault(example.digest, []).append(example)
    found = list(groups.values())
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]


def _dealt(sizes: np.ndarray, rows: Sequence[np.ndarray], count: int, fraction: float) -> np.ndarray:
    """Deals groups out class by class, the rarest first; returns which of them are held out, bool [groups]."""
    members: list[list[int]] = [[] for _ in range(count)]
    for group, own in enumerate(rows):
        for row in own:
            members[row].append(group)
    waiting = np.array([sizes[own].sum() for own in members], np.int64)
    lacking = np.array([1 - fraction, fraction])[:, None] * waiting  # by part and class
    room = [(1 - fraction) * sizes.sum(), fraction * sizes.sum()]
    side = np.full(len(sizes), -1)

    def put(group: int, part: int) -> None:
        side[group] = part
        lacking[part, rows[group]] -= sizes[group]
        waiting[rows[group]] -= sizes[group]
        room[part] -= sizes[group]

    while (waiting > 0).any():
        rarest = int(np.argmin(np.where(waiting > 0, waiting, np.iinfo(np.int64).max)))
        for group in members[rarest]:
            if side[group] < 0:
                more = round(float(lacking[1, rarest] - lacking[0, rarest]), 9)  # equal but for rounding is equal
                put(group, int(more > 0 or (more == 0 and room[1] > room[0])))
    for group in np.flatnonzero(side < 0):
        put(int(group), int(room[1] > room[0]))
    for own in members:
        if (side[own] == 1).all():
            side[own[0]] = 0
    return side == 1


def _level(held: np.ndarray, sizes: np.ndarray, rows: Sequence[np.ndarray], count: int, fraction: float) -> None:
    """Moves groups in place until the held out part has its number of examples, as far as groups are small enough."""
    wanted = min(max(1, round(fraction * int(sizes.sum()))), int(sizes.sum()) - 1)
    # Groups without a class have one of their own, which is never rare and lacks nothing.
    flat = np.concatenate([own if len(own) else np.array([count]) for own in rows])
    lengths = np.array([max(1, len(own)) for own in rows])
    starts = np.cumsum(lengths) - lengths
    totals = np.bincount(flat, np.repeat(sizes, lengths), count + 1)
    inside = np.bincount(flat, np.repeat(sizes * held, lengths), count + 1)
    while (off := wanted - int(sizes[held].sum())) != 0:
        to_held = off > 0
        lacking, left = fraction * totals - inside, totals - inside
        lacking[count], left[count] = 0, np.inf
        gain = np.add.reduceat(lacking[flat], starts) / lengths * (1 if to_held else -1)
        may = (held != to_held) & (sizes <= abs(off))
        if to_held:  # no class leaves the training part
            may &= np.minimum.reduceat(left[flat], starts) > sizes
        if not may.any():
            return
        chosen = int(np.argmax(np.where(may, gain, -np.inf)))
        held[chosen] = to_held
        np.add.at(inside, flat[starts[chosen] : starts[chosen] + lengths[chosen]], sizes[chosen] * (off / abs(off)))


def _in_threads(source: Dataset, skip: bool) -> Iterator[Traits]:
    from rich.console import Console
    from rich.progress import Progress

    keys = ids_of(source) if skip and hasattr(source, "ids") else None

    def read(index: int) -> Traits:
        key, classes, digest = keys[index] if keys else unknown_id(index), set[int](), f"record {index}"
        try:
            record = cast(dict[str, Any], source[index])
            key, digest = str(record["id"]), hashlib.sha256(record["image"]).hexdigest()
            classes = _classes(record, source.void)
        except DataError:
            if not skip:
                raise
        return Traits(key, frozenset(classes), digest)

    count = len(source)
    if count:
        yield read(0)  # opens the files, before threads ask for them
    with (
        Progress(console=Console(stderr=True), transient=True, disable=count < _SHOW_FROM) as bar,
        concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
    ):
        try:
            yield from bar.track(pool.map(read, range(1, count)), total=count, completed=1, description="Splitting")
        finally:
            pool.shutdown(cancel_futures=True)


def _classes(record: dict[str, Any], void: Collection[int]) -> set[int]:
    if "label" in record:
        return {int(record["label"])}
    if "labels" in record:
        return {int(label) for label in record["labels"]}
    masks = "classes" if "classes" in record else "mask"  # Beside "classes", "mask" numbers objects.
    numbers = np.unique(decode_label_numbers(record[masks], str(record["id"])))
    return {int(number) for number in numbers if number != IGNORE and number not in void}
