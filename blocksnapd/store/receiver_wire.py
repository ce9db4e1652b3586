"""What a source and a receiver say to each other over HTTP/1.1: paths, headers, problems. Pure.

    PUT    /v1/objects/NAME     create; Content-Length, and Blocksnap-Digest: BLAKE3 of the body
    GET    /v1/objects/NAME     the object; with ?offset=N&size=N a part of it
    DELETE /v1/objects/NAME
    GET    /v1/facts/NAME       {"size": bytes, "age": seconds}; null where there is none
    GET    /v1/names/PREFIX     all names that start with it, one a line
    GET    /v1/children/PREFIX  their next parts, one a line
    POST   /v1/settle/PREFIX
    POST   /v1/locks/PREFIX     the lock is held for as long as the body goes on: see below
    GET    /v1/look/PREFIX      what there is of a volume, v/VOLUME/: {"repository": base64 of
                                repo.json or null, "names": of points, collections, records};
                                points, packs and collections are settled
    GET    /v1/room             {"free_bytes": bytes or null}

A put that may have been done already says ``Blocksnap-Again: 1``: then a taken name with the very
same content is success (200), which is how a lost answer is found out. A put of a point that says
``Blocksnap-Epoch: N`` is refused if the highest epoch of the volume's collections is not N; if the
point is alone in its place afterwards, the answer says the epoch that is the highest then. A lock's
body is chunked; a byte of it now and then keeps the lock, its end or that of the connection
releases it; ``Blocksnap-Lock: receiver`` in the answer: other receivers may grant it, too. Every
request says the time of its sender, every answer the receiver's. A refusal is a JSON object of
``code``, ``message``, ``effect`` and ``hint``, the attributes of an error.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from blocksnapd.errors import (
    BlocksnapError,
    BusyError,
    CertificateError,
    ChecksumError,
    ClockOffsetError,
    CondemnedError,
    FormatError,
    NotAllowedError,
    ObjectExistsError,
    PairingError,
    QuotaError,
    RepositoryFormatError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreRefusedError,
    UsageError,
)
from blocksnapd.store.looks import Shown
from blocksnapd.store.names import is_name

AGAIN_HEADER = "Blocksnap-Again"
EPOCH_HEADER = "Blocksnap-Epoch"
LOCK_HEADER = "Blocksnap-Lock"
LOCK_OF_ONE = "receiver"  # what it says where other receivers may grant it, too
DIGEST_HEADER = "Blocksnap-Digest"
TIME_HEADER = "Blocksnap-Time"
PROBLEM_TYPE = "application/problem+json"
PROBLEM_SIZE_MAX = 65536
TEXT_LENGTH_MAX = 2000

LEASE_BEAT_S = 10.0
LEASE_S = 45.0  # without a beat
# Larger bodies ask before they are sent.
ASK_FROM = 2 << 20

_STATUSES: dict[type[BlocksnapError], int] = {
    StoreRefusedError: 403,
    StoreMissingError: 404,
    ObjectExistsError: 409,
    CondemnedError: 409,
    BusyError: 423,
    RepositoryFormatError: 400,
    ChecksumError: 422,
    ClockOffsetError: 412,
    QuotaError: 507,
    StoreFullError: 507,
    StoreError: 500,
    PairingError: 403,
    NotAllowedError: 403,
    CertificateError: 400,
    FormatError: 400,
    UsageError: 400,
}
_ERRORS = {kind.code: kind for kind in _STATUSES}


def path_of(verb: str, name: str = "") -> str:
    """Return the path of a request: ``/v1/objects/v/vol/p/x.pt``."""
    return f"/v1/{verb}/{quote(name, safe='/@=+')}" if name else f"/v1/{verb}"


def pack_problem(error: BlocksnapError) -> tuple[int, bytes]:
    """Return the status and the body that tell ``error``."""
    status = next((s for kind, s in _STATUSES.items() if isinstance(error, kind)), 500)
    said = {
        "code": error.code if error.code in _ERRORS else StoreError.code,
        "message": error.message,
        "effect": error.effect,
        "hint": error.hint,
    }
    return status, json.dumps(said).encode()


def unpack_problem(status: int, body: bytes, url: str) -> BlocksnapError:
    """Return the error that an answer tells; one that is none of ours is a StoreError."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("message"), str):
        return StoreError(
            f"{url} answered with status {status} and nothing that explains it",
            effect="Nothing was committed by this call; the snapshot goes on tracking.",
            hint="Is a blocksnap receiver at that address, and no proxy before it?",
        )
    kind = _ERRORS.get(str(said.get("code")), StoreError)
    message, effect, hint = (_plain(said.get(key)) for key in ("message", "effect", "hint"))
    return kind(f"{url} says: {message}", effect=effect, hint=hint)


def _plain(text: object) -> str:
    # It goes to terminals and logs: one line, no control characters.
    cut = str(text or "")[:TEXT_LENGTH_MAX]
    return " ".join("".join(c if c.isprintable() else " " for c in cut).split())


def unpack_shown(body: bytes, url: str) -> Shown:
    """Return what a look was answered with; names that cannot be are left out.

    Raises:
        StoreError: it is nothing of the kind.
    """
    try:
        said: Any = json.loads(body)
        text = said["repository"]
        data = None if text is None else base64.b64decode(text, validate=True)
        names = [name for name in said["names"] if is_name(name)]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise unpack_problem(200, b"", url) from None
    return Shown(data, tuple(sorted(names)))


def parse_count(text: str | None) -> int | None:
    """Return the whole number, not negative, that ``text`` is; None for anything else."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 20:
        return None
    return int(text)


def parse_seconds(text: str | None) -> float | None:
    """Return the instant that ``text`` is, seconds since 1970; None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e11 else None
