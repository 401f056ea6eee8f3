"""The report of a training step that was compiled ahead of time: what it needs of each chip, as text and as JSON."""

import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cvjax.files import json_text
from cvjax.inspection.chips import Topology
from cvjax.inspection.program_cost import ProgramCost
from cvjax.inspection.roofline import StepTime, step_time

_MB, _GB = 1e6, 1e9


@dataclasses.dataclass(frozen=True)
class Memory:
    """Holds the bytes of a step on each chip.

    Attributes:
      parameters: Parameters and the statistics of the norms, of a run that follows a teacher also the teacher's.
      average: Running average of these, where the run keeps one.
      optimizer: State of the optimizer.
      batch: The chip's rows of the batch.
      temporaries: Activations, gradients and what else the step makes and drops.
      program: The compiled program itself.
    """

    parameters: int
    average: int
    optimizer: int
    batch: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        """Returns the sum."""
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Run:
    """Describes what was compiled.

    Attributes:
      name: Experiment and preset.
      model: Name of the model, and its dtype where it has one.
      layout: Name of the layout.
      topology: Chips.
      batch: Number of images of a step, over all chips.
      images: Number of images that the whole run trains on; 0 where its length is unknown.
      notes: Sentences on how this differs from the preset.
    """

    name: str
    model: str
    layout: str
    topology: Topology
    batch: int
    images: int = 0
    notes: tuple[str, ...] = ()

    @property
    def batch_per_chip(self) -> float:
        """Returns the number of images for each chip; below 1 where several chips share one."""
        return self.batch / self.topology.chips


@dataclasses.dataclass(frozen=True)
class StepReport:
    """Reports on a training step that compiled, and so fits.

    Attributes:
      run: What was compiled.
      memory: Bytes on each chip.
      cost: Counts of the compiled program, on each chip.
      xla_flops: Floating-point operations as XLA's own cost analysis counts them, on each chip; 0 without one.
      xla_bytes: Bytes accessed as XLA's own cost analysis counts them, on each chip; 0 without one.
      largest_batch: Largest batch over all chips that fits, None if nobody searched.
      tried: Batches that the search compiled.
    """

    run: Run
    memory: Memory
    cost: ProgramCost
    xla_flops: float
    xla_bytes: float
    largest_batch: int | None = None
    tried: tuple[int, ...] = ()

    @property
    def time(self) -> StepTime:
        """Returns the least times of a step."""
        total, topology = self.cost.total, self.run.topology
        return step_time(topology.chip, total.flops, total.moved, self.cost.collectives, topology.chips)

    @property
    def images_per_second(self) -> float:
        """Returns the images that all chips train on in a second, at best."""
        return self.run.batch / self.time.seconds

    @property
    def chip_hours(self) -> float | None:
        """Returns the hours of chips that the whole run takes at least; None where its length is unknown."""
        if not self.run.images:
            return None
        return self.run.images / self.images_per_second * self.run.topology.chips / 3600

    def exchanged(self) -> dict[str, tuple[int, int]]:
        """Returns the number of exchanges in a step and their bytes on a chip, by kind."""
        found: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for one in self.cost.collectives:
            number, size = found[one.kind]
            found[one.kind] = number + one.times, size + one.times * one.bytes
        return dict(found)

    def as_text(self) -> str:
        """Returns the report for a person, with a newline at the end."""
        return "\n".join([*self._head(), "", *self._memory(), "", *self._kinds(), "", *self._times()]) + "\n"

    def _head(self) -> list[str]:
        run, chip = self.run, self.run.topology.chip
        lines = [
            f"{run.name}: {run.model} on {run.topology.name} ({run.topology.chips} chips), layout {run.layout},"
            f" {run.batch_per_chip:g} images a chip, {run.batch} a step",
            f"fits: {self.memory.total / _GB:.2f} GB of each chip's {chip.memory / _GB:.1f} GB",
        ]
        if self.largest_batch is not None:
            lines.append(
                f"largest batch that fits: {self.largest_batch} images a step,"
                f" {self.largest_batch / run.topology.chips:g} a chip (compiled: {', '.join(map(str, self.tried))})"
            )
        return [*lines, *(f"note: {note}" for note in run.notes)]

    def _memory(self) -> list[str]:
        rows = [(name, f"{size / _MB:,.1f}") for name, size in dataclasses.asdict(self.memory).items()]
        return table(("memory of a chip", "MB"), [*rows, ("total", f"{self.memory.total / _MB:,.1f}")])

    def _kinds(self) -> list[str]:
        each = self.run.batch_per_chip

        def cells(name: str, cost: Any) -> tuple[str, ...]:
            flops, moved, accessed = cost.flops / each / _GB, cost.moved / each / _MB, cost.accessed / each / _MB
            return name, f"{flops:.2f}", f"{moved:.1f}", f"{accessed:.1f}"

        ranked = sorted(self.cost.kinds.items(), key=lambda item: -item[1].moved)
        rows = [cells(name, cost) for name, cost in [*ranked, ("total", self.cost.total)]]
        if self.xla_bytes:
            flops, accessed = self.xla_flops / each / _GB, self.xla_bytes / each / _MB
            rows.append(("XLA's own count", f"{flops:.2f}", "", f"{accessed:.1f}"))
        lines = table(("an image, by kind of operation", "GFLOP", "MB through memory", "MB accessed"), rows)
        exchanges = [
            (kind, str(number), f"{size / _MB:,.2f}") for kind, (number, size) in sorted(self.exchanged().items())
        ]
        return [*lines, "", *table(("exchanges of a step", "number", "MB a chip"), exchanges)] if exchanges else lines

    def _times(self) -> list[str]:
        time, run = self.time, self.run
        rows = [(name, f"{1000 * seconds:.2f}") for name, seconds in dataclasses.asdict(time).items()]
        lines = [
            *table(("estimate: a step takes at least", "ms"), rows),
            f"{time.binding} binds: at best {self.images_per_second:,.0f} images/s,"
            f" {self.images_per_second / run.topology.chips:,.0f} a chip (an estimate from the chip's published peaks)",
        ]
        hours = self.chip_hours
        if hours is None:
            return [*lines, "the whole run: its length is unknown; give --steps, or --examples for a preset in epochs"]
        return [
            *lines,
            f"the whole run, {run.images:,} images: at least {hours:,.1f} chip-hours,"
            f" {hours / run.topology.chips:,.2f} hours on these {run.topology.chips} chips (the same estimate)",
        ]

    def as_json(self) -> str:
        """Returns all figures, with a newline at the end. Bytes and operations are those of a step on a chip."""
        run, time = self.run, self.time
        values = {
            "run": run.name,
            "model": run.model,
            "layout": run.layout,
            "topology": run.topology.name,
            "chips": run.topology.chips,
            "chip": dataclasses.asdict(run.topology.chip),
            "batch_per_chip": run.batch_per_chip,
            "batch": run.batch,
            "notes": run.notes,
            "fits": True,
            "memory": dataclasses.asdict(self.memory) | {"total": self.memory.total},
            "kinds": {name: dataclasses.asdict(cost) for name, cost in self.cost.kinds.items()},
            "blocks": {name: dataclasses.asdict(cost) for name, cost in self.cost.blocks.items()},
            "collectives": {
                kind: {"number": number, "bytes": size} for kind, (number, size) in self.exchanged().items()
            },
            "xla": {"flops": self.xla_flops, "bytes_accessed": self.xla_bytes},
            "estimate": {
                "seconds": dataclasses.asdict(time),
                "binding": time.binding,
                "images_per_second": self.images_per_second,
                "images": run.images or None,
                "chip_hours": self.chip_hours,
            },
            "largest_batch": self.largest_batch,
            "batches_tried": self.tried,
        }
        return json_text(values, indent=2) + "\n"

    def save_picture(self, path: str | pathlib.Path) -> None:
        """Draws memory, bytes by kind of operation and least times, see `cvjax.visual.step_plot.plot_step`.

        Raises:
          ConfigError: The file cannot be written.
        """
        from cvjax.visual.step_plot import plot_step  # matplotlib takes its time

        run = self.run
        plot_step(
            path,
            title=f"{run.name}: {run.model} on {run.topology.name}, {run.batch_per_chip:g} images a chip: at best"
            f" {self.images_per_second:,.0f} images/s",
            memory=dataclasses.asdict(self.memory),
            room=run.topology.chip.memory,
            kinds={name: cost.moved / run.batch_per_chip for name, cost in self.cost.kinds.items()},
            seconds=dataclasses.asdict(self.time),
        )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table whose first column stands to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]

    def line(cells: Sequence[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *(line(row) for row in rows)]
