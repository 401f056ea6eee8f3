"""Joins what was seen in the splits of a data set: figures of each split, and all findings."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvjax.data.dataset import Target
from cvjax.datasets.findings.duplicates import DISTANCE, LIKENESS, groups_of, near_pairs, same_pairs
from cvjax.datasets.findings.finding import TITLES, Finding, Kind, Place
from cvjax.datasets.findings.survey import Seen, Survey


@dataclasses.dataclass(frozen=True)
class DataReport:
    """Holds the result of a check.

    Attributes:
      name: Name of the data set.
      target: Part of a record that was checked beside the image.
      class_names: Names of the classes by label.
      surveys: What was seen in each split.
      findings: All findings, by kind in the order of `TITLES`.
    """

    name: str
    target: Target
    class_names: tuple[str, ...]
    surveys: tuple[Survey, ...]
    findings: tuple[Finding, ...]

    def by_kind(self) -> dict[Kind, list[Finding]]:
        """Returns the findings of each kind that there are."""
        grouped: dict[Kind, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.kind, []).append(finding)
        return grouped

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON holds it."""
        return {
            "data": self.name,
            "target": self.target,
            "class_names": list(self.class_names),
            "splits": {survey.split: _split_json(survey) for survey in self.surveys},
            "counts": {kind: len(found) for kind, found in self.by_kind().items()},
            "findings": [finding.as_json() for finding in self.findings],
        }


def make_report(
    name: str,
    surveys: Sequence[Survey],
    *,
    distance: int = DISTANCE,
    likeness: float = LIKENESS,
    ignore: Sequence[Kind] = (),
) -> DataReport:
    """Makes the report on the splits of a data set.

    Args:
      name: Name of the data set.
      surveys: What was seen in each split, at least one.
      distance, likeness: Limits of nearly equal pictures, see `near_pairs`.
      ignore: Kinds of findings that are left out.
    """
    found = [finding for survey in surveys for seen in survey.seen for finding in seen.findings]
    found += absent_classes(surveys)
    found += twins(
        [seen for survey in surveys for seen in survey.seen], surveys[0].source.class_names, distance, likeness
    )
    order = list(TITLES)
    kept = sorted((one for one in found if one.kind not in ignore), key=lambda one: order.index(one.kind))
    return DataReport(name, surveys[0].target, tuple(surveys[0].source.class_names), tuple(surveys), tuple(kept))


def absent_classes(surveys: Sequence[Survey]) -> list[Finding]:
    """Returns a finding for each class that a split lacks."""
    found = []
    for survey in surveys:
        names = survey.source.class_names
        balance = survey.balance()
        if not any(images for images, _ in balance):  # nothing could be read, or nothing is labeled
            continue
        absent = [name for name, (images, _) in zip(names, balance, strict=True) if not images]
        found += [Finding("absent-class", survey.split, f"no image shows {name}") for name in absent]
    return found


def twins(seen: Sequence[Seen], class_names: Sequence[str], distance: int, likeness: float) -> list[Finding]:
    """Returns a finding for each group of pictures that are the same or nearly the same.

    Args:
      seen: Records of all splits.
      class_names: Names of the classes by label.
      distance, likeness: Arguments of `near_pairs`.
    """
    found = []
    exact = same_pairs([one.digest for one in seen])
    for group in groups_of(exact, len(seen)):
        found += _group([seen[member] for member in group], "the same file", "duplicates", class_names)
    with_print = [(index, one.print) for index, one in enumerate(seen) if one.print is not None]
    if not with_print:
        return found
    rows = np.array([index for index, _ in with_print], np.int64)
    hashes = np.array([shown.hash for _, shown in with_print], np.uint64)
    small = np.stack([shown.small for _, shown in with_print])
    near = rows[near_pairs(hashes, small, distance, likeness)].reshape(-1, 2)
    for group in groups_of(np.concatenate([exact, near]), len(seen)):
        members = [seen[member] for member in group]
        if len({one.digest for one in members}) > 1:
            found += _group(members, "nearly the same picture", "near-duplicates", class_names)
    return found


def _group(members: Sequence[Seen], what: str, kind: Kind, class_names: Sequence[str]) -> list[Finding]:
    places: tuple[Place, ...] = tuple(one.place for one in members)
    splits = list(dict.fromkeys(place.split for place in places))
    across = {"duplicates": "duplicates-across-splits", "near-duplicates": "near-duplicates-across-splits"}
    found = [Finding(kind if len(splits) == 1 else across[kind], "+".join(splits), what, places)]  # type: ignore[arg-type]
    labels = [one.label for one in members]
    known = [label for label in labels if label is not None]
    if len(set(known)) > 1:
        named = ", ".join(f"{class_names[label]} {count}" for label, count in Counter(known).most_common())
        found.append(Finding("contradicting-labels", "+".join(splits), f"{what}, labeled {named}", places))
    return found


def _split_json(survey: Survey) -> dict[str, Any]:
    total = sum(count for _, count in survey.balance())
    rows = zip(survey.source.class_names, survey.balance(), strict=True)
    said: dict[str, Any] = {
        "images": len(survey.seen),
        "readable": sum(seen.size is not None for seen in survey.seen),
        "sizes": size_figures(survey),
        "classes": [
            {"name": name, "images": images, "count": count, "share": count / total if total else 0.0}
            for name, (images, count) in rows
        ],
    }
    if survey.target == "boxes":
        counts = survey.boxes()
        said["boxes"] = dataclasses.asdict(counts) | {"classes": [dataclasses.asdict(row) for row in counts.classes]}
        said["boxes"]["dropped_boxes"] = counts.dropped_boxes
    if survey.target == "mask":
        said["masks"] = dataclasses.asdict(survey.masks())
    return _without_nan(said)


def size_figures(survey: Survey) -> dict[str, Any]:
    """Returns the smallest, middle and largest height, width and aspect (width by height), and the commonest sizes."""
    sizes = np.array([seen.size for seen in survey.seen if seen.size is not None]).reshape(-1, 2)
    if not len(sizes):
        return {}
    columns = {"height": sizes[:, 0], "width": sizes[:, 1], "aspect": sizes[:, 1] / sizes[:, 0]}
    figures: dict[str, Any] = {
        name: [float(np.quantile(values, level)) for level in (0, 0.5, 1)] for name, values in columns.items()
    }
    common = Counter((height, width) for height, width in sizes.tolist()).most_common(5)
    figures["common"] = [{"height": height, "width": width, "images": count} for (height, width), count in common]
    return figures


def _without_nan(value: Any) -> Any:
    """Returns a value of JSON with None in the place of what is no number."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
