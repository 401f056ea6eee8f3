"""How fast our layers are, one at a time, against stock Flax and PyTorch: forward, and forward with gradients.

    python benchmarks/layers.py --torch-python path/to/python-with-torch
    python benchmarks/layers.py --zoo                      # every layer of every registered model
    python benchmarks/layers.py --zoo --sample 100         # a hundred of those
    python benchmarks/layers.py --zoo resnet50 --cases '*stride 2*' --modes forward

Contestants: `cvjax`, compiled with `cvjax.runtime.compiler.compiler_options` as training compiles; `cvjax-plain`, with
XLA's defaults as a bare `jax.jit` compiles; `flax` and `flax-options`, the layers of flax.linen under the defaults
and under those options (on other platforms than CPU there are none, so only `cvjax` and `flax` run there); `torch`,
channels_last, on a GPU under `torch.compile` and, with --dtype bfloat16, autocast. All get the same numbers and must
agree in what they compute, or they are left out of the row. "Gradients" computes the output and, from a given
cotangent, the gradients with respect to input and kernel. `benchmarks/paired.py` says how turns are taken.

torch is optional. With --zoo it is left out unless asked for by --contestants. Results go to
benchmarks/results/layers_PLATFORM.md and .json, or zoo_PLATFORM, with _threadsN where --threads says so.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import pathlib
import random

from layer_sides import JAX_SIDES, Layer
from paired import RATIOS, Message, add_arguments, measure, medians, ratio, settle, start, use_threads
from reporting import Report, cell, describe, machine, notes, stem_of, table

Shape = tuple[int, int, int]
HERE = pathlib.Path(__file__).resolve().parent


def _conv(shape: Shape, features: int, size: int, stride: int = 1, rate: int = 1, groups: int = 1) -> Layer:
    pad = rate * (size // 2)
    padding = ((pad, pad), (pad, pad))
    return Layer("conv", shape, features, (size, size), (stride, stride), padding, (rate, rate), groups)


def _transposed(shape: Shape, features: int, size: int, stride: int) -> Layer:
    """With an output of `stride` times the input's size."""
    pad = size // 2 + stride // 2 - 1
    return Layer("conv_transpose", shape, features, (size, size), (stride, stride), ((pad, pad), (pad, pad)))


def _max_pool(shape: Shape, size: int, stride: int, pad: int) -> Layer:
    return Layer("max_pool", shape, 0, (size, size), (stride, stride), ((pad, pad), (pad, pad)))


LAYERS = (
    _conv((56, 56, 128), 128, 3, groups=128),
    _conv((112, 112, 96), 96, 3, stride=2, groups=96),
    _conv((28, 28, 240), 240, 5, groups=240),
    _conv((33, 33, 256), 256, 3, rate=2, groups=256),
    _conv((28, 28, 256), 256, 3, groups=32),
    _conv((56, 56, 256), 256, 3, stride=2, groups=32),
    _transposed((28, 28, 64), 64, 4, 2),
    _transposed((7, 7, 21), 21, 64, 32),
    _max_pool((112, 112, 64), 3, 2, 1),
    _max_pool((112, 112, 64), 2, 2, 0),
    Layer("resize", (33, 33, 21), window=(513, 513)),
    _conv((28, 28, 256), 256, 3),
    _conv((56, 56, 128), 128, 3, stride=2),
    _conv((33, 33, 512), 256, 3, rate=12),
    _conv((224, 224, 3), 64, 7, stride=2),
    _conv((56, 56, 64), 256, 1),
    _conv((28, 28, 512), 128, 1),
    _conv((14, 14, 1024), 256, 1),
    _conv((56, 56, 256), 512, 1, stride=2),
)
MODES = ("forward", "gradients")


def name_of(layer: Layer) -> str:
    """What a layer is called in the tables, such as "3x3 stride 2 in 32 groups, 56x56x256 to 256"."""
    height, width, channels = layer.shape
    words = [f"{layer.window[0]}x{layer.window[1]}"]
    if layer.kind == "resize":
        return f"bilinear resize, {height}x{width}x{channels} to {words[0]}"
    depthwise = layer.kind == "conv" and layer.groups == channels > 1
    if layer.kind != "conv" or depthwise:
        kind = {"conv": "depthwise", "conv_transpose": "transposed"}.get(layer.kind, layer.kind.replace("_", "-"))
        words.insert(0, kind)
    for word, pair in (("stride", layer.strides), ("rate", layer.dilation)):
        if pair != (1, 1):
            words.append(f"{word} {pair[0]}" if pair[0] == pair[1] else f"{word} {pair[0]}x{pair[1]}")
    if layer.groups > 1 and not depthwise:
        words.append(f"in {layer.groups} groups")
    if layer.kind != "conv_transpose" and layer.padding != tuple(
        (d * (k // 2),) * 2 for d, k in zip(layer.dilation, layer.window)
    ):
        (top, bottom), (left, right) = layer.padding
        words.append(f"padded {top}+{bottom}, {left}+{right}")
    output = f" to {layer.features}" if layer.features and not depthwise else ""
    return f"{' '.join(words)}, {height}x{width}x{channels}{output}"


def zoo(models: list[str], size: int | None) -> dict[Layer, list[str]]:
    """The distinct layers of registered models (of all, if none is named), with the models that have them."""
    from stock import layers_of_model

    import cvjax

    layers: dict[Layer, list[str]] = {}
    for model in models or cvjax.list_models():
        for layer in layers_of_model(model, size or cvjax.model_info(model).image_size):
            layers.setdefault(layer, []).append(model)
    return layers


def write(record: Message) -> str:
    """The results as Markdown."""
    settings, rows = record["settings"], record["rows"]
    names = list(record["machine"]["contestants"])
    pairs = [(other, base) for other, base in RATIOS if {other, base} <= set(names)]
    body = [
        [row["case"], row["mode"]]
        + [cell(1e3 * row["seconds"][name] if name in row["seconds"] else None) for name in names]
        + [cell(ratio(row["times"], *pair)) for pair in pairs]
        for row in rows
    ]
    header = ["layer", "mode", *(f"{name} ms" for name in names), *(f"{other} / {base}" for other, base in pairs)]
    lines = [
        f"# {settings['title']}",
        "",
        f"{describe(record['machine'])} Batch {settings['batch']}, {settings['dtype']}; medians of "
        f"{settings['rounds']} rounds. `benchmarks/layers.py` says what is measured. The last columns are ratios of "
        "times: at 2 the second contestant is twice as fast as the first.",
        "",
        table(header, body),
        "",
    ]
    for other, base in pairs:
        ranked = sorted((r, row) for row in rows if (r := ratio(row["times"], other, base)) is not None)
        if ranked:
            worst, row = min(ranked, key=lambda entry: entry[0])
            lines.append(f"- {other} / {base}: worst {cell(worst)} at {row['case']} ({row['mode']}).")
    return "\n".join([*lines, *notes(rows)]).rstrip() + "\n"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--cases", default="*", metavar="PATTERN", help="layers by name, shell-style")
    parser.add_argument("--zoo", nargs="*", metavar="MODEL", help="the layers of these models, or of all")
    parser.add_argument("--sample", type=int, metavar="N", help="measure N of the layers, always the same ones")
    parser.add_argument("--size", type=int, help="with --zoo: side of the images; default: each model's own")
    arguments = parser.parse_args()
    in_zoo = arguments.zoo is not None
    layers = zoo(arguments.zoo, arguments.size) if in_zoo else {layer: [] for layer in LAYERS}
    layers = {layer: models for layer, models in layers.items() if fnmatch.fnmatch(name_of(layer), arguments.cases)}
    if arguments.sample and arguments.sample < len(layers):
        entries = list(layers.items())
        layers = dict(entries[i] for i in sorted(random.Random(0).sample(range(len(entries)), arguments.sample)))
    sides = arguments.contestants or [*JAX_SIDES, *([] if in_zoo else ["torch"])]
    if arguments.threads:
        use_threads(arguments.threads)
    with contextlib.ExitStack() as stack:
        contestants = start(stack, HERE / "layer_sides.py", sides, arguments.torch_python)
        dtype, schedule = settle(arguments, contestants)
        where = machine(contestants)
        title = "Layers of the models" if in_zoo else "Layers"
        settings = {"title": title, "batch": arguments.batch, "dtype": dtype, "rounds": schedule.rounds}
        stem = arguments.out / stem_of("zoo" if in_zoo else "layers", where, arguments.threads)
        report = Report(stem, where, settings, write)
        for layer, models in layers.items():
            for mode in arguments.modes:
                case = {"layer": dataclasses.asdict(layer), "mode": mode, "batch": arguments.batch, "dtype": dtype}
                times, absent = measure(contestants, case, schedule)
                row = {"case": name_of(layer), "mode": mode, "models": models}
                row |= {"seconds": medians(times), "times": times, "absent": absent}
                report.add(row)
                figures = ", ".join(f"{name} {cell(1e3 * t)} ms" for name, t in row["seconds"].items())
                print(f"{row['case']} ({mode}): {figures}", *notes([row]), sep="\n  ", flush=True)
    print(write(report.record))


if __name__ == "__main__":
    main()
