"""Tells by a file's first bytes what it holds, whatever its name says."""

import pathlib
import tarfile
import zipfile

from cvjax.errors import CheckpointError

# What begins so holds no weights that can be read here, and the way out.
_OTHERS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer that stands for the file; fetch the file itself with 'git lfs pull'",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes; export the weights as .safetensors or .npz"),
    (b"\x93NUMPY", "a single numpy array without a name; save a dict of arrays with numpy.savez"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"BZh", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and give the file with the weights"),
    (b"Rar!", "a RAR archive; unpack it and give the file with the weights"),
    (b"PK\x05\x06", "an empty zip archive; fetch or export it again"),
    (b"\x89PNG", "an image; give the file with the weights"),
    (b"\xff\xd8\xff", "an image; give the file with the weights"),
    (b"%PDF", "a PDF; give the file with the weights"),
    (b"GGUF", "a GGUF file; export the weights as .safetensors"),
)
_HEAD = 512


def kind_of(path: pathlib.Path) -> str | None:
    """Returns what a file holds.

    Returns:
      "safetensors", "npz", "torch zip", "pickle", or None if its first bytes do not tell.

    Raises:
      CheckpointError: The file is empty, or of a kind that holds no weights that can be read here.
      OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise CheckpointError(f"{path}: is empty; fetch or export it again")
    for start, what in _OTHERS:
        if head.startswith(start):
            raise CheckpointError(f"{path}: is {what}")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        raise CheckpointError(f"{path}: is a web page and not the file that was to be fetched; fetch it again")
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head[257:262] == b"ustar":
        raise _tar(path)
    # Of a pickle the protocol, of the first one a mark, a list or a dict; of safetensors the length of a text, and "{".
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    return None


def _kind_of_zip(path: pathlib.Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: is a damaged or unfinished zip archive; fetch or export it again") from error
    inner = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise CheckpointError(
            f"{path}: is a TorchScript program; with PyTorch, write its weights by "
            "torch.save(torch.jit.load(FILE).state_dict(), TARGET)"
        )
    if "data.pkl" in inner:
        return "torch zip"
    if "model.weights.h5" in inner:
        raise CheckpointError(f"{path}: is a Keras model; export the weights as .safetensors or .npz")
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise CheckpointError(f"{path}: is a zip archive of other things, {_few(names)}; give the file with the weights")


def _tar(path: pathlib.Path) -> CheckpointError:
    try:
        with tarfile.open(path, "r:") as archive:
            names = [member.name for _, member in zip(range(100), archive)]
    except (tarfile.TarError, ValueError) as error:
        return CheckpointError(f"{path}: is a damaged tar archive ({error}); fetch it again")
    if {"storages", "tensors", "pickle"} <= set(names):
        return CheckpointError(f"{path}: is in PyTorch's first format, of 2016; load it with PyTorch and save it again")
    return CheckpointError(f"{path}: is a tar archive of {_few(names)}; unpack it and give the file with the weights")


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:3]) or "nothing"
    return f"{shown} and more" if len(names) > 3 else shown
