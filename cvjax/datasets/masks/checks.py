"""Says before a training what is missing from its masks."""

from collections.abc import Sequence

from cvjax.data.decode import IGNORE
from cvjax.datasets.listing import listed
from cvjax.datasets.masks.counts import MaskCounts
from cvjax.errors import DataError


def absent_classes(
    counts: MaskCounts,
    class_names: Sequence[str],
    where: str,
    *,
    void: Sequence[int] = (),
    way: str = "give --input.mask-values",
) -> str | None:
    """Returns a warning that names the classes which occur in no mask; None where all occur.

    Args:
      counts: Counts of the split that trains.
      class_names: Names of the classes.
      where: Place and split, for the message.
      void: Labels that are ignored beside 255.
      way: How the user names the values of the classes, with the option last; "" if they are named already.

    Raises:
      DataError: Fewer than two classes occur, so that there is nothing to learn.
    """
    absent = [name for name, pixels in zip(class_names, counts.pixels) if not pixels]
    present = [label for label, pixels in enumerate(counts.pixels) if pixels]
    if len(class_names) < 2:
        raise DataError(
            f"{where}: there is one class, {class_names[0]}, and a net tells two or more apart; name the background"
            " as a class too."
        )
    if not absent:
        return None
    occur = "occurs" if len(absent) == 1 else "occur"
    said = f"{where}: {listed(absent)} {occur} in none of the {counts.masks} masks"
    if counts.ignored:
        what = " or ".join(map(str, (IGNORE, *void)))
        said += f", and {100 * counts.ignored / counts.total:.1f}% of their pixels are {what}, which is ignored"
    values = [*present, IGNORE] if counts.ignored and len(present) + 1 == len(class_names) else []
    fix = "mend the masks or the names"
    if way and counts.ignored and not void:
        example = f" {' '.join(map(str, values))}" if values else " and a value for each class"
        fix = f"if {IGNORE} stands for a class, {way}{example}, in the order of the names"
    elif way:
        fix = f"if the classes have other values than 0 to {len(class_names) - 1}, {way} and these values"
    if len(present) < 2:
        raise DataError(f"{said}, so that there is nothing to learn; {fix}.")
    return f"{said}; {fix}."
