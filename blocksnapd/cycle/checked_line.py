"""A small record in a file: xxh3_128 of the line that follows, in hex, and that line. Pure."""

from __future__ import annotations

from typing import NamedTuple

import xxhash


class Line(NamedTuple):
    """What a file's bytes hold: ``digest`` is what they say of ``body``, true or not."""

    digest: bytes
    body: bytes

    @property
    def is_true(self) -> bool:
        """Whether the body is what was written."""
        return xxhash.xxh3_128_hexdigest(self.body).encode() == self.digest


def pack_line(body: bytes) -> bytes:
    """Return the bytes of a file that holds ``body``."""
    return xxhash.xxh3_128_hexdigest(body).encode() + b"\n" + body + b"\n"


def unpack_line(data: bytes) -> Line:
    """Return what ``data``, whatever it is, says that it holds."""
    digest, _, rest = data.partition(b"\n")
    return Line(digest, rest.removesuffix(b"\n"))
