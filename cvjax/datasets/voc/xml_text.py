"""Parses XML in any encoding that Python knows, with or without namespaces.

The parser that comes with Python knows a few encodings alone. So the text is decoded first, by its byte order mark or
its declaration.
"""

import codecs
import re
from xml.etree import ElementTree
from xml.parsers import expat

from cvjax.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0?\0", "utf-16-le"),
    (b"\0<\0?", "utf-16-be"),
)
_DECLARATION = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
# Files that declare these are often written in the larger sets that contain them.
_LARGER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "cp950",
}


def parse_root(data: bytes, name: str) -> ElementTree.Element:
    """Parses XML and returns its root, with the namespaces taken off all tags.

    Args:
      data: Content of the file.
      name: Path of the file, for messages.

    Raises:
      DataError: The encoding is unknown, the content is not in it, or is not XML; the message names the line.
    """
    if not data.strip():
        raise DataError(f"{name}: the file is empty; export the annotation again.")
    try:
        root = ElementTree.fromstring(_decode(data, name))
    except ElementTree.ParseError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(
            f"{name}: line {error.position[0]} cannot be read as XML ({reason}); export the annotation again."
        ) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _decode(data: bytes, name: str) -> str:
    codec = next((codec for mark, codec in _MARKS if data.startswith(mark)), None) or _declared(data, name)
    try:
        return data.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{name}: line {line} is no text in {codec}; save it as UTF-8, or name its encoding in the first line."
        ) from error


def _declared(data: bytes, name: str) -> str:
    """Returns the encoding that the declaration of a text names; UTF-8 where there is none."""
    found = _DECLARATION.match(data)
    if found is None:
        return "utf-8"
    stated = found[1].decode()
    try:
        codec = codecs.lookup(stated).name
        "".encode(codec)
    except LookupError as error:
        raise DataError(
            f"{name}: its first line names the encoding {stated}, which is unknown; save it as UTF-8."
        ) from error
    if codec.startswith(("utf-16", "utf-32")):
        return "utf-8"  # The declaration itself has one byte a character, so it is wrong.
    return _LARGER.get(codec, codec)
