"""How far our nets are from their publishers': measured where tests compare them, recorded for docs, and held."""

import json
import math
import os
import pathlib
import tempfile

import numpy as np
from _reference import GOLDEN, relative_error

from cvjax.files import locked, write_json

RECORD = GOLDEN / "agreement.json"
# Another machine's order of sums may be this much worse than what was recorded, and never matters below the floor.
_SLACK, _FLOOR = 3.0, 2e-6
_measured: dict[str, float] = {}


def recorded() -> dict[str, dict]:
    """What is recorded by entry: the model, the layout, and the largest error of an output, rounded up to a digit."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


class Agreement:
    """Holds the outputs of one entry of the references to the error that is recorded for it.

    With CVJAX_WRITE_WEIGHTS in the environment the errors are recorded instead; `tests/golden/README.md` says how.
    """

    def __init__(self, entry: str, model: str, layout: str) -> None:
        self.entry, self.model, self.layout = entry, model, layout

    def __call__(self, ours: np.ndarray, theirs: np.ndarray, limit: float = 1e-4) -> None:
        """Compares an output of ours with a stored one of the same shape."""
        assert np.shape(ours) == np.shape(theirs)
        self.hold(relative_error(ours, theirs), limit)

    def hold(self, error: float, limit: float = 1e-4) -> None:
        """Takes a relative error that was measured."""
        assert error < limit, f"{self.entry}: {error:.2g}"
        if os.environ.get("CVJAX_WRITE_WEIGHTS"):
            self._write(error)
            return
        told = recorded().get(self.entry)
        assert told is not None, f"{self.entry} is not in {RECORD.name}; run this test once with CVJAX_WRITE_WEIGHTS=1"
        assert (told["model"], told["layout"]) == (self.model, self.layout)
        bound = max(_SLACK * told["error"], _FLOOR)
        assert error <= bound, f"{self.entry}: {error:.2g}, and {told['error']:.0e} is recorded"

    def _write(self, error: float) -> None:
        _measured[self.entry] = largest = max(error, _measured.get(self.entry, 0.0))
        digit = 10.0 ** math.floor(math.log10(max(largest, 1e-9)))
        rounded = float(f"{math.ceil(largest / digit) * digit:.0e}")
        with locked(pathlib.Path(tempfile.gettempdir()) / f"{RECORD.name}.lock", "recording"):
            known = recorded() | {self.entry: {"model": self.model, "layout": self.layout, "error": rounded}}
            write_json(RECORD, dict(sorted(known.items())))
