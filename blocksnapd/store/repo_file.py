"""``repo.json``: what a directory of objects is, and by which rules it was written. Pure.

See FORMAT.md § 4.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocksnapd.errors import RepositoryFormatError
from blocksnapd.store.seal import ALGORITHMS

if TYPE_CHECKING:
    from datetime import datetime

FORMAT = 1
SIZE_MAX = 65536
_PURPOSE = (
    "A blocksnap repository: restore points of block volumes. Nothing in it can be read without "
    "restore.key, which is kept elsewhere. Change no file by hand. FORMAT.md in the program's "
    "source tells every byte."
)
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """What ``repo.json`` says that can differ."""

    repository_id: str
    created: str
    keys: str


def pack_repository(repository_id: str, created: datetime, keys: str) -> bytes:
    """Return the file's bytes; ``keys`` is the fingerprint of the keys it is written with."""
    value = {
        "purpose": _PURPOSE,
        "format": FORMAT,
        "repository_id": repository_id,
        "created": created.isoformat(timespec="seconds"),
        "keys": keys,
        "algorithms": ALGORITHMS,
    }
    return json.dumps(value, indent=2).encode() + b"\n"


def unpack_repository(data: bytes) -> RepositoryFile:
    """Return what the file says.

    Raises:
        RepositoryFormatError: it is not a repository's, or of a format this program cannot read.
    """
    value = read_json_map(data, "repo.json")
    version = value.get("format")
    if version != FORMAT or isinstance(version, bool):
        raise RepositoryFormatError(
            f"the repository has format {str(version)[:40]}, this program reads {FORMAT}",
            effect="Nothing was read or written.",
            hint="Use the version of blocksnapd that wrote it, or a newer one.",
        )
    algorithms = value.get("algorithms")
    if algorithms != ALGORITHMS:
        raise RepositoryFormatError(
            "the repository names algorithms that this program does not have",
            effect="Nothing was read or written.",
            hint="Use the version of blocksnapd that wrote it, or a newer one.",
        )
    repository_id, keys = value.get("repository_id"), value.get("keys")
    if not isinstance(repository_id, str) or _ID.fullmatch(repository_id) is None:
        raise RepositoryFormatError("repo.json has no repository_id of 32 hex digits")
    if not isinstance(keys, str):
        raise RepositoryFormatError("repo.json has no fingerprint of keys")
    return RepositoryFile(repository_id, str(value.get("created", "")), keys)


def read_json_map(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in ``data``.

    Raises:
        RepositoryFormatError: there is none, or it is larger than 64 KiB.
    """
    try:
        value = json.loads(data) if len(data) <= SIZE_MAX else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RepositoryFormatError(f"{what} is not a JSON object of at most 64 KiB")
    return value
