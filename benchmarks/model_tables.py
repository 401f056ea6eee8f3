"""Measures whole nets, and writes their tables: images a second, ratios of times, memory of a training step.

For `benchmarks/models.py`, `benchmarks/segmenters.py` and `benchmarks/faster_rcnn.py`. Their contestants compute cases
of the fields `net` (what the row is called), `mode`, `batch`, `size` (height and width in pixels) and `dtype`, and what
else their children need to know of a net.
"""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Iterator, Sequence

from paired import RATIOS, Contestant, Message, Schedule, measure, medians, ratio, settle, start, use_threads
from reporting import Report, cell, describe, machine, notes, stem_of, table

HERE = pathlib.Path(__file__).resolve().parent
MODES = ("inference", "training")


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a program measures.

    Attributes:
      title: of the table.
      program: file of the program, which says what is measured.
      children: file of the program that serves a contestant.
      sides: contestants, unless others are asked for.
      looseness: factor on the tolerance up to which contestants compute the same thing.
    """

    title: str
    program: str
    children: str
    sides: tuple[str, ...]
    looseness: float = 10.0


def add_net_arguments(parser: argparse.ArgumentParser, *, batch: int, modes: Sequence[str] = MODES) -> None:
    """The options of the programs that measure nets in several modes and for several numbers of images."""
    parser.add_argument("--modes", nargs="+", choices=modes, default=modes)
    parser.add_argument("--batch", type=int, nargs="+", default=[batch], help="one or more numbers of images")


def run(subject: Subject, arguments: argparse.Namespace, nets: Sequence[Message], size: tuple[int, int]) -> None:
    """Has contestants take turns on every net in every mode and batch size; prints and writes the results.

    Those of a training step go to STEM_PLATFORM, where STEM is the program's name, with --threads N to
    STEM_PLATFORM_threadsN, and those of inference to files that end in _inference.
    """
    if arguments.threads:
        use_threads(arguments.threads)
    sides = arguments.contestants or subject.sides

    @contextlib.contextmanager
    def started() -> Iterator[list[Contestant]]:
        with contextlib.ExitStack() as stack:
            yield start(stack, HERE / subject.children, sides, arguments.torch_python)

    with started() as contestants:
        dtype, schedule = settle(arguments, contestants)
        where, common = machine(contestants), {"size": list(size), "dtype": dtype}
    schedule = dataclasses.replace(schedule, tolerance=subject.looseness * schedule.tolerance)
    stem = stem_of(pathlib.Path(subject.program).stem, where, arguments.threads)
    for mode in arguments.modes:
        title = subject.title + (", inference" if mode == "inference" else "")
        shown = functools.partial(write, title=title, program=subject.program)
        path = arguments.out / (f"{stem}_inference" if mode == "inference" else stem)
        report = Report(path, where, {**common, "rounds": schedule.rounds}, shown)
        for case in ({**net, "mode": mode, "batch": batch, **common} for batch in arguments.batch for net in nets):
            # In processes of its own: after several other nets a heap is in pieces, which cost a step a fifth.
            with started() as contestants:
                compare(contestants, case, schedule, report)
        print(shown(report.record))


def compare(contestants: Sequence[Contestant], case: Message, schedule: Schedule, report: Report) -> None:
    """Measures a case, prints it, and adds its row to the report."""
    times, absent = measure(contestants, case, schedule)
    row = {"case": case["net"], "mode": case["mode"], "batch": case["batch"]}
    row |= {"seconds": medians(times), "times": times, "absent": absent}
    facts = {one.name: one.facts for one in contestants if one.name in times}
    needs = {name: fact["state"] + fact["peak"] for name, fact in facts.items() if fact.get("peak")}
    row |= {"memory": needs} if needs else {}
    report.add(row)
    figures = (f"{name} {cell(row['batch'] / seconds)} images/s" for name, seconds in row["seconds"].items())
    label = f"{row['case']} ({row['mode']}, batch {row['batch']})"
    print(f"{label}: {', '.join(figures)}", *notes([row]), sep="\n  ", flush=True)


def write(record: Message, title: str, program: str) -> str:
    """The results as Markdown, under a title; `program` says what is measured."""
    settings, rows = record["settings"], record["rows"]
    names = list(record["machine"]["contestants"])
    pairs = [(other, base) for other, base in RATIOS if {other, base} <= set(names)]
    with_memory = any(row.get("memory") for row in rows)

    def rate(row: Message, name: str) -> str:
        return cell(row["batch"] / row["seconds"][name] if name in row["seconds"] else None)

    def memory(row: Message) -> list[str]:
        return [cell(row.get("memory", {}).get(name, 0) / 1e6 or None) for name in names] if with_memory else []

    body = [
        [
            *(row["case"], row["mode"], str(row["batch"])),
            *(rate(row, name) for name in names),
            *(cell(ratio(row["times"], *pair)) for pair in pairs),
            *memory(row),
        ]
        for row in rows
    ]
    for mode, batch in dict.fromkeys((row["mode"], row["batch"]) for row in rows):
        same = [row for row in rows if (row["mode"], row["batch"]) == (mode, batch)]
        if len(same) > 1:
            means = (cell(geometric_mean([ratio(row["times"], *pair) for row in same])) for pair in pairs)
            label = [f"geometric mean of {len(same)}", mode, str(batch)]
            body.append([*label, *("" for _ in names), *means, *memory({})])
    header = ["model", "mode", "batch", *(f"{name} images/s" for name in names), *(f"{a} / {b}" for a, b in pairs)]
    header += [f"{name} MB" for name in names] if with_memory else []
    height, width = settings["size"]
    lines = [
        f"# {title}",
        "",
        f"{describe(record['machine'])} {height}x{width}, {settings['dtype']}; medians of {settings['rounds']} rounds. "
        f"`benchmarks/{program}` says what is measured. "
        "Columns such as torch / cvjax are ratios of times: at 2 the second contestant is twice as fast as the first.",
        "",
        table(header, body),
        "",
        *notes(rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def geometric_mean(ratios: Sequence[float | None]) -> float | None:
    """Of ratios that are all there; None where one is missing."""
    return None if None in ratios else statistics.geometric_mean(ratios)
