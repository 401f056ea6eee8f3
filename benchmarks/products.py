"""Where products and sums of our own pay: the measurements behind the rules of `cvjax/ops/cpu`.

    PYTHONPATH=. python benchmarks/products.py --threads 1

Each kind is computed as XLA does it (convolutions: as oneDNN does, where it may be called) and as we can, in turns in
one process. The column "rule" says what the rules choose for that shape. A ratio below 1 beside "ours", or above 1
beside "other", says that the rule is wrong on this machine. Batch 8 where a shape has none, float32, shapes of the zoo.
Results go to benchmarks/results/products_cpu_threadsN.md and .json. The kinds are

- `outer`, `matrix`: kernel gradients of 1x1 convolutions, and those convolutions;
- `transposed`: gradients of dense layers for few rows;
- `narrowing`: kernel gradients of 3x3 convolutions to few channels;
- `sums`: the two sums of a BatchNorm's gradient;
- `tiles`, `tiles_gradient`: 3x3 and 5x5 convolutions from tiles, and their kernel gradients;
- `grouped_tiles`: kernel gradients of grouped 3x3 convolutions from tiles, beside products of gathered taps;
- `depthwise`: kernel gradients of depthwise convolutions a few images at a time, beside all images at once;
- `mixing`: bilinear mixing of rows, beside a product with the matrix of weights, with a sum that reads the result.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from paired import Message, disagreement, medians, ratio, use_threads
from reporting import Report, cell, describe, machine, stem_of, table

KINDS = (
    "outer",
    "transposed",
    "matrix",
    "narrowing",
    "sums",
    "tiles",
    "tiles_gradient",
    "grouped_tiles",
    "depthwise",
    "mixing",
)
OUTER = (
    (8, 2048, 1000), (392, 2048, 512), (392, 512, 2048), (392, 832, 384), (1568, 1024, 256), (1568, 256, 1024),
    (1568, 480, 80), (6272, 512, 128), (6272, 128, 512), (6272, 240, 40), (25088, 64, 256), (25088, 256, 64),
    (25088, 144, 24), (25088, 64, 64), (100352, 16, 96), (100352, 32, 16),
)  # fmt: skip
TRANSPOSED = ((1, 9216, 4096), (8, 9216, 4096), (8, 4096, 4096), (8, 2048, 1000), (64, 9216, 4096), (256, 4096, 4096))
MATRIX = (
    (25088, 64, 64), (25088, 64, 256), (25088, 256, 64), (25088, 128, 256), (25088, 256, 256), (6272, 512, 128),
    (6272, 128, 512), (6272, 512, 512), (1568, 1024, 256), (392, 2048, 512), (25088, 144, 24), (25088, 24, 144),
    (100352, 32, 16), (100352, 16, 96), (6272, 40, 240), (6272, 240, 40),
)  # fmt: skip
NARROWING = (
    (56, 128, 32), (28, 128, 32), (14, 128, 32), (7, 128, 32), (56, 64, 16), (28, 192, 48), (28, 192, 16),
    (14, 256, 64), (33, 256, 21), (28, 128, 64), (56, 64, 32), (28, 32, 128), (28, 128, 128),
)  # fmt: skip
SUMS = ((112, 64), (56, 64), (56, 256), (28, 128), (28, 512), (14, 256), (14, 1024), (7, 512), (7, 2048), (33, 256))

TILES = (  # batch, height, width, channels, features, taps, rate
    (8, 56, 56, 64, 64, 3, 1), (8, 28, 28, 128, 128, 3, 1), (8, 14, 14, 256, 256, 3, 1), (8, 7, 7, 512, 512, 3, 1),
    (8, 112, 112, 64, 128, 3, 1), (8, 56, 56, 256, 256, 3, 1), (8, 28, 28, 512, 512, 3, 1), (8, 14, 14, 512, 512, 3, 1),
    (8, 56, 56, 64, 192, 3, 1), (8, 14, 14, 96, 208, 3, 1), (8, 7, 7, 160, 320, 3, 1), (8, 13, 13, 192, 384, 3, 1),
    (8, 56, 56, 128, 32, 3, 1), (8, 7, 7, 128, 32, 3, 1), (8, 27, 27, 64, 192, 5, 1), (8, 28, 28, 32, 96, 5, 1),
    (8, 14, 14, 32, 128, 5, 1), (8, 28, 28, 16, 32, 5, 1), (8, 180, 240, 16, 16, 3, 1), (8, 90, 120, 32, 32, 3, 1),
    (8, 45, 60, 64, 64, 3, 1), (8, 33, 33, 24, 24, 3, 1), (8, 33, 33, 48, 48, 3, 1), (8, 33, 33, 512, 512, 3, 2),
    (8, 33, 33, 512, 512, 3, 4), (4, 33, 33, 512, 256, 3, 12), (1, 200, 272, 256, 256, 3, 1), (1, 56, 56, 64, 64, 3, 1),
    (1, 28, 28, 128, 128, 3, 1), (1, 14, 14, 256, 256, 3, 1), (1, 14, 14, 512, 512, 3, 1), (1, 7, 7, 512, 512, 3, 1),
    (1, 13, 17, 256, 256, 3, 1),
)  # fmt: skip

GROUPED = ((56, 128), (28, 256), (14, 512), (7, 1024), (28, 512), (14, 1024))  # side, channels, in 32 groups
DEPTHWISE = (  # side, channels, taps, stride
    (112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 3, 1), (56, 144, 5, 2), (28, 240, 5, 1), (14, 480, 3, 1),
    (14, 672, 5, 1), (7, 1152, 5, 1),
)  # fmt: skip
MIXING = (
    (33, 513, 21),
    (129, 513, 21),
    (45, 180, 11),
    (12, 180, 11),
    (8, 16, 256),
    (25, 50, 256),
)  # from, to, channels


def cases() -> list[tuple[str, str, Callable[..., Any], Callable[..., Any], Sequence[Any], bool]]:
    """Each case: kind, shape, the other function, ours, the arrays, and whether the rules choose ours."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cvjax.ops import channels, conv_xla, resize
    from cvjax.ops.cpu import conv, depthwise, grouped, narrowing, onednn, winograd
    from cvjax.ops.cpu.mixing import mix_rows
    from cvjax.ops.geometry import Geometry

    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    def plain_outer(x: jax.Array, y: jax.Array) -> jax.Array:
        return x.T @ y

    def plain_transposed(x: jax.Array, y: jax.Array) -> jax.Array:
        return x @ y.T

    def plain_matrix(x: jax.Array, y: jax.Array) -> jax.Array:
        return x @ y

    def gradient_sums(sums: Callable[..., jax.Array], x: jax.Array, ct: jax.Array) -> jax.Array:
        ct = jnp.where(x > 0, ct, 0)
        return sums(ct * x, ct)

    def read(way: Callable[..., jax.Array], x: jax.Array) -> jax.Array:
        return (way(x) ** 2).sum(axis=-1)

    found = []
    for rows, inside, outside in OUTER:
        arrays = draw(rows, inside), draw(rows, outside)
        chosen = onednn.suits_outer(*arrays)
        found.append(("outer", f"{rows}x{inside} by {outside}", plain_outer, onednn.outer, arrays, chosen))
    for rows, inside, outside in TRANSPOSED:
        arrays = draw(rows, outside), draw(inside, outside)
        chosen = onednn.suits_transposed(*arrays)
        shape = f"{rows} rows, {inside}x{outside}"
        found.append(("transposed", shape, plain_transposed, onednn.times_transposed, arrays, chosen))
    for rows, inside, outside in MATRIX:
        arrays = draw(rows, inside), draw(inside, outside)
        chosen = onednn.suits_matrix(*arrays)
        shape = f"{rows}x{inside} to {outside}"
        found.append(("matrix", shape, plain_matrix, onednn.times_matrix, arrays, chosen))
    for side, inside, outside in NARROWING:
        geometry = Geometry((side, side), (3, 3), padding=((1, 1), (1, 1)))
        arrays = draw(8, side, side, inside), draw(8, side, side, outside)
        ours = partial(narrowing.kernel_gradient, geometry=geometry, outer=partial(conv._outer, library=True))
        xla = partial(conv_xla.kernel_gradient, geometry=geometry)
        chosen = narrowing.suits(*arrays, geometry)
        found.append(("narrowing", f"{side}x{side}x{inside} to {outside}", xla, ours, arrays, chosen))
    for side, inside in SUMS:
        arrays = draw(8, side, side, inside), draw(8, side, side, inside)
        summed = channels._Summed(arrays[0].shape, divisor=1)
        ours = partial(channels._blocked_sums, geometry=summed)
        xla = partial(channels._plain_sums, geometry=summed)
        found.append(
            (
                "sums", f"{side}x{side}x{inside}", partial(gradient_sums, xla), partial(gradient_sums, ours), arrays,
                True,
            )
        )  # fmt: skip
    for batch, height, width, inside, outside, taps, rate in TILES:
        pads = (taps // 2 * rate,) * 2
        geometry = Geometry((height, width), (taps, taps), padding=(pads, pads), kernel_dilation=(rate, rate))
        x, ct = draw(batch, height, width, inside), draw(batch, height, width, outside)
        kernel = draw(taps, taps, inside, outside) / (inside * taps**2) ** 0.5
        plain = onednn.convolve if onednn.suits(x, kernel, geometry) else conv_xla.convolve
        for kind, other, ours, arrays, chosen in (
            ("tiles", plain, winograd.convolve, (x, kernel), conv._suits_winograd(x, outside, geometry)),
            (
                "tiles_gradient", conv_xla.kernel_gradient, winograd.kernel_gradient, (x, ct),
                winograd.suits_gradient(x, ct, geometry) and conv._valid_share(geometry) >= conv._FEW_VALID,
            ),
        ):  # fmt: skip
            shape = f"{batch}x{height}x{width}x{inside} to {outside}, {taps}x{taps}" + f" rate {rate}" * (rate > 1)
            found.append((kind, shape, *(partial(f, geometry=geometry) for f in (other, ours)), arrays, chosen))
    for side, width in GROUPED:
        geometry = Geometry((side, side), (3, 3), padding=((1, 1), (1, 1)), groups=32)
        arrays = draw(8, side, side, width), draw(8, side, side, width)
        other, ours = (partial(way.kernel_gradient, geometry=geometry) for way in (grouped, winograd))
        chosen = winograd.suits_gradient(*arrays, geometry)
        found.append(("grouped_tiles", f"{side}x{side}x{width}, 32 groups", other, ours, arrays, chosen))
    for side, width, taps, stride in DEPTHWISE:
        pads = (taps // 2, taps // 2)
        geometry = Geometry((side, side), (taps, taps), (stride, stride), (pads, pads), groups=width)
        arrays = draw(8, side, side, width), draw(8, *geometry.output_size, width)
        other, ours = (partial(depthwise.kernel_gradient, geometry=geometry, in_blocks=few) for few in (False, True))
        found.append(("depthwise", f"{side}x{side}x{width}, {taps}x{taps} stride {stride}", other, ours, arrays, True))
    for source, target, width in MIXING:
        matrix = resize.bilinear_matrix(source, target)
        ways = partial(resize._along_second, matrix), partial(mix_rows, matrix=matrix)
        other, ours = (partial(read, way) for way in ways)
        arrays = (draw(8, source, target * width),)
        found.append(("mixing", f"{source} to {target}, {target}x{width}", other, ours, arrays, True))
    return found


def measure(functions: dict[str, Callable[..., Any]], arrays: Sequence[Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function, which take turns, one a round.

    Raises:
      SystemExit: they compute different things.
    """
    import jax
    import numpy as np

    from cvjax.runtime.compiler import compiler_options

    options = compiler_options("cpu")
    programs = {n: jax.jit(f, compiler_options=options).lower(*arrays).compile() for n, f in functions.items()}
    reference, *others = ({"result": np.asarray(program(*arrays))} for program in programs.values())
    if any(disagreement(other, reference, 1e-4) for other in others):
        raise SystemExit("the two compute different things")
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arrays))
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def write(record: Message) -> str:
    """The results as Markdown."""
    body = []
    for row in record["rows"]:
        seconds = medians(row["times"])
        times = (cell(1e3 * seconds[name]) for name in ("other", "ours"))
        body.append([row["mode"], row["case"], *times, cell(ratio(row["times"], "other", "ours")), row["rule"]])
    lines = [
        "# Products and sums",
        "",
        f"{describe(record['machine'])} Batch 8, float32; medians of {record['settings']['rounds']} rounds. "
        "`benchmarks/products.py` says what is measured.",
        "",
        table(["kind", "shape", "other ms", "ours ms", "other / ours", "rule"], body),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="processors; default: 1")
    parser.add_argument("--rounds", type=int, default=9, help="turns of both")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent / "results")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    import jax

    from cvjax.runtime.host_memory import keep_host_memory

    keep_host_memory()  # as commands do; else page faults are what large cases measure

    hello = {"versions": {"jax": jax.__version__}, "device": jax.default_backend()}
    where = machine([SimpleNamespace(name="cvjax", hello=hello)])
    stem = arguments.out / stem_of("products", where, arguments.threads)
    report = Report(stem, where, {"rounds": arguments.rounds}, write)
    for kind, shape, other, ours, arrays, chosen in cases():
        if arguments.kinds and kind not in arguments.kinds:
            continue
        times = measure({"other": other, "ours": ours}, arrays, arguments.rounds)
        rule = "ours" if chosen else "other"
        report.add({"case": shape, "mode": kind, "times": times, "rule": rule})
        print(kind, shape, *(f"{n} {cell(1e3 * t)} ms" for n, t in medians(times).items()), rule, flush=True)


if __name__ == "__main__":
    main()
