"""Gives the libraries that write checkpoints a path that they can take, whatever a folder is called.

Orbax finds its own files by patterns, in which square brackets have a meaning. TensorStore turns a backslash into a
slash, and takes only names that are UTF-8. So a folder with such a name is reached by another path: a symbolic link in
the folder for temporary files. A folder at a URL that Orbax cannot write to is stood in for by one there, see
`cvjax.engine.checkpoint.stores`.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from cvjax.engine.checkpoint.stores import is_native
from cvjax.errors import ConfigError
from cvjax.storage import AnyPath, is_remote

_PLAIN = re.compile(r"[A-Za-z0-9_./ -]+")
"""Paths of these characters alone are passed on as they are."""


class PlainPath:
    """Holds a path to a folder that has letters, digits and `_./ -` in it alone; `close()` removes it.

    Args:
      folder: Folder, absolute. It need not be there yet, if its parent is.

    Raises:
      ConfigError: There is no such path: the run has several processes, which must all use the same, or the folder of
        temporary files has such a name as well.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._link = None
        if is_remote(folder):
            if is_native(folder):
                self.path: Any = epath.Path(str(folder))
                return
            if jax.process_count() > 1:
                raise ConfigError(
                    f"{folder} is at a URL that a run of several processes cannot write checkpoints to; give a"
                    " --workdir at gs:// or in a folder that all see"
                )
            self._link = pathlib.Path(tempfile.mkdtemp(prefix="cvjax-"))
            self.path = self._link / "folder"
            return
        self.path = folder
        if _PLAIN.fullmatch(os.fspath(folder)):
            return
        if jax.process_count() > 1:
            raise ConfigError(
                f"{os.fspath(folder)!r} has characters that a run of several processes cannot use in the name of its"
                " folder; give a --workdir of letters, digits and _ . -"
            )
        self._link = pathlib.Path(tempfile.mkdtemp(prefix="cvjax-"))
        self.path = self._link / "folder"
        if not _PLAIN.fullmatch(os.fspath(self.path)):
            self.close()
            raise ConfigError(
                f"neither {os.fspath(folder)!r} nor the folder of temporary files {tempfile.gettempdir()!r} has a name"
                " of letters, digits and _ . - alone; give another --workdir or another TMPDIR"
            )
        self.path.symlink_to(folder, target_is_directory=True)

    def close(self) -> None:
        """Removes the link, not the folder; a second time does nothing."""
        if self._link is not None:
            shutil.rmtree(self._link, ignore_errors=True)


@contextlib.contextmanager
def plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to a folder as `PlainPath` does, and removes it in the end."""
    held = PlainPath(folder.absolute())
    try:
        yield held.path
    finally:
        held.close()
