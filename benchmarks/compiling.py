"""How long a training step takes to compile: the engine's own step, models one after the other.

    python benchmarks/compiling.py
    python benchmarks/compiling.py --models resnet50 --size 64 --options xla_backend_optimization_level=1

Nothing is drawn or run: shapes are enough. Tracing (Python, to a jaxpr), lowering (to StableHLO) and compiling (XLA,
which on CPU is LLVM for the larger part) are timed apart, in a process of its own for each model, without the
persistent cache. Beside them stands how long a loop of 10 million additions takes in Python then, because a shared
machine's speed changes. Results go to benchmarks/results/compiling_PLATFORM.md and .json.
"""

import argparse
import multiprocessing
import pathlib
import time
from types import SimpleNamespace

from paired import Message
from reporting import Report, cell, describe, machine, stem_of, table

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
MODELS = ("resnet50", "densenet121", "densenet201", "efficientnet_b7")
STAGES = ("trace", "lower", "compile")


def probe() -> float:
    """Seconds of 10 million additions in Python."""
    start, total = time.perf_counter(), 0
    for i in range(10_000_000):
        total += i
    return time.perf_counter() - start


def measure(name: str, settings: Message) -> tuple[dict[str, float], Message]:
    """Seconds of each stage for one model's step, in a process that has compiled nothing yet, and what ran it."""
    import jax
    import jax.numpy as jnp

    import cvjax
    from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
    from cvjax.engine.state import create_state, init_variables
    from cvjax.engine.step import make_train_step
    from cvjax.runtime.compiler import compiler_options
    from cvjax.tasks.classification.config import ClassificationConfig
    from cvjax.tasks.classification.task import Classification

    jax.config.update("jax_enable_compilation_cache", False)
    loop, device = probe(), jax.devices()[0]
    batch, size = settings["batch"], settings["size"]
    options = compiler_options(device.platform) | dict(option.split("=", 1) for option in settings["options"])
    model = cvjax.create_model(name, num_classes=1000)
    task = Classification(ClassificationConfig(), tuple(map(str, range(1000))))
    config = OptimizerConfig()
    optimizer = make_optimizer(config, steps=1000)
    step = make_train_step(model, task, optimizer, make_schedule(config, 1000))

    def start(key: jax.Array) -> object:
        return create_state(init_variables(model, key, (size, size, 3)), optimizer, ema=False)

    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    state = jax.eval_shape(start, key)
    data = {
        "image": jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((batch,), jnp.bool_),
    }
    program = jax.jit(step, donate_argnums=0, compiler_options=options)
    times = [time.perf_counter()]
    traced = program.trace(state, data, key)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    lowered.compile()
    times.append(time.perf_counter())
    seconds = {stage: after - before for stage, before, after in zip(STAGES, times, times[1:])}
    seconds["total"], seconds["loop"] = times[-1] - times[0], loop
    return seconds, {"versions": {"jax": jax.__version__}, "device": device.platform}


def write(record: Message) -> str:
    """The results as Markdown."""
    names = [*STAGES, "total", "loop"]
    body = [[row["case"], *(cell(row["seconds"][name]) for name in names)] for row in record["rows"]]
    settings = record["settings"]
    lines = [
        "# Time to compile a training step",
        "",
        f"{describe(record['machine'])} {settings['size']}x{settings['size']}, batch {settings['batch']}, float32, "
        "SGD with momentum; seconds. `benchmarks/compiling.py` says what is measured.",
        "",
        table(["model", *names], body),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL", help="classifiers, by registered name")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="side of the images, in pixels")
    parser.add_argument(
        "--options", nargs="*", default=[], metavar="NAME=VALUE", help="of XLA, beside the engine's own"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    settings = {"batch": arguments.batch, "size": arguments.size, "options": arguments.options}
    report = None
    for name in arguments.models:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            seconds, hello = alone.apply(measure, (name, settings))
        where = machine([SimpleNamespace(name="cvjax", hello=hello)])
        report = report or Report(arguments.out / stem_of("compiling", where, None), where, settings, write)
        report.add({"case": name, "mode": "training", "seconds": seconds})
        print(f"{name}: {', '.join(f'{stage} {cell(value)} s' for stage, value in seconds.items())}", flush=True)


if __name__ == "__main__":
    main()
