"""How fast the dense CRF is against pydensecrf, the wrapper of the authors' C++ program, on one core.

    python benchmarks/crf.py --threads 1 --pydensecrf-python path/to/python-with-pydensecrf
    python benchmarks/crf.py --images photograph.jpg other.png --batch 16      # on a GPU

A case is the whole of it, from unary energies and an image to marginals after ten iterations with DeepLab v2's kernels:
the lattice is built anew. Images are photographs if given, and noise: random colors, which make the largest lattice
that there can be. Results go to benchmarks/results/crf_PLATFORM.md and .json, with --threads N to
crf_PLATFORM_threadsN. `benchmarks/paired.py` says how turns are taken; marginals must agree to 10% in norm, as both
approximate.
"""

import argparse
import contextlib
import functools
import pathlib
import sys
import tempfile

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

HERE = pathlib.Path(__file__).resolve().parent
ITERATIONS = 10
SMOOTH, APPEARANCE = (3.0, 1.0), (4.0, 67.0, 3.0)  # DeepLab v2's weights and deviations.


def images_of(case: Message) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [B, H, W, 3], and unary energies float32 [B, H, W, C] of soft blobs under noise."""
    rng = np.random.default_rng(0)
    if case["image"] == "noise":
        images = rng.integers(0, 256, (case["batch"], *case["size"], 3), np.uint8)
    else:
        images = np.repeat(np.load(case["image"])[None], case["batch"], axis=0)
    batch, height, width, _ = images.shape
    rows, columns = np.mgrid[:height, :width]
    labels = (rows // 60 * 7 + columns // 60) % case["classes"]
    scores = rng.gumbel(size=(batch, height, width, case["classes"])).astype(np.float32)
    scores += 2.0 * (labels[..., None] == np.arange(case["classes"]))
    return images, -scores


def prepare_cvjax(case: Message) -> Work:
    """Ours, a batch at a time."""
    import jax

    from cvjax.ops.crf.dense_crf import dense_crf
    from cvjax.ops.crf.kernels import CRFKernels
    from cvjax.runtime.compiler import compiler_options

    images, unaries = map(jax.numpy.asarray, images_of(case))
    infer = functools.partial(dense_crf, kernels=CRFKernels(*SMOOTH, *APPEARANCE), iterations=ITERATIONS)
    compiled = jax.jit(infer, compiler_options=compiler_options(jax.default_backend())).lower(unaries, images).compile()
    values = {"marginals": np.asarray(compiled(unaries, images))}
    return Work(lambda: compiled(unaries, images), jax.block_until_ready, values, jax.default_backend() == "cpu")


def prepare_pydensecrf(case: Message) -> Work:
    """Theirs, image after image."""
    from pydensecrf.densecrf import DenseCRF2D

    images, unaries = images_of(case)
    unaries = unaries.transpose(0, 3, 1, 2).reshape(len(images), case["classes"], -1)

    def infer() -> np.ndarray:
        marginals = []
        for image, unary in zip(images, unaries):
            height, width, _ = image.shape
            crf = DenseCRF2D(width, height, case["classes"])
            crf.setUnaryEnergy(np.ascontiguousarray(unary))
            crf.addPairwiseGaussian(sxy=SMOOTH[1], compat=SMOOTH[0])
            crf.addPairwiseBilateral(
                sxy=APPEARANCE[1], srgb=APPEARANCE[2], rgbim=np.ascontiguousarray(image), compat=APPEARANCE[0]
            )
            marginals.append(np.array(crf.inference(ITERATIONS)).reshape(case["classes"], height, width))
        return np.stack(marginals)

    return Work(infer, lambda result: None, {"marginals": infer().transpose(0, 2, 3, 1)})


def write(record: Message) -> str:
    """The results as Markdown."""
    settings, rows = record["settings"], record["rows"]
    names = list(record["machine"]["contestants"])
    body = [
        [
            row["case"],
            *(cell(row["seconds"][name] / settings["batch"]) if name in row["seconds"] else "-" for name in names),
            cell(ratio(row["times"], "pydensecrf", "cvjax")),
        ]
        for row in rows
    ]
    header = ["image", *(f"{name} s" for name in names), "pydensecrf / cvjax"]
    lines = [
        "# Dense CRF",
        "",
        f"{describe(record['machine'])} {settings['classes']} classes, {ITERATIONS} iterations, batch "
        f"{settings['batch']}; seconds an image, medians of {settings['rounds']} rounds; pydensecrf has one thread. "
        "`benchmarks/crf.py` says what is measured.",
        "",
        table(header, body),
        "",
        *notes(rows),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Measure, print, and write the results; or, with a side's name, serve it."""
    if sys.argv[1:] in (["cvjax"], ["pydensecrf"]):
        side = sys.argv[1]
        if side == "cvjax":
            from layer_sides import hello

            serve(hello("cvjax"), prepare_cvjax)
        else:
            serve({"versions": {"pydensecrf": "1.0rc3"}, "device": "cpu"}, prepare_pydensecrf)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=5)
    parser.add_argument("--pydensecrf-python", help="interpreter that has pydensecrf; without it ours runs alone")
    parser.add_argument("--images", nargs="*", type=pathlib.Path, default=[], help="photographs")
    parser.add_argument("--size", nargs=2, type=int, default=(375, 500), help="height and width of the noise")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.threads:
        use_threads(arguments.threads)
    with contextlib.ExitStack() as stack:
        program = pathlib.Path(__file__).resolve()
        contestants = start(stack, program, ["cvjax"], None)
        if arguments.pydensecrf_python:
            command = [arguments.pydensecrf_python, str(program), "pydensecrf"]
            contestants.append(stack.enter_context(Contestant("pydensecrf", command)))
        where = machine(contestants)
        common = {"batch": arguments.batch, "classes": arguments.classes, "size": list(arguments.size)}
        settings = {**common, "rounds": arguments.rounds}
        stem = stem_of("crf", machine(contestants[:1]), arguments.threads)
        report = Report(arguments.out / stem, where, settings, write)
        schedule = Schedule(arguments.rounds, arguments.burst_ms / 1e3, tolerance=0.1)
        for image in [*arguments.images, "noise"]:
            case = {"image": _pixels(stack, image), **common}
            times, absent = measure(contestants, case, schedule)
            name = "noise, {}x{}".format(*arguments.size) if image == "noise" else image.stem
            report.add({"case": name, "mode": "inference", "seconds": medians(times), "times": times, "absent": absent})
    print(write(report.record))


def _pixels(stack: contextlib.ExitStack, image: pathlib.Path | str) -> str:
    """A file with the photograph's pixels, which the children read; noise they make themselves."""
    from PIL import Image

    if image == "noise":
        return image
    path = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / "pixels.npy"
    with Image.open(image) as opened:
        np.save(path, np.asarray(opened.convert("RGB")))
    return str(path)


if __name__ == "__main__":
    main()
