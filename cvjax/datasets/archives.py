"""Fetches published archives once, and compares them with the digests that their publishers or mirrors state."""

import hashlib
import pathlib
import tarfile
import zipfile
from typing import NamedTuple

from cvjax.errors import DataError
from cvjax.files import download


class Archive(NamedTuple):
    """Describes a published file: its name, URL, length in bytes (0: unknown) and digests in hexadecimal."""

    name: str
    url: str
    size: int
    md5: str
    sha256: str


def check_archive(path: pathlib.Path, archive: Archive) -> None:
    """Compares a file with the published length and SHA-256, or with MD5 where SHA-256 is unknown ("").

    Raises:
      DataError: They differ, so the file is damaged or another one.
    """
    found = path.stat().st_size
    if archive.size and found != archive.size:
        raise _damaged(path, f"it has {found} bytes and not {archive.size}", archive)
    kind, expected = ("sha256", archive.sha256) if archive.sha256 else ("md5", archive.md5)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    if digest != expected:
        raise _damaged(path, f"its {kind} is {digest} and not {expected}", archive)


def fetch(archive: Archive, folder: pathlib.Path, *, progress: bool = True, instead: str = "") -> pathlib.Path:
    """Downloads an archive into a folder and checks it.

    A broken download leaves nothing under the archive's name.

    Args:
      archive: Archive to fetch.
      folder: Folder to put it into; made if need be.
      progress: Whether to show a bar on the terminal.
      instead: Another remedy to name in the message, in the form ", or ...".

    Returns:
      The file's path.

    Raises:
      DataError: The archive cannot be fetched, or the fetched file is not the published one.
    """
    target = folder / archive.name
    try:
        download(archive.url, target, check=lambda path: check_archive(path, archive), progress=progress)
    except OSError as error:  # URLError and time-outs are OSErrors too.
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{target}: is not there and could not be fetched from {archive.url} ({reason}); "
            f"fetch it elsewhere and put it into {folder}{instead}."
        ) from error
    return target


def _damaged(path: pathlib.Path, why: str, archive: Archive) -> DataError:
    return DataError(f"{path}: {why}; remove the file and fetch it again from {archive.url}.")


def unpack(archive: pathlib.Path, into: pathlib.Path) -> None:
    """Unpacks a zip or tar into a folder.

    Raises:
      DataError: The archive is damaged, or the folder cannot be written to.
    """
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(into)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(into, filter="data")
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); fetch the archive again.") from error
