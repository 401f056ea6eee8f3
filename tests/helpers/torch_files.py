"""Files that PyTorch wrote (tests/golden/torch_files.tar.xz), damaged copies of them, and pickles that mean harm."""

import functools
import io
import pathlib
import random
import struct
import tarfile
import zipfile
from collections.abc import Iterator

import numpy as np

_ARCHIVE = pathlib.Path(__file__).resolve().parents[1] / "golden" / "torch_files.tar.xz"


@functools.cache
def _members() -> dict[str, bytes]:
    with tarfile.open(_ARCHIVE) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def files() -> dict[str, bytes]:
    """Returns the bytes of each file by its name."""
    return {name: data for name, data in _members().items() if name != "expected.npz"}


@functools.cache
def expected() -> dict[str, dict[str, np.ndarray]]:
    """Returns what PyTorch reads from each file."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(_members()["expected.npz"])) as arrays:
        for name, value in arrays.items():
            file, _, key = name.partition("/")
            found.setdefault(file, {})[key] = value
    return found


def with_pickle(data: bytes, pickle: bytes) -> bytes:
    """Returns a zip file with another data.pkl, whose checksums are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, pickle if name.endswith("data.pkl") else archive.read(name))
    return out.getvalue()


def pickle_of(data: bytes) -> bytes:
    """Returns the data.pkl of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def damaged(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields names and bytes of damaged files without end, the same for the same seed."""
    draw = random.Random(seed)
    names = sorted(name for name in files() if name not in ("script.pt", "unchecked.pth"))
    opcodes = b"(.012FGIJKLMNPQRSTUVXabcdeghijloprstu)]}BC" + bytes(range(0x80, 0x98))
    while True:
        name = draw.choice(names)
        data = files()[name]
        inside = data.startswith(b"PK") and draw.random() < 0.7
        part = bytearray(pickle_of(data) if inside else data)
        for _ in range(draw.choice((1, 1, 2, 5, 20))):
            # Where there is no inner pickle, the structure stands at the beginning and at the end.
            place = draw.choice((draw.randrange(len(part)), draw.randrange(min(2000, len(part)))))
            match draw.randrange(7):
                case 0:
                    part[place] ^= 1 << draw.randrange(8)
                case 1:
                    part[place] = draw.choice(opcodes)
                case 2:
                    part[place:place] = draw.randbytes(draw.randrange(1, 9))
                case 3:
                    del part[place : place + draw.randrange(1, 9)]
                case 4:
                    number = draw.choice((0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1))
                    part[place : place + 4] = struct.pack("<I", number)
                case 5:
                    source = draw.randrange(len(part))
                    part[place:place] = part[source : source + draw.randrange(1, 200)]
                case _:
                    if draw.random() < 0.2:
                        del part[place:]
            if not part:
                part = bytearray(b"\x80")
        yield name, with_pickle(data, bytes(part)) if inside else bytes(part)


def harmful(marker: pathlib.Path) -> dict[str, bytes]:
    """Returns pickles that make a file when Python's own machine, or a careless one, runs them."""
    command = f"touch {marker}".encode()
    code = f"open({str(marker)!r}, 'w')".encode()

    def text(value: bytes) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value

    arguments = text(command) + b"\x85"
    state = b"}" + text(b"__setstate__") + b"cos\nsystem\ns"
    weight = b"\x80\x02}" + text(b"weight")
    return {
        "REDUCE": b"\x80\x02cos\nsystem\n" + arguments + b"R.",
        "REDUCE in a dict": weight + b"cposix\nsystem\n" + arguments + b"Rs.",
        "eval": b"\x80\x02c__builtin__\neval\n" + text(code) + b"\x85R.",
        "exec of builtins": b"\x80\x02cbuiltins\nexec\n" + text(code) + b"\x85R.",
        "INST": b"\x80\x02(" + text(command) + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\n" + text(command) + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + text(command) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n)}" + text(b"args") + text(command) + b"s\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + arguments + b"R.",
        "BUILD": b"\x80\x02cfoo\nBar\n)R" + state + b"b" + text(command) + b"b.",
        "BUILD with a name": b"\x80\x02cfoo\nBar\n" + state + b"b.",
        "EXT": b"\x80\x02\x82\x01\x83\x01\x00\x84\x01\x00\x00\x00" + arguments + b"R.",
        "PERSID": b"\x80\x02Pcos\nsystem\n.",
        "BINPERSID": b"\x80\x02(" + text(b"storage") + b"cos\nsystem\n" + text(command) + text(b"cpu") + b"K\x01tQ.",
        "module of a persistent id": b"\x80\x02("
        + text(b"module")
        + b"cos\nsystem\n"
        + arguments[:-1]
        + b"tQ"
        + arguments
        + b"R.",
        "attribute of a module": b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93" + arguments + b"R.",
        "rebuild by type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN" + arguments + b"NtR.",
        "rebuild of a parameter": b"\x80\x02ctorch._utils\n_rebuild_parameter\n(cos\nsystem\n\x88NtR"
        + arguments
        + b"R.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\n" + text(b"__call__") + b"\x86R" + arguments + b"R.",
        "an import of numpy's": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + text(code) + b"}\x86R.",
    }
