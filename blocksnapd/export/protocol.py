"""The bytes of the NBD protocol, fixed newstyle: constants, structures, both directions. Pure.

    server  greeting                                            then, until an export is chosen:
    client  client flags, then options: magic, option, length, data
    server  option replies: magic, option, reply type, length, data
    client  requests: magic, flags, command, cookie, offset, length (data after a write)
    server  simple replies, or structured ones in chunks

All integers are big-endian; names are UTF-8.

Source: doc/proto.md of the NBD project; the names are its own without NBD_.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

from blocksnapd.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

GREETING_MAGIC: Final = b"NBDMAGIC"
OPTION_MAGIC: Final = b"IHAVEOPT"
OPTION_REPLY_MAGIC: Final = 0x0003_E889_0455_65A9
REQUEST_MAGIC: Final = 0x2560_9513
SIMPLE_REPLY_MAGIC: Final = 0x6744_6698
CHUNK_MAGIC: Final = 0x668E_33EF

TCP_PORT: Final = 10809
STRING_SIZE_MAX: Final = 4096
OPTION_SIZE_MAX: Final = 1 << 16  # a name and many queries fit; what is longer is skipped
QUERIES_MAX: Final = 64
PAYLOAD_SIZE_MAX: Final = 32 << 20  # of one read or write: what the document asks for at least
BLOCK_SIZE_MIN: Final = 1
BLOCK_SIZE_PREFERRED_MIN: Final = 4096
ALLOCATION: Final = "base:allocation"
ALLOCATION_ID: Final = 1

_OPTION_HEADER: Final = struct.Struct(">8sII")
_OPTION_REPLY: Final = struct.Struct(">QIII")
_REQUEST: Final = struct.Struct(">IHHQQI")
_SIMPLE_REPLY: Final = struct.Struct(">IIQ")
_CHUNK: Final = struct.Struct(">IHHQI")
_CLIENT_FLAGS: Final = struct.Struct(">I")
CLIENT_FLAGS_SIZE: Final = _CLIENT_FLAGS.size
OPTION_HEADER_SIZE: Final = _OPTION_HEADER.size
REQUEST_SIZE: Final = _REQUEST.size


class HandshakeFlag(IntFlag):
    """What the server says in its greeting, and a client echoes."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    """What a client may ask before it has chosen an export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """What it may be told; errors have bit 31 set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_TOO_BIG = (1 << 31) + 9


class Info(IntEnum):
    """Facts about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_CACHE = 1 << 10


class Command(IntEnum):
    """What a client may ask of an export."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """How."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3


class Chunk(IntEnum):
    """The kinds of parts of a structured reply; errors have bit 15 set."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


CHUNK_DONE: Final = 1


class State(IntFlag):
    """What ``base:allocation`` tells of an extent."""

    DATA = 0
    HOLE = 1
    ZERO = 2


class Errno(IntEnum):
    """Why a request failed, in the protocol's own numbers."""

    EPERM = 1
    EIO = 5
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ESHUTDOWN = 108


class MalformedOptionError(FormatError):
    """The data of an option does not add up, or a text in it is no text."""

    code = "E-NBD-OPTION"


class Request(NamedTuple):
    """One request as it came. ``command`` may be none that anybody knows."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The byte after the last one it is about."""
        return self.offset + self.length


# --- the handshake ------------------------------------------------------------------------------


def greeting() -> bytes:
    """Return what the server says first."""
    flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
    return GREETING_MAGIC + OPTION_MAGIC + struct.pack(">H", flags)


def unpack_client_flags(data: bytes) -> int:
    """Return the client's flags; any bits may be set."""
    return int(_CLIENT_FLAGS.unpack(data)[0])


def unpack_option_header(data: bytes) -> tuple[int, int] | None:
    """Return (option, length of its data), or None: these bytes begin no option."""
    magic, option, length = _OPTION_HEADER.unpack(data)
    return (option, length) if magic == OPTION_MAGIC else None


def unpack_info_request(data: bytes) -> tuple[str, tuple[int, ...]]:
    """Return (export name, numbers of the facts wanted) of INFO and GO.

    Raises:
        MalformedOptionError: the lengths do not add up, or the name is none.
    """
    name, rest = _take_string(data)
    if len(rest) < 2 or len(rest) != 2 + 2 * int.from_bytes(rest[:2], "big"):
        raise MalformedOptionError("the list of information requests has another length")
    return name, struct.unpack(f">{len(rest) // 2}H", rest)[1:]


def unpack_meta_request(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return (export name, queries) of LIST_META_CONTEXT and SET_META_CONTEXT.

    Raises:
        MalformedOptionError: as ``unpack_info_request``, or more than ``QUERIES_MAX`` queries.
    """
    name, rest = _take_string(data)
    if len(rest) < 4:
        raise MalformedOptionError("the number of queries is missing")
    count, rest = int.from_bytes(rest[:4], "big"), rest[4:]
    if count > QUERIES_MAX:
        raise MalformedOptionError(f"{count} queries are more than {QUERIES_MAX}")
    queries = []
    for _ in range(count):
        query, rest = _take_string(rest)
        queries.append(query)
    if rest:
        raise MalformedOptionError(f"{len(rest)} bytes follow the last query")
    return name, tuple(queries)


def unpack_name(data: bytes) -> str:
    """Return a name or query.

    Raises:
        MalformedOptionError: too long, not UTF-8, or with a NUL in it.
    """
    if len(data) > STRING_SIZE_MAX:
        raise MalformedOptionError(f"a text of {len(data)} bytes is over {STRING_SIZE_MAX}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedOptionError("a text is not UTF-8") from error
    if "\0" in text:
        raise MalformedOptionError("a text has a NUL in it")
    return text


def _take_string(data: bytes) -> tuple[str, bytes]:
    if len(data) < 4:
        raise MalformedOptionError("a text's length is missing")
    end = 4 + int.from_bytes(data[:4], "big")
    if end > len(data):
        raise MalformedOptionError(f"a text ends at {end}, the data at {len(data)}")
    return unpack_name(data[4:end]), data[end:]


def option_reply(option: int, reply: OptionReply, data: bytes = b"") -> bytes:
    """Return one reply to an option; for an error ``data`` is a text for people."""
    return _OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, reply, len(data)) + data


def server_entry(name: str, description: str) -> bytes:
    """Return the data of a SERVER reply: one export in a list."""
    return _sized(name) + clipped(description)


def meta_context(context_id: int, name: str) -> bytes:
    """Return the data of a META_CONTEXT reply."""
    return struct.pack(">I", context_id) + name.encode()


def info_export(size: int, flags: int) -> bytes:
    """Return the fact every client gets: how large, and what it can do."""
    return struct.pack(">HQH", Info.EXPORT, size, flags)


def info_text(kind: Info, text: str) -> bytes:
    """Return the export's name or description."""
    return struct.pack(">H", kind) + clipped(text)


def info_block_size(preferred: int) -> bytes:
    """Return the sizes requests should have; any is allowed up to ``PAYLOAD_SIZE_MAX``."""
    sizes = (BLOCK_SIZE_MIN, max(preferred, BLOCK_SIZE_PREFERRED_MIN), PAYLOAD_SIZE_MAX)
    return struct.pack(">HIII", Info.BLOCK_SIZE, *sizes)


def export_name_reply(size: int, flags: int, *, has_zeroes: bool) -> bytes:
    """Return the answer to EXPORT_NAME, the one option with an answer of its own form."""
    return struct.pack(">QH", size, flags) + bytes(124 if has_zeroes else 0)


def clipped(text: str) -> bytes:
    """Return a text as bytes, cut between two characters where it is too long."""
    return text.encode(errors="replace")[:STRING_SIZE_MAX].decode(errors="ignore").encode()


def _sized(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data


# --- transmission -------------------------------------------------------------------------------


def unpack_request(data: bytes) -> Request | None:
    """Return a request, or None: these bytes begin none."""
    magic, flags, command, cookie, offset, length = _REQUEST.unpack(data)
    return Request(command, flags, cookie, offset, length) if magic == REQUEST_MAGIC else None


def simple_reply(cookie: int, error: int = 0) -> bytes:
    """Return a simple reply; the data of a read follows it."""
    return _SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def _chunk(kind: Chunk, cookie: int, size: int, *, is_last: bool) -> bytes:
    return _CHUNK.pack(CHUNK_MAGIC, CHUNK_DONE * is_last, kind, cookie, size)


def done_chunk(cookie: int) -> bytes:
    """Return the chunk that only says: that was all, and all is well."""
    return _chunk(Chunk.NONE, cookie, 0, is_last=True)


def data_chunk(cookie: int, offset: int, length: int, *, is_last: bool) -> bytes:
    """Return the head of a chunk of content; ``length`` bytes of it follow."""
    head = _chunk(Chunk.OFFSET_DATA, cookie, 8 + length, is_last=is_last)
    return head + struct.pack(">Q", offset)


def hole_chunk(cookie: int, offset: int, length: int, *, is_last: bool) -> bytes:
    """Return a chunk that says: zeros here."""
    payload = struct.pack(">QI", offset, length)
    return _chunk(Chunk.OFFSET_HOLE, cookie, len(payload), is_last=is_last) + payload


def status_chunk(cookie: int, extents: Sequence[tuple[int, int]]) -> bytes:
    """Return the one chunk that answers BLOCK_STATUS: (length, state) of extents in a row."""
    flat = [number for extent in extents for number in extent]
    payload = struct.pack(f">I{len(flat)}I", ALLOCATION_ID, *flat)
    return _chunk(Chunk.BLOCK_STATUS, cookie, len(payload), is_last=True) + payload


def error_chunk(cookie: int, error: int, text: str = "", *, offset: int | None = None) -> bytes:
    """Return a last chunk that says what went wrong, and where if that is known."""
    message = clipped(text)
    payload = struct.pack(">IH", error, len(message)) + message
    if offset is None:
        return _chunk(Chunk.ERROR, cookie, len(payload), is_last=True) + payload
    payload += struct.pack(">Q", offset)
    return _chunk(Chunk.ERROR_OFFSET, cookie, len(payload), is_last=True) + payload


def error_reply(
    cookie: int, error: int, text: str = "", *, structured: bool, offset: int | None = None
) -> bytes:
    """Return a failure in the form that was agreed on."""
    if structured:
        return error_chunk(cookie, error, text, offset=offset)
    return simple_reply(cookie, error)


def success_reply(cookie: int, *, structured: bool) -> bytes:
    """Return a success without data in the form that was agreed on."""
    return done_chunk(cookie) if structured else simple_reply(cookie)
