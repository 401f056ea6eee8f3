"""How fast greedy suppression is against torchvision's C++.

    python benchmarks/nms.py --torchvision-python path/to/python-with-torchvision

Cases are boxes around many centers, as a proposal network gives them, and boxes spread evenly, of which fewer overlap;
the better of them are looked for until there are as many as asked for. Ours has a static number of results and stops
when it has them; torchvision's finds all and is cut off. `benchmarks/paired.py` says how turns are taken; the boxes
that are kept must be the same.
"""

import argparse
import contextlib
import functools
import pathlib
import sys

import numpy as np
from paired import (
    Contestant,
    Message,
    Schedule,
    Work,
    add_arguments,
    measure,
    medians,
    ratio,
    serve,
    start,
    use_threads,
)
from reporting import Report, cell, describe, machine, notes, stem_of, table

CASES = (("proposals", 6000, 300), ("proposals", 12_000, 2000), ("even", 6000, 300))


def boxes_of(case: Message) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 [N, 4] on an image of 600x1000, and their scores [N]."""
    rng = np.random.default_rng(0)
    count = case["count"]
    centers = rng.uniform((0, 0), (1000, 600), (count, 2))
    sides = rng.uniform(16, 300, (count, 2))
    if case["kind"] == "proposals":
        things = rng.integers(0, 40, count)
        centers = rng.uniform((0, 0), (1000, 600), (40, 2))[things] + rng.normal(0, 12, (count, 2))
        sides = rng.uniform(40, 400, (40, 2))[things] * np.exp(rng.normal(0, 0.25, (count, 2)))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    return np.clip(boxes, 0, (1000, 600, 1000, 600)).astype(np.float32), rng.random(count, np.float32)


def prepare_cvjax(case: Message) -> Work:
    """Ours."""
    import jax

    from cvjax.ops.detection.nms import nms
    from cvjax.runtime.compiler import compiler_options

    boxes, scores = map(jax.numpy.asarray, boxes_of(case))
    suppress = functools.partial(nms, iou_threshold=0.7, max_output=case["most"])
    compiled = (
        jax.jit(suppress, compiler_options=compiler_options(jax.default_backend())).lower(boxes, scores).compile()
    )
    kept = compiled(boxes, scores)
    values = {"kept": np.asarray(boxes)[np.asarray(kept.indices)][np.asarray(kept.valid)]}
    return Work(lambda: compiled(boxes, scores), jax.block_until_ready, values, jax.default_backend() == "cpu")


def prepare_torchvision(case: Message) -> Work:
    """Theirs."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    boxes, scores = (torch.from_numpy(array).to(device) for array in boxes_of(case))

    def suppress() -> torch.Tensor:
        return torchvision.ops.nms(boxes, scores, 0.7)[: case["most"]]

    def wait(result: torch.Tensor) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return Work(suppress, wait, {"kept": boxes[suppress()].cpu().numpy()}, device == "cpu")


def write(record: Message) -> str:
    """The results as Markdown."""
    names = list(record["machine"]["contestants"])
    body = [
        [
            row["case"],
            *(cell(1e3 * row["seconds"][name]) if name in row["seconds"] else "-" for name in names),
            cell(ratio(row["times"], "torchvision", "cvjax")),
        ]
        for row in record["rows"]
    ]
    lines = [
        "# Greedy suppression",
        "",
        f"{describe(record['machine'])} Threshold 0.7; milliseconds, medians of {record['settings']['rounds']} rounds. "
        "`benchmarks/nms.py` says what is measured.",
        "",
        table(["boxes", *(f"{name} ms" for name in names), "torchvision / cvjax"], body),
        "",
        *notes(record["rows"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Measure, print, and write the results; or, with a side's name, serve it."""
    if sys.argv[1:] == ["cvjax"]:
        from layer_sides import hello

        serve(hello("cvjax"), prepare_cvjax)
        return
    if sys.argv[1:] == ["torchvision"]:
        import torch
        import torchvision

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        serve({"versions": versions, "device": device}, prepare_torchvision)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=9)
    parser.add_argument("--torchvision-python", help="interpreter that has torchvision; without it ours runs alone")
    arguments = parser.parse_args()
    if arguments.threads:
        use_threads(arguments.threads)
    with contextlib.ExitStack() as stack:
        program = pathlib.Path(__file__).resolve()
        contestants = start(stack, program, ["cvjax"], None)
        if arguments.torchvision_python:
            command = [arguments.torchvision_python, str(program), "torchvision"]
            contestants.append(stack.enter_context(Contestant("torchvision", command)))
        where = machine(contestants)
        settings = {"rounds": arguments.rounds}
        report = Report(arguments.out / stem_of("nms", machine(contestants[:1]), None), where, settings, write)
        schedule = Schedule(arguments.rounds, arguments.burst_ms / 1e3, tolerance=1e-5)
        for kind, count, most in CASES:
            times, absent = measure(contestants, {"kind": kind, "count": count, "most": most}, schedule)
            name = f"{kind}, {count} to {most}"
            report.add({"case": name, "mode": "inference", "seconds": medians(times), "times": times, "absent": absent})
    print(write(report.record))


if __name__ == "__main__":
    main()
