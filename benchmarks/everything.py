"""Runs the benchmarks that need no accelerator, one after another, and writes benchmarks/README.md from their results.

    PYTHONPATH=. python benchmarks/everything.py --torch-python path/to/python-with-torch
    PYTHONPATH=. python benchmarks/everything.py --only nms crf
    PYTHONPATH=. python benchmarks/everything.py --page

A whole run takes hours and wants a machine that does nothing else. `--page` runs nothing: it writes the page anew from
the files in benchmarks/results.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CLASSIFIERS = (
    "alexnet", "vgg11", "googlenet", "resnet50", "densenet121", "seresnet50", "efficientnet_b0", "resnext50_32x4d",
)  # fmt: skip
PAIR = ("--contestants", "cvjax", "torch", "--threads")
# What is run: a name, the arguments, and whether PyTorch takes part.
PROGRAMS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    *(
        (name, (program, *PAIR, threads, *options), True)
        for threads in ("1", "2")
        for name, program, options in (
            ("models", "models.py", ("--modes", "training", "--models", *CLASSIFIERS)),
            ("inference", "models.py", ("--modes", "inference", "--batch", "1", "8", "--models", *CLASSIFIERS)),
            ("segmenters", "segmenters.py", ("--modes", "training")),
            ("faster_rcnn", "faster_rcnn.py", ()),
            ("whole_commands", "whole_commands.py", ()),
        )
    ),
    *(("layers", ("layers.py", "--threads", threads), True) for threads in ("1", "2")),
    *(("products", ("products.py", "--threads", threads), False) for threads in ("1", "2")),
    ("nms", ("nms.py", "--threads", "1"), True),
    ("crf", ("crf.py",), False),
    ("compiling", ("compiling.py",), False),
    ("detectors", ("detectors.py", "--proposals", "300"), False),
)
INTRODUCTION = """# Benchmarks

This page is made of the files in `benchmarks/results` by `python benchmarks/everything.py --page`; a test holds it to
them. Each table names its machine, the versions of both sides and the program that measured it; the program's first
lines say what is measured and how. Contestants take turns in one run, each in a process of its own, on the same
processors, and a ratio is the median of the rounds' ratios (`benchmarks/paired.py`).

To repeat everything on a quiet machine, with PyTorch in an environment of its own:

```sh
PYTHONPATH=. python benchmarks/everything.py --torch-python path/to/python-with-torch
```
"""


def page(results: pathlib.Path = HERE / "results") -> str:
    """The page as Markdown: an introduction, and every table of the results, by file name."""
    parts = [INTRODUCTION.rstrip()]
    for path in sorted(results.glob("*.md")):
        title, _, rest = path.read_text().strip().partition("\n")
        parts.append(f"#{title} (`{path.stem}`)\n{rest.rstrip()}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted({name for name, *_ in PROGRAMS})
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--torch-python", help="interpreter that has torch; without it PyTorch takes no part")
    parser.add_argument(
        "--page", action="store_true", help="run nothing, write the page from the results that are there"
    )
    arguments = parser.parse_args()
    for name, (program, *options), with_torch in () if arguments.page else PROGRAMS:
        if name not in arguments.only:
            continue
        torch = ["--torch-python", arguments.torch_python] if with_torch and arguments.torch_python else []
        subprocess.run([sys.executable, str(HERE / program), *options, *torch], check=True)
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    main()
