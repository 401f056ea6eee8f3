"""Parses Caffe's protobuf files and finds out what is wrong with those that cannot be parsed.

The messages have those fields that a reader of weights needs, by a list of our own; protobuf sets others aside. Packed
numbers are declared as bytes, because they lie in a file as numpy wants them, and a hundred million of them are
then one copy. Numbers that are not packed do not fit this declaration: protobuf keeps them as unknown fields, and the
message `Numbers` reads them from there. A layer's blobs are bytes too: `caffe_blob` takes most of them apart faster.
"""

import functools
import os
import pathlib
import re
from typing import Any, BinaryIO

from cvjax.errors import CheckpointError

# Of each message its fields: name, number, and type, with a star where the field repeats. Names of layers are bytes
# because protobuf refuses what is not UTF-8.
_MESSAGES = {
    "Shape": (("dim", 1, "int64*"),),
    "Blob": (
        ("num", 1, "int32"),
        ("channels", 2, "int32"),
        ("height", 3, "int32"),
        ("width", 4, "int32"),
        ("data", 5, "bytes*"),
        ("diff", 6, "bytes*"),
        ("shape", 7, "Shape"),
        ("double_data", 8, "bytes*"),
        ("double_diff", 9, "bytes*"),
    ),
    "Numbers": (("data", 5, "float*"), ("double_data", 8, "double*")),
    "V0Layer": (("name", 1, "bytes"), ("type", 2, "bytes"), ("blobs", 50, "bytes*")),
    "V1Layer": (("layer", 1, "V0Layer"), ("name", 4, "bytes"), ("type", 5, "int32"), ("blobs", 6, "bytes*")),
    "Layer": (("name", 1, "bytes"), ("type", 2, "bytes"), ("blobs", 7, "bytes*")),
    "Net": (("layers", 2, "V1Layer*"), ("layer", 100, "Layer*")),
}
# All fields that these two can have, for files that are cut off.
_KNOWN = {"Net": {*range(1, 9), 100}, "Blob": set(range(1, 10))}
_FIXED = {1: 8, 5: 4}  # bytes of a number by its wire type
_LIMIT = 2**31
_FOREIGN = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself; run `git lfs pull` where it is from"),
    (b"\x89HDF\r\n", "an HDF5 file; let Caffe write a snapshot in its other format, BINARYPROTO"),
    (b"PK\x03\x04", "an archive; unpack it and take the file inside"),
    (b"\x1f\x8b", "an archive; unpack it and take the file inside"),
    (b"BZh", "an archive; unpack it and take the file inside"),
    (b"7z\xbc\xaf", "an archive; unpack it and take the file inside"),
)
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # stand in no text
_PROTOTXT = re.compile(rb"^\s*(layers?\s*:?\s*\{|(name|input)\s*:)", re.MULTILINE)


@functools.cache
def message_class(name: str) -> Any:
    """Returns the class of one of Caffe's messages: `Net`, `Blob`, or `Numbers` for a blob that is not packed."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"cvjax_caffe.{name}"))


def read_message(path: pathlib.Path, name: str) -> Any:
    """Parses a file.

    Args:
      path: Path of the file.
      name: Name of the message that it holds: `Net` or `Blob`.

    Raises:
      CheckpointError: There is no such file, it is too large for protobuf, or it is damaged or something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the path")
    try:
        _check_kind(path)
        # Nothing holds these bytes but the parser, which copies them: they are gone before the arrays are made.
        return parse(path, name, path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and its disk"
        ) from error


def parse(path: pathlib.Path, name: str, content: bytes) -> Any:
    """Parses a message, the whole file or a part of it.

    Raises:
      CheckpointError: It is damaged or something else.
    """
    from google.protobuf.message import DecodeError

    try:
        return message_class(name).FromString(content)
    except DecodeError as error:
        missing = _missing_bytes(path, name) if name in _KNOWN else 0
        trouble = (
            f"it is cut off, and lacks {missing} bytes or more"
            if missing
            else "it is damaged, or not a file of Caffe's"
        )
        raise CheckpointError(f"{path}: {trouble}; fetch it again, and compare its size with the source's") from error


@functools.cache
def _pool() -> Any:
    """Declares the messages in a pool of their own, where they meet no other declaration of Caffe's."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    field_kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="cvjax_caffe.proto", package="cvjax_caffe")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            field = message.field.add(name=field_name, number=number)
            field.label = field_kinds.LABEL_REPEATED if repeated else field_kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = field_kinds.TYPE_MESSAGE, f".cvjax_caffe.{kind}"
            else:
                field.type = field_kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _check_kind(path: pathlib.Path) -> None:
    """Raises CheckpointError for a file that its size or its first bytes show to be something else."""
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty; fetch it again")
    if size >= _LIMIT:
        raise CheckpointError(
            f"{path} has {size} bytes, and protobuf reads no more than {_LIMIT - 1}; let Caffe write the weights"
            " without their gradients (snapshot_diff: false)"
        )
    with open(path, "rb") as file:
        head = file.read(4096)
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise CheckpointError(f"{path} is {what}")
    if _WEB_PAGE.match(head):
        raise CheckpointError(f"{path} is a web page, perhaps about an error; fetch the file again from its source")
    if not _CONTROL.search(head):
        if _PROTOTXT.search(head):
            raise CheckpointError(
                f"{path} is a prototxt: text that describes a net without its weights; give the .caffemodel or"
                " .binaryproto that belongs to it"
            )
        raise CheckpointError(
            f"{path} is text and not one of Caffe's binary files; fetch the file again from its source"
        )


def _missing_bytes(path: pathlib.Path, name: str) -> int:
    """Returns how much further than its file the last field reaches; 0 means that something else is wrong."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        while file.tell() < size:
            try:
                number, wire_type = divmod(_varint(file), 8)
                value = _FIXED.get(wire_type) or _varint(file)
            except EOFError:
                return 1
            if number not in _KNOWN[name] or wire_type not in (0, 2, *_FIXED) or value >= _LIMIT:
                return 0
            if wire_type != 0:
                file.seek(value, os.SEEK_CUR)
        return file.tell() - size


def _varint(file: BinaryIO) -> int:
    """Reads one of protobuf's integers: seven bits a byte, the lowest first; the eighth says that more follow."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            break
    return value
