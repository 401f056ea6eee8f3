"""Paired measurements that end in time: contestants get ready side by side, and whoever is late is left out."""

import concurrent.futures
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import paired
from paired import Contestant, Message, Schedule, Times, Unavailable, disagreement

Clock = Callable[[], float]
_GONE = (RuntimeError, OSError, ValueError)
"""What a contestant's end of the pipe raises once its process is gone."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """When measuring ends.

    Attributes:
      until: time on the clock after which no row and no round begins.
      patience: seconds that preparing may take.
      clock: the present time in seconds.
      in_turn: prepare one contestant after another.
    """

    until: float
    patience: float
    clock: Clock = time.monotonic
    in_turn: bool = False

    def left(self, begun: float) -> float:
        """Seconds that are left of a preparation that began at `begun`."""
        return max(0.0, min(begun + self.patience, self.until) - self.clock())

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.clock() >= self.until


def measure(
    contestants: Sequence[Contestant], work: Message, schedule: Schedule, limits: Limits
) -> tuple[Times, dict[str, str]]:
    """Lets contestants take turns, as `paired.measure` does, but only until a time.

    They prepare at the same time by default, since compilers keep the host busy and the device idle. One that fails, is
    not ready in time, or dies in its turn, is left out, and the others go on.

    Args:
      contestants: who takes part; the first that is ready is the reference.
      work: what they prepare.
      schedule: rounds, length of bursts, tolerance.
      limits: when preparing and taking turns end.

    Returns:
      Seconds an execution by contestant, one a round; and by contestant, why it does not take part.
    """
    ready, absent, reference = {}, {}, None
    with concurrent.futures.ThreadPoolExecutor(1 if limits.in_turn else max(1, len(contestants))) as pool:
        begun = limits.clock()
        waiting = {contestant: pool.submit(contestant.prepare, work) for contestant in contestants}
        for contestant, result in waiting.items():
            begun = limits.clock() if limits.in_turn else begun
            try:
                seconds, values = result.result(timeout=limits.left(begun))
            except concurrent.futures.TimeoutError:
                contestant.stop()
                absent[contestant.name] = f"not ready after {limits.clock() - begun:.0f} seconds"
            except Unavailable as reason:
                absent[contestant.name] = str(reason)
            except _GONE as error:
                absent[contestant.name] = str(error)
            else:
                reference = values if reference is None else reference
                if fault := disagreement(values, reference, schedule.tolerance):
                    absent[contestant.name] = fault
                else:
                    ready[contestant] = max(1, math.ceil(schedule.seconds / seconds))
    times: Times = {contestant.name: [] for contestant in ready}
    for turn in range(-1, schedule.rounds):
        for contestant, repeat in list(ready.items()):
            if turn > 0 and limits.over:  # One round there is, if everybody is ready.
                break
            time.sleep(paired.PAUSE)
            try:
                seconds = contestant.burst(repeat)
            except _GONE as error:
                absent[contestant.name] = f"ended in its turn: {error}"
                del ready[contestant], times[contestant.name]
                continue
            if turn >= 0:
                times[contestant.name].append(seconds)
    rounds = min((len(mine) for mine in times.values()), default=0)
    return {name: mine[:rounds] for name, mine in times.items() if rounds}, absent
