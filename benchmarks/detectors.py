"""One image through each of the five systems, on the same proposals: what every step of the story saved.

    python benchmarks/detectors.py
    python benchmarks/detectors.py --proposals 300 --rounds 3

R-CNN runs the whole net for every proposal, SPPnet and Fast R-CNN share the convolutions, Faster R-CNN makes its own
300 proposals, YOLO has none. Nets are the papers', at their papers' sizes, with fresh weights: an image of 600x800, for
YOLO 448x448, and AlexNet or ZF where the system has it, as well as VGG-16. Making the proposals is not measured, but
printed by `cvjax data propose`. One system after another in one process; times are medians.
"""

import argparse
import json
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from reporting import cell, machine, table

import cvjax
from cvjax.datasets.proposals.boxes import ProposalConfig, grid_boxes
from cvjax.models.detection.detector import Proposals
from cvjax.runtime.compiler import compiler_options

HERE = pathlib.Path(__file__).resolve().parent
SYSTEMS = (
    ("rcnn_vgg16", (600, 800)),
    ("rcnn_alexnet", (600, 800)),
    ("sppnet_zf5", (600, 800)),
    ("fast_rcnn_vgg16", (600, 800)),
    ("fast_rcnn_alexnet", (600, 800)),
    ("faster_rcnn_vgg16", (600, 800)),
    ("faster_rcnn_zf", (600, 800)),
    ("fasterrcnn_resnet50_fpn", (600, 800)),
    ("yolov1", (448, 448)),
    ("yolov1_tiny", (448, 448)),
)


def compile_system(name: str, size: tuple[int, int], count: int) -> tuple[Any, tuple[Any, ...]]:
    """A system's inference on one image, compiled, and what it is called with."""
    model = cvjax.create_model(name, num_classes=20)
    image = jax.random.normal(jax.random.key(0), (1, *size, 3))
    sizes = jnp.asarray([size], jnp.int32)
    given: dict[str, Any] = {}
    if getattr(model, "needs_proposals", False):
        boxes = grid_boxes(size, ProposalConfig(mode="grid", limit=count))
        rows = np.zeros((1, count, 4), np.float32)
        rows[0, : len(boxes)] = boxes
        given["proposals"] = Proposals(jnp.asarray(rows), jnp.arange(count)[None] < len(boxes))
    options = compiler_options(jax.default_backend())
    once = compiler_options(jax.default_backend(), once=True)
    variables = jax.jit(lambda key: model.init(key, image, sizes, **given), compiler_options=once)(jax.random.key(0))

    def detect(variables: Any, image: jax.Array, sizes: jax.Array, given: dict[str, Any]) -> Any:
        return model.apply(variables, image, sizes, **given)

    arguments = variables, image, sizes, given
    return jax.jit(detect, compiler_options=options).lower(*arguments).compile(), arguments


def write(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    slowest = record["rows"][0]["seconds"]
    body = [[row["system"], cell(row["seconds"]), cell(slowest / row["seconds"])] for row in record["rows"]]
    lines = [
        "# One image through each detector",
        "",
        f"{record['device']}, {record['machine']['threads']} threads; jax {jax.__version__}. {record['proposals']} "
        f"proposals where a system is given some, 20 classes, float32, medians of {record['rounds']} rounds. "
        "`benchmarks/detectors.py` says what is measured.",
        "",
        table(["system", "seconds", "times the first"], body),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proposals", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="*", default=[name for name, _ in SYSTEMS])
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {}
    # One system in memory at a time: VGG's and YOLO's dense layers alone are a gigabyte.
    for name, size in SYSTEMS:
        if name not in arguments.systems:
            continue
        compiled, given = compile_system(name, size, arguments.proposals)
        jax.block_until_ready(compiled(*given))
        times[name] = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            jax.block_until_ready(compiled(*given))
            times[name].append(time.perf_counter() - start)
        print(f"{name}: {statistics.median(times[name]):.3f} s", flush=True)
        del compiled, given
    device, host = jax.devices()[0], machine(())
    record = {
        "device": device.device_kind if device.platform != "cpu" else host["processor"],
        "machine": host,
        "proposals": arguments.proposals,
        "rounds": arguments.rounds,
        "rows": [{"system": name, "seconds": statistics.median(t), "times": t} for name, t in times.items()],
    }
    stem = arguments.out / f"detectors_{device.platform}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    stem.with_suffix(".md").write_text(write(record))
    print(write(record))


if __name__ == "__main__":
    main()
