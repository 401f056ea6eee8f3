"""What one accelerator makes of cvjax, in under 10 minutes: training steps, operators, forms of layers, XLA's options.

    python benchmarks/accelerator.py --minutes 9                      from the repository's root, on a GPU or a TPU
    python benchmarks/accelerator.py --minutes 9 --out FOLDER         results elsewhere than in benchmarks/results
    python benchmarks/accelerator.py --only training unet             rows by words of their group, case and mode
    python benchmarks/accelerator.py --tiny                           the same program on a CPU: does it work?

Where cvjax is not installed, put `PYTHONPATH=.` in front. Needs JAX, Flax, optax, chex, jaxtyping and OpenCV; for the
peer PyTorch and torchvision, in this interpreter or in that of --torch-python.

Rows come in the order of what matters first (`on_device/rows.py`), and results/accelerator-DEVICE.json and .md are
written after each, so a run that is cut off leaves what it has measured. No row begins when the minutes are over, and
whoever is not ready by then is stopped. The same command again begins with the rows that are missing. Who is missing
from a row stands below the tables, with the reason.

- Training: ResNet-50, EfficientNet-B0, DeepLab v3+, U-Net, Faster R-CNN and YOLO; the engine's own step (loss,
  gradients, their norm, SGD with momentum and weight decay, BatchNorm) in bfloat16 on one batch that is on the device,
  against PyTorch's under autocast, channels_last, eager with cuDNN trying its algorithms, and with the net under
  `torch.compile` (of Faster R-CNN what has the same shapes in each step). Peers must have as many parameters. Each row
  has processes of its own, so that memory is the row's: the most that the allocator had in use (of JAX with what the
  compiler's trials took, of PyTorch without the first step), and for XLA's program its arguments, results and
  temporaries. Time to compile is from tracing to the program, of torch.compile that of the first step. Contestants
  compile at the same time, to fit into the minutes; with --in-turn one after another, so that no compiler's trials on
  the device disturb another's.
- Operators: greedy suppression against torchvision's, and the dense CRF, which has no peer in PyTorch.
- Forms of layers: output, gradient of the input and gradient of the kernel apart, of transposed, depthwise and grouped
  convolutions, max-pools and a resize: as cvjax has them here ("cvjax"), XLA's own ("flax"), cvjax's forms for CPU on
  this device, which are candidates, and eager PyTorch (without the forward pass of a gradient).
- XLA's options `xla_gpu_experimental_enable_conv_fusion` and `xla_gpu_force_conv_nhwc`, for the program alone.
"""

import argparse
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import reporting
from on_device.lodging import House
from on_device.rows import TORCH_SIDES, Row, rows
from on_device.tables import write
from on_device.turns import Clock, Limits, measure
from paired import Contestant, Message, Schedule, medians

HERE = pathlib.Path(__file__).resolve().parent
RESERVE = 8.0  # Seconds of the minutes that are kept for ending.
Connect = Callable[[str], Contestant]


class Processes:
    """The contestants' processes, started where a row needs them, and kept for the next rows of the same group.

    Attributes:
      connect: starts a contestant.
      missing: sides that cannot start at all, and why.
    """

    def __init__(self, connect: Connect, missing: dict[str, str], together: bool = False):
        """`together`: the JAX sides share one process, because the device lets one alone in."""
        self.connect, self.missing, self._together = connect, missing, together
        if together:
            house = House(lambda: connect("cvjax"))
            self.connect = lambda side: connect(side) if side in TORCH_SIDES else house.connect(side)
        self._running: dict[str, Contestant] = {}
        self._owner: object = None

    def of(self, row: Row) -> tuple[list[Contestant], dict[str, str]]:
        """The row's contestants, and who is absent, and why."""
        owner = (row.group, row.case, row.mode) if row.group in ("training", "flags") else row.group
        if owner != self._owner:
            self.close()
        self._owner = owner
        absent = {side: reason for side, reason in {**self.missing, **row.absent}.items() if side in row.sides}
        found = []
        for side in row.sides:
            if side in absent:
                continue
            try:
                if side not in self._running:
                    self._running[side] = self.connect(side)
                found.append(self._running[side])
            except (RuntimeError, OSError, ValueError) as error:
                absent[side] = f"did not start: {error}"
        return found, absent

    def close(self, names: Sequence[str] | None = None) -> None:
        """Ends the processes of these sides, of all by default."""
        everybody = names is None or (names and self._together)
        for name in list(self._running) if everybody else names:
            contestant = self._running.pop(name, None)
            if contestant is not None:
                contestant.stop()
                contestant.__exit__()


def measure_row(row: Row, processes: Processes, schedule: Schedule, limits: Limits) -> Message:
    """One row of the results, whatever goes wrong."""
    begun, times, facts = limits.clock(), {}, {}
    if limits.over:
        absent = dict.fromkeys(row.sides, "the minutes were over")
    else:
        try:
            contestants, absent = processes.of(row)
            times, failed = measure(contestants, row.work, schedule, limits)
            absent |= failed
            facts = {one.name: one.facts for one in contestants if one.name in times}
            processes.close(list(failed))  # One that failed may hold memory, or be gone; the next row gets a new one.
        except Exception as error:  # Whatever is wrong with one row, the next may run.
            absent = dict.fromkeys(row.sides, f"{type(error).__name__}: {error}"[:300])
            processes.close()
    fields = {name: getattr(row, name) for name in ("group", "case", "mode", "sides", "work")}
    measured = {"seconds": medians(times), "times": times, "facts": facts, "absent": absent}
    return {**fields, **measured, "spent_s": limits.clock() - begun}


def chosen(all_rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows that have one of the words in group, case or mode; all, if there are no words.

    Raises:
      SystemExit: there are none.
    """
    found = [row for row in all_rows if not words or any(w in f"{row.group} {row.case} {row.mode}" for w in words)]
    if not found:
        raise SystemExit(f"--only {' '.join(words)}: no row has these words; the cases are {_cases(all_rows)}")
    return found


def _cases(all_rows: Sequence[Row]) -> str:
    return "; ".join(dict.fromkeys(row.case for row in all_rows))


def connector(torch_python: str | None) -> tuple[Connect, dict[str, str]]:
    """What starts a contestant, and the sides for which there is no interpreter."""
    torch_python = torch_python or (sys.executable if importlib.util.find_spec("torch") else None)
    program = str(pathlib.Path(__file__).resolve())
    none = "no torch in this interpreter; name one that has it with --torch-python"
    missing = {} if torch_python else dict.fromkeys(TORCH_SIDES, none)

    def connect(side: str) -> Contestant:
        python = torch_python if side in TORCH_SIDES else sys.executable
        return Contestant(side, [str(python), program, "side", side])

    return connect, missing


def introduce(connect: Connect, missing: dict[str, str], tiny: bool) -> Message:
    """The machine's description, by one contestant of each framework; adds to `missing` who runs on another device.

    Raises:
      SystemExit: there is no accelerator.
    """
    names = [name for name in ("cvjax", "torch") if name not in missing]
    said: dict[str, Message] = {}
    for name in names:
        try:
            one = connect(name)
            said[name] = one.hello
            one.stop()
            one.__exit__()
        except (RuntimeError, OSError, ValueError) as error:
            if name == "cvjax":
                raise SystemExit(f"cvjax does not start here: {error}; its own message stands above") from error
            missing |= dict.fromkeys(TORCH_SIDES, f"does not start: {error}")
    device = said["cvjax"]["device"]
    if device == "cpu" and not tiny:
        raise SystemExit("JAX finds no accelerator here; --tiny shows on a CPU that the program works")
    if said.get("torch", said["cvjax"])["device"].lower() != device.lower():
        theirs = said.pop("torch")["device"]
        missing |= dict.fromkeys(TORCH_SIDES, f"this PyTorch runs on {theirs}, and JAX on {device}")
    return {**reporting.machine(()), "contestants": said}


def run(
    arguments: argparse.Namespace, connect: Connect, missing: dict[str, str], clock: Clock = time.monotonic
) -> Message:
    """Measures row after row until the minutes are over; the record."""
    limits = Limits(clock() + 60 * arguments.minutes - RESERVE, arguments.patience, clock, arguments.in_turn)
    wanted = chosen(rows(arguments.tiny, arguments.batch_share), arguments.only)
    where = introduce(connect, missing, arguments.tiny)
    settings = {"rounds": arguments.rounds, "tiny": arguments.tiny, "batch_share": arguments.batch_share}
    stem = arguments.out / f"accelerator-{reporting.place(where)}"
    report = reporting.Report(stem, where, settings, write)
    there = {(row["case"], row["mode"]) for row in report.record["rows"] if row["seconds"]}
    # A TPU belongs to the process that opened it first.
    processes = Processes(connect, missing, where["contestants"]["cvjax"]["device"].startswith("TPU"))
    try:
        # What an earlier run has measured comes last, and is not given up for nothing.
        for row in sorted(wanted, key=lambda row: (row.case, row.mode) in there):
            schedule = Schedule(arguments.rounds, arguments.burst_ms / 1e3, row.tolerance)
            made = measure_row(row, processes, schedule, limits)
            if made["seconds"] or (row.case, row.mode) not in there:
                report.add(made)
            figures = (f"{name} {reporting.cell(1e3 * seconds)} ms" for name, seconds in made["seconds"].items())
            print(f"{row.case} ({row.mode}): {', '.join(figures)}", *reporting.notes([made]), sep="\n  ", flush=True)
    finally:
        processes.close()
    print(f"\n{write(report.record)}\nwritten to {stem}.json and .md")
    return report.record


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="after which no row begins")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows with one of these words")
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU; figures mean nothing")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contestant, at most")
    parser.add_argument("--burst-ms", type=float, default=200, help="least length of a turn")
    parser.add_argument("--patience", type=float, default=150, help="seconds that a contestant may prepare a row")
    parser.add_argument("--in-turn", action="store_true", help="prepare one contestant after another; takes longer")
    parser.add_argument("--batch-share", type=float, default=1.0, help="of the batches of training, for less memory")
    parser.add_argument("--torch-python", help="interpreter that has torch and torchvision; default: this one")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results", help="folder for the results")
    return parser.parse_args(argv)


def main() -> None:
    """Measure, print, and write the results; or, with `side NAME`, serve one contestant."""
    if sys.argv[1:2] == ["side"]:
        from on_device.sides import serve_side

        serve_side(sys.argv[2])
        return
    arguments = parse()
    run(arguments, *connector(arguments.torch_python))


if __name__ == "__main__":
    main()
