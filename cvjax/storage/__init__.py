"""Files at URLs: paths that work as pathlib's do, local copies of what libraries must read from a disk, and uploads.

A path is a `pathlib.Path` for a local place, also for one given as file://, and a `UrlPath` for any other URL. What
needs a library that writes to local disks alone is written to a temporary folder and copied up, and what must be read
by such a library is copied once into the user's cache.
"""

from cvjax.storage.copies import (
    Mirror,
    copy_folder,
    fetch_file,
    file_and_key,
    is_folder,
    put_folder,
    write_result,
    written_file,
    written_folder,
)
from cvjax.storage.data import data_folder, fetched_folder, put_in_store, store_data_folder
from cvjax.storage.places import AnyPath, UrlPath, as_path, checked_url, is_remote

__all__ = [
    "AnyPath",
    "Mirror",
    "UrlPath",
    "as_path",
    "checked_url",
    "copy_folder",
    "data_folder",
    "fetch_file",
    "fetched_folder",
    "file_and_key",
    "is_folder",
    "is_remote",
    "put_folder",
    "put_in_store",
    "store_data_folder",
    "write_result",
    "written_file",
    "written_folder",
]
