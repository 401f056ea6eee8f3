"""Estimates from below how long a step takes on a chip: what arithmetic, memory and interconnect each allow at best."""

import dataclasses
from collections.abc import Callable, Iterable

from cvjax.inspection.chips import Chip
from cvjax.inspection.program_cost import Collective

_EACH = 16
"""The search for a batch ends once it is known to so many parts of itself."""


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Holds the seconds that a step needs at least for each of its resources, if it uses that at its peak all along.

    Attributes:
      arithmetic: Seconds of convolutions and matrix products.
      memory: Seconds of reading and writing the main memory.
      interconnect: Seconds of exchange with other chips.
    """

    arithmetic: float
    memory: float
    interconnect: float

    @property
    def binding(self) -> str:
        """Returns the name of the resource that takes the longest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]

    @property
    def seconds(self) -> float:
        """Returns the least time of a step, in which all three go on at once."""
        return max(dataclasses.astuple(self))


def step_time(chip: Chip, flops: float, moved: float, collectives: Iterable[Collective], chips: int) -> StepTime:
    """Returns the least times of a step.

    Args:
      chip: Chip that it runs on.
      flops: Floating-point operations on each chip.
      moved: Bytes read from and written to the memory of each chip.
      collectives: What the chips exchange.
      chips: Number of chips, for exchanges that do not tell theirs.
    """
    sent = sum(sent_bytes(one, chips) for one in collectives)
    return StepTime(flops / chip.flops, moved / chip.bandwidth, sent / chip.interconnect)


def sent_bytes(collective: Collective, chips: int) -> float:
    """Returns the bytes that each chip must send at least.

    An all-reduce scatters its sums and gathers them again, and each of these sends all but the chip's own share once
    (Patarasuk and Yuan 2009).

    Args:
      collective: Exchange; `bytes` are those of the whole array on a chip.
      chips: Number of chips where the exchange does not tell.
    """
    group = collective.group or chips
    share = (group - 1) / group
    factor = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
    return collective.times * collective.bytes * factor.get(collective.kind, share)


def largest_batch(
    temporaries: Callable[[int], int | None], start: int, room: float, most: int = 1 << 16
) -> tuple[int, list[int]]:
    """Searches the largest batch of a chip that fits.

    Temporaries grow about in proportion to the batch, so the first guess is mostly close.

    Args:
      temporaries: Function from a batch to the bytes of its temporaries; None where it does not fit. It compiles.
      start: First batch to try.
      room: Bytes that temporaries may take, about.
      most: Largest batch to try.

    Returns:
      The largest batch found, to a sixteenth of itself, or 0 if not even one image fits; and all batches tried.
    """
    tried: list[int] = []

    def attempt(batch: int) -> int | None:
        tried.append(batch)
        return temporaries(batch)

    fits, fails = 0, most + 1
    guess = min(max(1, start), most)
    while fails - fits > max(1, fits // _EACH):
        found = attempt(guess)
        if found is None:
            fails = guess
            guess = (fits + fails) // 2
        else:
            fits = guess
            guess = (fits + fails) // 2
            if fails > most:  # the guess comes ever closer from below, so a last step goes beyond
                guess = max(int(fits * room / max(found, 1)), fits + max(1, fits // _EACH))
        guess = min(max(guess, fits + 1), fails - 1)
    return fits, tried
