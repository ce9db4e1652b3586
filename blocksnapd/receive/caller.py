"""Who calls, and what that allows. Pure.

A certificate names its holder in one URI of its alternative names:

    blocksnap:source:db01       the host db01: adds points, reads what it needs to go on
    blocksnap:reader:db01       its operator: reads everything of db01, changes nothing
    blocksnap:maintainer:db01   maintenance elsewhere: everything but the floor (``f/``), where the
                                receiver allows it

What a source needs in order to go on is: ``repo.json``; the newest two points (the one it
continues, and the one before in case that is damaged); what collections published (``g/``); and
which damage is to be shipped again (``t/``, ``.bad`` and ``.healed``). Nothing else, no packs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from blocksnapd.config_model import HOST_NAME
from blocksnapd.errors import StoreRefusedError
from blocksnapd.store.names import (
    FLOORS_PREFIX,
    REPOSITORY_NAME,
    check_name,
    is_of,
    is_point_name,
    parse_collection_name,
    parse_pack_name,
    parse_point_name,
    parse_record_name,
)
from blocksnapd.store.pack_format import PACK_SIZE_MAX
from blocksnapd.store.point_format import POINT_SIZE_MAX
from blocksnapd.store.repo_file import SIZE_MAX as REPOSITORY_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Role: TypeAlias = Literal["source", "reader", "maintainer"]
Verb: TypeAlias = Literal[
    "put", "get", "facts", "delete", "names", "children", "settle", "locks", "look", "room"
]
ROLES: tuple[Role, ...] = get_args(Role)

_IDENTITY = re.compile(rf"blocksnap:({'|'.join(ROLES)}):({HOST_NAME.pattern})")
_READS: tuple[Verb, ...] = ("get", "facts", "names", "children", "settle", "look", "room")
_LISTED = re.compile(r"v/[^/]+/p/|g/[^/]+/|t/[^/]+/")
_SETTLED = re.compile(r"v/[^/]+/[pd]/|g/[^/]+/|t/[^/]+/")
_VOLUME = re.compile(r"v/[^/]+/")
POINTS_READ = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """A host, and in which role somebody speaks for it."""

    host: str
    role: Role


def identity_uri(caller: Caller) -> str:
    """Return what a certificate says of its holder."""
    return f"blocksnap:{caller.role}:{caller.host}"


def caller_named(uris: Sequence[str]) -> Caller:
    """Return whom a certificate's URIs name.

    Raises:
        StoreRefusedError: none of them, or several, name a holder.
    """
    found = [match for uri in uris if (match := _IDENTITY.fullmatch(uri))]
    if len(found) != 1:
        raise StoreRefusedError(
            "the certificate does not say which host it is for",
            effect="Nothing was read or written.",
            hint="Make a new one with: blocksnapctl pair",
        )
    role = next(r for r in ROLES if r == found[0][1])
    return Caller(found[0][2], role)


def size_max(name: str) -> int:
    """Return how large the object ``name`` may be."""
    if name == REPOSITORY_NAME:
        return REPOSITORY_SIZE_MAX
    return POINT_SIZE_MAX if is_point_name(name) else PACK_SIZE_MAX


def check(caller: Caller, verb: Verb, name: str) -> None:
    """Make sure that the caller may do ``verb`` with an object, or a prefix, of its host.

    Which points a source may read depends on which there are: ``check_point_read``.

    Raises:
        StoreRefusedError: it may not. RepositoryFormatError: nothing can have that name.
    """
    if verb in ("put", "get", "facts", "delete"):
        check_name(name)
    elif verb != "room":
        check_name(name.removesuffix("/"))
        if not name.endswith("/"):
            raise refused(caller, verb, name)
    allowed = {"source": _source_may, "reader": _reader_may, "maintainer": _maintainer_may}
    if not allowed[caller.role](verb, name):
        raise refused(caller, verb, name)


def refused(caller: Caller, verb: Verb, name: str) -> StoreRefusedError:
    """Return the error for a ``verb`` that the caller's role does not have."""
    return StoreRefusedError(
        f"a {caller.role} of host {caller.host} may not {verb} {name}",
        effect="Nothing was read or written.",
        hint="Sources add points and read the newest; use a reader's certificate to restore, and "
        "maintain the repository on the receiver.",
    )


def check_point_read(caller: Caller, verb: Verb, name: str, names: Iterable[str]) -> None:
    """Make sure that the caller may read of the point ``name``; ``names`` are there.

    Raises:
        StoreRefusedError: it is history, which sources do not read.
    """
    if caller.role == "source" and parse_point_name(name).seq < _oldest_read(names):
        raise refused(caller, verb, name)


def shown(caller: Caller, names: list[str]) -> list[str]:
    """Return those of the listed names that the caller may know of."""
    if caller.role != "source":
        return names
    oldest = _oldest_read(names)
    return [name for name in names if _is_shown(name, oldest)]


def _is_shown(name: str, oldest: int) -> bool:
    if is_point_name(name):
        return parse_point_name(name).seq >= oldest
    return _is_collection(name) or _is_damage(name)


def _oldest_read(names: Iterable[str]) -> int:
    seqs = sorted({parse_point_name(name).seq for name in names if is_point_name(name)})
    return seqs[-POINTS_READ:][0] if seqs else 0


def _source_may(verb: Verb, name: str) -> bool:
    if verb == "put":
        return name == REPOSITORY_NAME or is_point_name(name) or _is_own_pack(name)
    if verb in ("get", "facts"):
        known = (is_point_name, _is_collection, _is_damage)
        return name == REPOSITORY_NAME or any(is_one(name) for is_one in known)
    prefixes = {"names": _LISTED, "settle": _SETTLED, "locks": _VOLUME, "look": _VOLUME}
    return verb == "room" or (verb in prefixes and bool(prefixes[verb].fullmatch(name)))


def _reader_may(verb: Verb, name: str) -> bool:
    del name
    return verb in _READS


def _maintainer_may(verb: Verb, name: str) -> bool:
    # The floor is this receiver's, or another one's.
    return verb not in ("put", "delete") or not name.startswith(FLOORS_PREFIX)


def _is_own_pack(name: str) -> bool:
    # Those whose session starts with r are what maintenance repacked.
    return is_of(parse_pack_name, name) and parse_pack_name(name).session.startswith("p")


def _is_collection(name: str) -> bool:
    return is_of(parse_collection_name, name)


def _is_damage(name: str) -> bool:
    return is_of(parse_record_name, name) and parse_record_name(name).kind in ("bad", "healed")
