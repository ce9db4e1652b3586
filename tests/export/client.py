"""An NBD client of a few lines, written from the protocol's text alone, that may misbehave."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import Any

REPLY_MAGIC = 0x3E889045565A9
GO, INFO, LIST, ABORT, EXPORT_NAME, STARTTLS = 7, 6, 3, 2, 1, 5
STRUCTURED, LIST_META, SET_META = 8, 9, 10
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
ACK = 1


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def text(value: str) -> bytes:
    return struct.pack(">I", len(value.encode())) + value.encode()


def go(name: str = "", number: int = GO, infos: tuple[int, ...] = ()) -> bytes:
    return option(number, text(name) + struct.pack(f">{len(infos) + 1}H", len(infos), *infos))


def meta(name: str = "", *queries: str, number: int = SET_META) -> bytes:
    body = text(name) + struct.pack(">I", len(queries)) + b"".join(map(text, queries))
    return option(number, body)


def request(
    command: int, offset: int = 0, length: int = 0, *, cookie: int = 1, flags: int = 0,
    data: bytes = b"",
) -> bytes:  # fmt: skip
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length) + data


@dataclass
class Reply:
    """One whole reply. ``content`` has the bytes of a read; holes in it were ``holes``."""

    cookie: int
    error: int = 0
    message: str = ""
    content: bytearray = field(default_factory=bytearray)
    holes: list[tuple[int, int]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    chunks: int = 0


class Feed:
    """Takes a server's bytes apart. ``take`` gets the next so many of them."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def take(self, size: int) -> bytes:
        assert len(self.data) >= size, "the server's words end too early"
        found = bytes(self.data[:size])
        del self.data[:size]
        return found

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))

    def greeting(self) -> int:
        assert self.take(16) == b"NBDMAGICIHAVEOPT"
        return int(self.unpack("H")[0])

    def option_reply(self) -> tuple[int, int, bytes]:
        magic, number, kind, size = self.unpack("QIII")
        assert magic == REPLY_MAGIC
        return number, kind, self.take(size)

    def option_replies(self) -> list[tuple[int, bytes]]:
        """Return (type, data) of the replies up to the final one."""
        found = []
        while not found or 1 < found[-1][0] < 1 << 31:
            _, kind, data = self.option_reply()
            found.append((kind, data))
        return found

    def simple_reply(self, length: int = 0) -> Reply:
        magic, error, cookie = self.unpack("IIQ")
        assert magic == 0x67446698
        return Reply(cookie, error, content=bytearray(self.take(0 if error else length)))

    def structured_reply(self, offset: int = 0, length: int = 0) -> Reply:
        """Return the reply to one request; nothing else may come in between."""
        reply, covered = Reply(-1, content=bytearray(b"\xee" * length)), bytearray(length)
        while True:
            magic, flags, kind, cookie, size = self.unpack("IHHQI")
            assert magic == 0x668E33EF
            assert reply.cookie in (-1, cookie)
            reply.cookie, reply.chunks = cookie, reply.chunks + 1
            body = Feed(self.take(size))
            if kind == 1:
                (at,) = body.unpack("Q")
                self._cover(reply, covered, at - offset, bytes(body.data))
            elif kind == 2:
                at, count = body.unpack("QI")
                assert count
                self._cover(reply, covered, at - offset, bytes(count))
                reply.holes.append((at, count))
            elif kind == 5:
                assert body.unpack("I") == (1,)
                reply.extents = list(struct.iter_unpack(">II", bytes(body.data)))
                assert reply.extents
                assert all(count for count, _ in reply.extents)
            elif kind & 1 << 15:
                reply.error, count = body.unpack("IH")
                assert reply.error
                reply.message = body.take(count).decode()
            else:
                assert (kind, size, flags) == (0, 0, 1)
            if flags & 1:
                assert reply.error or covered.count(1) == length
                return reply

    @staticmethod
    def _cover(reply: Reply, covered: bytearray, at: int, data: bytes) -> None:
        assert data
        assert 0 <= at <= at + len(data) <= len(covered)
        assert not any(covered[at : at + len(data)])
        covered[at : at + len(data)] = b"\1" * len(data)
        reply.content[at : at + len(data)] = data


class Client(Feed):
    """A connection to a Unix socket."""

    def __init__(self, path: str, *, flags: int = 3) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        assert self.greeting() == 3
        self.send(struct.pack(">I", flags))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def take(self, size: int) -> bytes:
        while len(self.data) < size:
            got = self.socket.recv(1 << 20)
            assert got, "the server closed the connection"
            self.data += got
        return super().take(size)

    def is_closed(self) -> bool:
        """Wait for the end; what came before it is thrown away."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        return True

    def choose(self, name: str = "", *, structured: bool = True, allocation: bool = True) -> int:
        """Go to transmission; return the size of the export."""
        if structured:
            self.send(option(STRUCTURED))
            assert self.option_replies()[-1][0] == ACK
        if structured and allocation:
            self.send(meta(name, "base:allocation"))
            assert self.option_replies()[-1][0] == ACK
        self.send(go(name))
        replies = self.option_replies()
        assert replies[-1][0] == ACK, replies
        return int.from_bytes(replies[0][1][2:10], "big")

    def read(self, offset: int, length: int) -> Reply:
        self.send(request(READ, offset, length))
        return self.structured_reply(offset, length)
