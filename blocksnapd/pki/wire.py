"""What a source and a receiver say to each other to pair and to renew: JSON over HTTP. Pure.

    POST /v1/pair/begin     Begin  → Begun       without a certificate
    POST /v1/pair/finish    Finish → Issued      without a certificate
    POST /v1/renew          Renew  → Renewed     with the certificate that is to be renewed

Bytes are base64 in it. An error is a problem as for objects (``store/receiver_wire.py``).
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from blocksnapd.errors import FormatError

BEGIN_PATH: Final = "/v1/pair/begin"
FINISH_PATH: Final = "/v1/pair/finish"
RENEW_PATH: Final = "/v1/renew"
MESSAGE_SIZE_MAX: Final = 32_768

Message = TypeVar("Message", bound=msgspec.Struct)


class Begin(msgspec.Struct, frozen=True):
    """``holder`` (role and host) wants to pair; the first message of the exchange."""

    holder: str
    message: bytes


class Begun(msgspec.Struct, frozen=True):
    """The exchange that was begun, and the receiver's message in it."""

    exchange: str
    message: bytes


class Finish(msgspec.Struct, frozen=True):
    """A request for a certificate, the name the receiver was reached by, a proof over both."""

    exchange: str
    request: bytes
    reached_as: str
    proof: bytes


class Issued(msgspec.Struct, frozen=True):
    """The new certificate, the authority's, and the receiver's proof over both."""

    certificate: bytes
    authority: bytes
    proof: bytes


class Renew(msgspec.Struct, frozen=True):
    """A request for a certificate of a new key."""

    request: bytes


class Renewed(msgspec.Struct, frozen=True):
    """The new certificate."""

    certificate: bytes


def pack(message: msgspec.Struct) -> bytes:
    """Return the bytes of ``message``."""
    return msgspec.json.encode(message)


def unpack(data: bytes, kind: type[Message]) -> Message:
    """Return the message that ``data`` holds.

    Raises:
        FormatError: it holds none of this kind.
    """
    try:
        if len(data) > MESSAGE_SIZE_MAX:
            raise ValueError("too large")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(
            f"what came in is no {kind.__name__} of a pairing",
            effect="No certificate was made.",
            hint="Are both hosts of one version of blocksnap, and no proxy between them?",
        ) from error
