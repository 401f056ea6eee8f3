"""Draws examples with given probabilities, by (seed, epoch, position) alone, as `cvjax.data.order` shuffles them."""

import dataclasses
import math

import numpy as np

from cvjax.data.order import epoch_offset, shuffled_index


@dataclasses.dataclass(frozen=True)
class Draws:
    """Says which example stands at each position of an epoch, where some are drawn more often than others.

    An epoch of N draws is a systematic sample: the probabilities lie end to end on a line of length N, marks lie one
    apart on it, from a random start that is the epoch's own, and an example is drawn once for each mark on its part. So
    it is drawn as often as its probability says, rounded up or down, and over many epochs exactly so. The order is that
    of a shuffle.

    Attributes:
      shares: Probability of each example, float64 [N] with the sum 1.
    """

    shares: np.ndarray

    def __post_init__(self) -> None:
        ends = np.cumsum(self.shares) * len(self.shares)
        ends[-1] = len(self.shares)  # and not a rounding error less
        object.__setattr__(self, "_ends", ends)

    def at(self, position: int, seed: int, epoch: int) -> tuple[int, int]:
        """Returns the index of the example at a position, and how many draws of the same epoch it had before.

        It takes the memory of the probabilities, and time by the logarithm of their number.
        """
        ends: np.ndarray = getattr(self, "_ends")  # noqa: B009
        rank, offset = shuffled_index(position, len(ends), seed, epoch), epoch_offset(seed, epoch)
        index = int(np.searchsorted(ends, rank + offset, side="right"))
        first = math.ceil(ends[index - 1] - offset) if index else 0
        return index, max(0, rank - max(0, first))
