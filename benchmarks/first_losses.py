"""Compares the first losses of presets between two checkouts: does a change of the code change what is trained?

    python benchmarks/first_losses.py run CHECKOUT losses_before.json      one file a checkout; goes on where it stopped
    python benchmarks/first_losses.py table losses_before.json losses_after.json

Every `quick*` preset runs in a process of its own, on seed 0, until it has logged its first steps, and is then killed.
`--data` is the folder with the real sets that `camvid` and `unet_isbi` need (`$CVJAX_TEST_DATA/data`).
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

STEPS = 20
LIMIT = 900  # seconds that a preset may take to compile and to take its steps
MANUAL_DIRS = {"camvid": "camvid", "unet_isbi": "isbi_membrane"}


def quick_presets(checkout: pathlib.Path) -> list[tuple[str, str]]:
    """Lists (experiment, preset) for each preset of a checkout whose name starts with `quick`."""
    script = (
        "import importlib, pathlib\n"
        "for path in sorted(pathlib.Path('experiments').glob('[a-z]*.py')):\n"
        "    module = importlib.import_module(f'experiments.{path.stem}')\n"
        "    print(*(f'{path.stem} {name}' for name in module.PRESETS if name.startswith('quick')), sep='\\n')\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=checkout, env=_environment(checkout), capture_output=True, text=True
    )
    if output.returncode:
        raise SystemExit(output.stderr)
    return [(line.split()[0], line.split()[1]) for line in output.stdout.splitlines() if line]


def first_losses(checkout: pathlib.Path, experiment: str, preset: str, data: pathlib.Path | None) -> list[float]:
    """Runs a preset and returns its first losses; raises RuntimeError with its output where it ends before."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"experiments.{experiment}", preset, "--workdir", folder, "--log-every", "5"]
        if experiment in MANUAL_DIRS:
            if data is None:
                raise RuntimeError("needs --data")
            command += ["--input.manual-dir", str(data / MANUAL_DIRS[experiment])]
        log = pathlib.Path(folder) / "output.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=checkout, env=_environment(checkout), stdout=output, stderr=subprocess.STDOUT
            )
            try:
                return _wait_for_losses(process, pathlib.Path(folder), log)
            finally:
                process.kill()
                process.wait()


def _wait_for_losses(process: subprocess.Popen, folder: pathlib.Path, log: pathlib.Path) -> list[float]:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        stopped = process.poll() is not None
        for path in folder.rglob("metrics.jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
            if len(losses) >= STEPS:
                return [losses[step] for step in range(1, STEPS + 1)]
        if stopped:
            raise RuntimeError(log.read_text()[-2000:])
        time.sleep(0.5)
    raise RuntimeError(f"no {STEPS} steps within {LIMIT} s")


def _environment(checkout: pathlib.Path) -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}


def _run(checkout: pathlib.Path, out: pathlib.Path, pattern: str, data: pathlib.Path | None) -> list[str]:
    """Runs the presets that are missing in the file, and returns the names of those that failed."""
    failed = []
    found = json.loads(out.read_text()) if out.exists() else {}
    for experiment, preset in quick_presets(checkout):
        name = f"{experiment} {preset}"
        if name in found or not re.search(pattern, name):
            continue
        began = time.monotonic()
        try:
            found[name] = first_losses(checkout, experiment, preset, data)
        except RuntimeError as error:
            print(f"{name}: {error}", flush=True)
            failed.append(name)
            continue
        print(f"{name}: {found[name][0]:.6g} to {found[name][-1]:.6g}, {time.monotonic() - began:.0f} s", flush=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
    return failed


def _table(before: pathlib.Path, after: pathlib.Path) -> None:
    old, new = (json.loads(path.read_text()) for path in (before, after))
    print(
        f"| experiment, preset | first loss | loss {STEPS} | largest relative difference |\n| --- | --- | --- | --- |"
    )
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            print(f"| `{name}` | {'not before' if name not in old else 'not after'} | | |")
            continue
        worst = max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(old[name], new[name], strict=True))
        print(f"| `{name}` | {new[name][0]:.6f} | {new[name][-1]:.6f} | {worst:.1e} |")


def main() -> None:
    """Reads the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("checkout", type=pathlib.Path)
    run.add_argument("out", type=pathlib.Path)
    run.add_argument("--only", default="", help="regular expression of 'experiment preset'")
    run.add_argument("--data", type=pathlib.Path, help="folder with the real data sets")
    table = commands.add_parser("table")
    table.add_argument("before", type=pathlib.Path)
    table.add_argument("after", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.command == "table":
        _table(arguments.before, arguments.after)
        return
    data = arguments.data
    if data is None and "CVJAX_TEST_DATA" in os.environ:
        data = pathlib.Path(os.environ["CVJAX_TEST_DATA"]) / "data"
    failed = _run(arguments.checkout.resolve(), arguments.out, arguments.only, data and data.resolve())
    if failed:
        raise SystemExit(f"no losses of {', '.join(failed)}")


if __name__ == "__main__":
    main()
