"""Says when a run has waited long enough for a better score. All of it follows from the scores of its evaluations."""

import dataclasses
import math
from collections.abc import Sequence

History = tuple[tuple[int, float], ...]
"""Step and score of each evaluation, in their order."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """Says where a run stands with its scores.

    Attributes:
      step: Step of the last evaluation that was better than all before it; 0 before the first.
      score: Score of that evaluation.
      waited: Number of evaluations since then.
    """

    step: int = 0
    score: float = -math.inf
    waited: int = 0


def standing(history: Sequence[tuple[int, float]], min_delta: float = 0.0) -> Standing:
    """Returns where a run stands after some evaluations.

    Args:
      history: Step and score of each; larger is better, and nan is never better.
      min_delta: Least gain over the best score so far that counts as better.
    """
    found = Standing()
    for step, score in history:
        first = found.step == 0 and score == score
        if first or score > found.score + min_delta:
            found = Standing(step, score)
        else:
            found = dataclasses.replace(found, waited=found.waited + 1)
    return found


def read_history(record: object) -> History:
    """Returns the evaluations as a checkpoint records them; of a checkpoint of an earlier version none."""
    rows = record if isinstance(record, list | tuple) else ()
    return tuple((int(step), math.nan if score is None else float(score)) for step, score in rows)
