"""The files that other tests open as publishers' are as PyTorch writes them, and there is one of every entry."""

import io
import json
import pickletools
import re
from collections import OrderedDict

import numpy as np
import published_files
import pytest
import torch_writer
from torch_files import expected, files, pickle_of

from cvjax.weights import read_state_dict


def _opcodes(data: bytes, pickles: int) -> list[tuple[str, object]]:
    """The opcodes of the pickles at the beginning of a file; addresses differ from run to run."""
    file, found = io.BytesIO(data), []
    for _ in range(pickles):
        found += [
            (opcode.name, "an address" if isinstance(value, str) and re.fullmatch(r"\d{12,}", value) else value)
            for opcode, value, _ in pickletools.genops(file)
        ]
    return found


@pytest.mark.parametrize(("name", "pickles"), [("zip.pth", 1), ("legacy.pth", 5)])
def test_files_are_pytorchs(name, pickles, tmp_path):
    """A file by PyTorch itself and one of the same tensors have the same pickles, opcode by opcode."""
    state, theirs = OrderedDict(expected()[name]), files()[name]
    # As the module's state dict had it.
    versions = OrderedDict({"": {"version": 1}, "conv": {"version": 1}, "bn": {"version": 2}})
    vars(state)["_metadata"] = versions
    path, legacy = tmp_path / name, name.startswith("legacy")
    torch_writer.save(path, state, legacy=legacy)
    ours = path.read_bytes()
    if legacy:
        assert len(ours) == len(theirs)
    else:
        ours, theirs = pickle_of(ours), pickle_of(theirs)
        assert ours == theirs
    assert _opcodes(ours, pickles) == _opcodes(theirs, pickles)


def test_every_entry_of_the_reference_has_its_file(shared_dir):
    entries = json.loads((shared_dir / "reference" / "torch" / "index.json").read_text())
    assert published_files.TORCH.keys() == entries.keys()


def test_what_lies_beside_weights_is_not_read(tmp_path):
    """An optimizer's tensors, Lightning's scores, and names of classes."""
    state = {"conv.weight": np.ones((4, 3, 1, 1), np.float32), "conv.bias": np.zeros(4, np.float32)}
    for file in published_files.TORCH.values():
        path = tmp_path / file.name
        published_files.write_torch(path, state, file)
        read = read_state_dict(path)
        assert read.keys() == state.keys()
        assert all(np.array_equal(read[key], value) for key, value in state.items())
