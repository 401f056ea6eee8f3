"""Which example stands where: the hosts' shares of a batch, the shuffle, and each example's random stream.

Everything here is a pure function in constant memory and time, so that any process can compute any position.
"""

import dataclasses

import numpy as np
from grain.experimental import index_shuffle

from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class HostShard:
    """Which host this is: `index` of `count`. A host holds consecutive rows of every global batch."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(f"host {self.index} of {self.count}: give 0 <= index < count.")

    def rows(self, batch_size: int) -> range:
        """This host's rows of a global batch; ConfigError if the hosts cannot share it equally."""
        if batch_size < 1 or batch_size % self.count:
            raise ConfigError(
                f"batch_size is {batch_size} on {self.count} host(s): give a positive multiple of the hosts."
            )
        local = batch_size // self.count
        return range(self.index * local, (self.index + 1) * local)


ONE_HOST = HostShard()


def shuffled_index(position: int, length: int, seed: int, epoch: int) -> int:
    """Where example `position` of `epoch` lies in a source of `length`: a permutation, in constant memory."""
    # Grain's own shuffle seeds with seed + epoch, which makes one seed's second epoch another's first.
    key = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    return index_shuffle(position, max_index=length - 1, seed=key, rounds=4)


def example_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream that augments example `index` in `epoch`."""
    # The constant sets it apart from the shuffle's key: trailing zeros do not change a SeedSequence.
    return np.random.default_rng((seed, epoch, index, 1))
