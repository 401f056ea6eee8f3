"""Fetches a repository of Hugging Face's hub with the hub's own client, and keeps nothing that is not whole."""

import hashlib
import pathlib
import re
import tempfile
from typing import Any

from cvjax.errors import CheckpointError, ConfigError
from cvjax.weights.published.names import HUB

CONFIG, WEIGHTS = FILES = ("config.json", "model.safetensors")


def fetch_repository(repository: str, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the paths of a repository's config.json and model.safetensors; what is not there yet is fetched.

    Args:
      repository: OWNER/NAME, or with a branch, a tag or a commit behind it: OWNER/NAME@REVISION.
      folder: Folder in which each revision has a folder of its own.

    Raises:
      ConfigError: Not the name of a repository.
      CheckpointError: The files cannot be fetched, or are not those that the hub says they are.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@\w[\w.-]*)?", repository):
        raise ConfigError(f"a repository is {HUB}OWNER/NAME, or with @REVISION behind it; this is {HUB}{repository}")
    name, _, revision = repository.partition("@")
    place = folder / name / revision
    missing = [file for file in FILES if not (place / file).is_file()]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        # The client takes a file whose length is right for whole, so files come to their place after our check alone.
        with tempfile.TemporaryDirectory(dir=place, prefix=".part-", ignore_cleanup_errors=True) as work:
            commit = revision or "main"
            for file in missing:
                commit = _fetch(name, file, commit, pathlib.Path(work), place / file)
            for file in missing:
                (pathlib.Path(work) / file).replace(place / file)
    return place / CONFIG, place / WEIGHTS


def unreachable(path: pathlib.Path, url: str, reason: object) -> CheckpointError:
    """Returns the error for a file that is not there and cannot be fetched; it says where to put one by hand."""
    return CheckpointError(
        f"{path}: is not there and could not be fetched from {url} ({reason}); fetch it elsewhere and put it there"
    )


def _fetch(name: str, file: str, revision: str, work: pathlib.Path, target: pathlib.Path) -> str:
    """Fetches a file into `work` and returns the commit that it is of, so that the next file is of the same one."""
    try:
        import huggingface_hub as hub  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        url = f"https://huggingface.co/{name}/resolve/{revision}/{file}"
        raise unreachable(target, url, "that needs huggingface_hub; pip install 'cvjax[hub]'") from error
    url = hub.hf_hub_url(name, file, revision=revision)
    try:
        metadata = hub.get_hf_file_metadata(url)
        commit = metadata.commit_hash or revision
        path = hub.hf_hub_download(name, file, revision=commit, local_dir=work)
    except Exception as error:  # its kinds change with its releases
        raise unreachable(target, url, _reason(hub, error, revision)) from error
    found = _digest(pathlib.Path(path), metadata.etag or "")
    if found is not None and found != metadata.etag:
        raise CheckpointError(
            f"{target}: what came from {url} has the digest {found} and not {metadata.etag}, as the hub says, so it is "
            f"damaged and was not kept; fetch it again, or elsewhere and put it there"
        )
    return commit


def _digest(path: pathlib.Path, etag: str) -> str | None:
    """Returns a file's digest of the kind that the hub gave: SHA-256 of large files, git's of small ones."""
    if len(etag) == 64:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if len(etag) == 40:
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return None  # a mirror that tells no digest; the client has compared the length


def _reason(hub: Any, error: Exception, revision: str) -> str:
    errors = hub.errors
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is not open to you"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {revision}"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"the repository has no such file, and cvjax takes those with {CONFIG} and {WEIGHTS}"
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
