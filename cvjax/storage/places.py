"""Makes a path of what a person gives for a place: a local path, or a URL."""

import difflib
import os
import pathlib
import urllib.parse
from typing import TYPE_CHECKING, Any

from cvjax.errors import ConfigError
from cvjax.files import scheme_of

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from cvjax.storage.url_path import UrlPath

    AnyPath = pathlib.Path | UrlPath
else:
    AnyPath, UrlPath = pathlib.PurePath, Any  # of annotations alone; `import cvjax.weights` needs no etils

_SAME = {"gcs": "gs", "s3a": "s3"}
_EXTRAS = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
_NO_STORES = frozenset(
    {"async_wrapper", "asyncwrapper", "asynclocal", "blockcache", "cached", "data", "dir", "filecache", "generic"}
    | {"libarchive", "reference", "simplecache", "tar", "zip", "http", "https"}
)
"""What fsspec calls a protocol and is no place to write to: wrappers, archives, and web servers."""


def as_path(place: "str | os.PathLike[str]") -> AnyPath:
    """Returns the path of a place: `pathlib.Path` for a local one and for file://, `UrlPath` for any other URL.

    Nothing is asked over the network.

    Raises:
      ConfigError: No library here knows the URL's scheme, or the library that does is not installed.
    """
    text = os.fspath(place)
    scheme = scheme_of(text)
    if scheme is None:
        return pathlib.Path(place)
    rest = text.partition("://")[2]
    if scheme in ("file", "local"):
        return pathlib.Path(urllib.parse.unquote(rest) or "/")
    scheme = _SAME.get(scheme, scheme)
    import fsspec

    known = set(fsspec.available_protocols()) - _NO_STORES
    if scheme not in known:
        near = difflib.get_close_matches(scheme, ["gs", "s3", "file", "memory", *sorted(known)], n=1)
        meant = f"; did you mean {near[0]}://?" if near else "; use gs://, s3://, or a local path"
        raise ConfigError(f"{text} begins with {scheme}://, which is no kind of storage that is known here{meant}")
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ConfigError(f"{text} cannot be reached: {_missing(scheme, error)}") from error
    if not rest.strip("/"):
        raise ConfigError(f"{text} names no bucket or folder; give one behind {scheme}://")
    from cvjax.storage import url_path

    return url_path.UrlPath(f"{scheme}://{rest}")


def is_remote(path: pathlib.PurePath) -> "TypeIs[UrlPath]":
    """Returns whether a path that `as_path` returned is a URL's."""
    return not isinstance(path, pathlib.Path)


def checked_url(place: str | os.PathLike[str] | None) -> AnyPath | None:
    """Returns the path of a place at a URL; None for a local one, and for None."""
    if place is None or scheme_of(os.fspath(place)) is None:
        return None
    path = as_path(place)
    return path if is_remote(path) else None


def _missing(scheme: str, error: ImportError) -> str:
    if scheme in _EXTRAS:
        driver, extra = _EXTRAS[scheme]
        return f"{scheme}:// needs {driver}; pip install 'cvjax[{extra}]'"
    return str(error).strip().splitlines()[0].rstrip(".")
