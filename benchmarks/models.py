"""How fast whole classifiers are against stock Flax and PyTorch: inference, and a training step.

    python benchmarks/models.py --torch-python path/to/python-with-torch
    python benchmarks/models.py --models resnet50 --modes training --batch 256    # on a GPU

Contestants are those of `benchmarks/layers.py`. The stock sides run the same models with the layers of flax.linen in
the place of ours (`benchmarks/stock.py`), so parameters and results are the same; torch runs torchvision's models, or
their twins in `benchmarks/torch_nets`, channels_last, on a GPU under `torch.compile` and, with --dtype bfloat16,
autocast. A training step is cross entropy, gradients, SGD with momentum and BatchNorm's update, on one batch that is
there already; nothing is dropped. All start from the same weights, and must agree in logits, or in the loss and in the
gradient's norm, or they are left out of the row. `benchmarks/paired.py` says how turns are taken.

On a CPU the table says what a training step needs in memory too: parameters, statistics and the optimizer's state, and
what the process grows by at most during a step, so without the programs and libraries themselves.

torch is optional. Results go to benchmarks/results/models_PLATFORM.md and .json, with --threads N to
models_PLATFORM_threadsN.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Sequence

from layer_sides import JAX_SIDES
from paired import RATIOS, Message, add_arguments, measure, medians, ratio, settle, start, use_threads
from reporting import Report, cell, describe, machine, notes, place, table

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("resnet50", "resnext50_32x4d", "efficientnet_b0")
MODES = ("inference", "training")


def write(record: Message) -> str:
    """The results as Markdown."""
    settings, rows = record["settings"], record["rows"]
    names = list(record["machine"]["contestants"])
    pairs = [(other, base) for other, base in RATIOS if {other, base} <= set(names)]

    def rate(row: Message, name: str) -> str:
        return cell(settings["batch"] / row["seconds"][name] if name in row["seconds"] else None)

    with_memory = any(row.get("memory") for row in rows)

    def memory(row: Message) -> list[str]:
        return [cell(row.get("memory", {}).get(name, 0) / 1e6 or None) for name in names] if with_memory else []

    body = [
        [
            *(row["case"], row["mode"]),
            *(rate(row, n) for n in names),
            *(cell(ratio(row["times"], *p)) for p in pairs),
            *memory(row),
        ]
        for row in rows
    ]
    for mode in MODES:
        same = [row for row in rows if row["mode"] == mode]
        if len(same) > 1:
            means = (cell(geometric_mean([ratio(row["times"], *pair) for row in same])) for pair in pairs)
            body.append([f"geometric mean of {len(same)}", mode, *("" for _ in names), *means, *memory({})])
    header = ["model", "mode", *(f"{name} images/s" for name in names), *(f"{a} / {b}" for a, b in pairs)]
    header += [f"{name} MB" for name in names] if with_memory else []
    lines = [
        "# Classifiers",
        "",
        f"{describe(record['machine'])} {settings['size']}x{settings['size']}, batch {settings['batch']}, "
        f"{settings['dtype']}; medians of {settings['rounds']} rounds. `benchmarks/models.py` says what is measured. "
        "The last columns are ratios of times: at 2 the second contestant is twice as fast as the first.",
        "",
        table(header, body),
        "",
        *notes(rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def geometric_mean(ratios: Sequence[float | None]) -> float | None:
    """Of ratios that are all there; None where one is missing."""
    return None if None in ratios else statistics.geometric_mean(ratios)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=7)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL", help="classifiers, by registered name")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="side of the images, in pixels")
    arguments = parser.parse_args()
    if arguments.threads:
        use_threads(arguments.threads)
    with contextlib.ExitStack() as stack:
        sides = arguments.contestants or [*JAX_SIDES, "torch"]
        contestants = start(stack, HERE / "model_sides.py", sides, arguments.torch_python)
        dtype, schedule = settle(arguments, contestants)
        # Rounding adds up through the layers, the more the fewer values BatchNorm averages: with 2 images of 64x64,
        # ResNet-50's gradient in float32 is 2e-3 from that in float64 in PyTorch alone, with 4 of 128x128 1e-4.
        schedule = dataclasses.replace(schedule, tolerance=10 * schedule.tolerance)
        where = machine(contestants)
        common = {"batch": arguments.batch, "size": arguments.size, "dtype": dtype}
        stem = f"models_{place(where)}" + (f"_threads{arguments.threads}" if arguments.threads else "")
        report = Report(arguments.out / stem, where, {**common, "rounds": schedule.rounds}, write)
        for model in arguments.models:
            for mode in arguments.modes:
                times, absent = measure(contestants, {"model": model, "mode": mode, **common}, schedule)
                row = {"case": model, "mode": mode, "seconds": medians(times), "times": times, "absent": absent}
                facts = {one.name: one.facts for one in contestants if one.name in times}
                needs = {name: fact["state"] + fact["peak"] for name, fact in facts.items() if fact.get("peak")}
                row |= {"memory": needs} if needs else {}
                report.add(row)
                figures = (f"{name} {cell(arguments.batch / t)} images/s" for name, t in row["seconds"].items())
                print(f"{model} ({mode}): {', '.join(figures)}", *notes([row]), sep="\n  ", flush=True)
    print(write(report.record))


if __name__ == "__main__":
    main()
