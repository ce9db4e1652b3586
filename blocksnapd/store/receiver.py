"""A receiver on another host as a place for objects. Edge: network.

What a lost connection leaves open is asked again on a new one: reading harms nothing, and a put
that is repeated says so, so that the receiver compares what is there.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from blake3 import blake3

from blocksnapd.errors import (
    BlocksnapError,
    ChecksumError,
    RepositoryFormatError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.receiver_url import is_ssh, parse_receiver, parse_ssh
from blocksnapd.store.names import check_name, is_name, volume_prefix
from blocksnapd.store.receiver_lease import Lease
from blocksnapd.store.receiver_link import LinkError, Links, TlsDialer
from blocksnapd.store.receiver_wire import (
    AGAIN_HEADER,
    ASK_FROM,
    DIGEST_HEADER,
    EPOCH_HEADER,
    LEASE_BEAT_S,
    LOCK_HEADER,
    LOCK_OF_ONE,
    PROBLEM_SIZE_MAX,
    TIME_HEADER,
    parse_count,
    parse_seconds,
    path_of,
    unpack_problem,
    unpack_shown,
)
from blocksnapd.store.ssh import SshDialer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocksnapd.model import Access
    from blocksnapd.store.looks import Shown
    from blocksnapd.store.receiver_link import Answer, Dialer, Headers, Link

LISTING_SIZE_MAX = 1 << 28
SMALL_SIZE_MAX = 1 << 16
UNANSWERED_MAX = 1024

T = TypeVar("T")
Pace: TypeAlias = "Callable[[Sequence[bytes | memoryview]], Iterable[bytes | memoryview]]"


class ReceiverStore:
    """An ObjectStore at a receiver. Thread-safe.

    Args:
        url: the place, for people.
        dialer: makes connections to it.
    """

    def __init__(self, url: str, dialer: Dialer) -> None:
        self._url, self._links = url, Links(dialer)
        self._unanswered: dict[str, None] = {}  # oldest first
        self._offset_s: float | None = None
        self._leases: dict[str, Lease] = {}

    @property
    def url(self) -> str:
        """The place, for people."""
        return self._url

    @property
    def clock_offset_s(self) -> float | None:
        """How far the receiver's clock is ahead of this host's; None: it has not answered yet."""
        return self._offset_s

    def close(self) -> None:
        """End the connections that are idle, also those of locks that were let go."""
        for lease in self._leases.values():
            if lease.is_released:
                lease.wait_until_over()
        self._links.close()

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object of ``parts`` joined; durable on return. Return its size."""
        return self.put_along(name, list(parts), lambda parts: parts)

    def put_along(
        self,
        name: str,
        parts: Sequence[bytes | memoryview],
        pace: Pace,
    ) -> int:
        """Do as ``put``, which finds its object when repeated; send what ``pace`` gives."""
        self._create(name, parts, pace, [])
        return sum(memoryview(part).nbytes for part in parts)

    def _create(
        self, name: str, parts: Sequence[bytes | memoryview], pace: Pace, more: Headers
    ) -> Answer:
        self._check_leases(check_name(name))
        hasher, size = blake3(), 0
        for part in parts:
            hasher.update(part)
            size += memoryview(part).nbytes
        headers = [("Content-Length", str(size)), (DIGEST_HEADER, hasher.hexdigest()), *more]
        if size >= ASK_FROM:
            headers.append(("Expect", "100-continue"))

        def send(link: Link) -> Answer:
            # Whatever became of an earlier try: what is there may be ours.
            again = [(AGAIN_HEADER, "1")] if name in self._unanswered else []
            self._note_unanswered(name)
            return self._put(link, path_of("objects", name), headers + again, pace(parts))

        try:
            answer = self._try(send)
        except BlocksnapError as error:
            if not error.transient:
                self._unanswered.pop(name, None)
            raise
        self._unanswered.pop(name, None)
        return answer

    def put_point(
        self,
        name: str,
        parts: Sequence[bytes | memoryview],
        *,
        epoch: int,
        pace: Pace = lambda parts: parts,
    ) -> int | None:
        """Create a point if no collection above ``epoch`` is seen; see ``looks.Looks``."""
        answer = self._create(name, parts, pace, [(EPOCH_HEADER, str(epoch))])
        return parse_count(answer.headers.get(EPOCH_HEADER.lower()))

    def look(self, volume_id: str) -> Shown:
        """Return what there is of a volume."""
        path = path_of("look", volume_prefix(volume_id))
        return unpack_shown(self._ask("GET", path, size_max=LISTING_SIZE_MAX), self._url)

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object of at most ``size_max`` bytes."""
        return self._read(path_of("objects", check_name(name)), size_max, name)

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of an object from ``offset``, or fewer where it ends."""
        path = f"{path_of('objects', check_name(name))}?offset={offset}&size={size}"
        return self._read(path, size, name)

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        return int(self._fact(name, "size"))

    def age(self, name: str) -> float:
        """Return for how many seconds an object has been there, by the receiver's clock."""
        return self._fact(name, "age")

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        return self._facts(name) is not None

    def list_names(self, prefix: str) -> list[str]:
        """Return all object names that start with ``prefix``, sorted."""
        return sorted(self._lines("names", prefix))

    def children(self, prefix: str) -> list[str]:
        """Return the sorted next parts of names under ``prefix``."""
        return sorted(self._lines("children", prefix))

    def delete(self, name: str) -> None:
        """Remove an object durably; none there is success."""
        self._ask("DELETE", path_of("objects", check_name(name)))

    def settle(self, prefix: str) -> None:
        """Make durable every name in the folder ``prefix``, and all above it."""
        self._ask("POST", path_of("settle", prefix))

    def free_size(self) -> int | None:
        """Return how many bytes the receiver has room for, to this host."""
        found = self._document("GET", path_of("room"))
        free = found.get("free_bytes") if isinstance(found, dict) else None
        return free if isinstance(free, int) else None

    def lock(self, prefix: str) -> Lease:
        """Become the one writer under ``prefix``; the receiver clears what writers left."""
        earlier = self._leases.get(prefix)
        if earlier is not None and earlier.is_released:
            earlier.wait_until_over()

        def take(link: Link) -> bool:
            headers = [("Transfer-Encoding", "chunked"), self._time()]
            link.request("POST", path_of("locks", prefix), headers)
            link.body([b"\n"])
            answer = link.answer()
            self._check(link, answer)
            next(link.content(), None)  # that it is held
            return answer.headers.get(LOCK_HEADER.lower()) != LOCK_OF_ONE

        try:
            lease = Lease(self._links, take, beat_s=LEASE_BEAT_S)
        except LinkError as error:
            raise self._broken(error) from error
        self._leases[prefix] = lease
        return lease

    def _put(
        self, link: Link, path: str, headers: Headers, parts: Iterable[bytes | memoryview]
    ) -> Answer:
        link.request("PUT", path, [*headers, self._time()])
        refusal = link.is_asked_for_body() if ("Expect", "100-continue") in headers else None
        if refusal is None:
            try:
                link.body(parts)
                link.end()
            except LinkError:
                # It may have said why it did not want to hear more.
                refusal = link.answer()
        answer = refusal or link.answer()
        self._check(link, answer)
        for _ in link.content():
            pass
        return answer

    def _note_unanswered(self, name: str) -> None:
        self._unanswered[name] = None
        for oldest in list(self._unanswered)[:-UNANSWERED_MAX]:
            del self._unanswered[oldest]  # given up long ago: its session is over

    def _read(self, path: str, size_max: int, name: str) -> bytes:
        return self._ask("GET", path, size_max=size_max, what=name)

    def _fact(self, name: str, key: str) -> float:
        found = (self._facts(name) or {}).get(key)
        if found is None:
            raise StoreMissingError(
                f"there is no {name} in {self._url}",
                effect="What it held cannot be read.",
                hint="Run verify on the receiver.",
            )
        return float(found)

    def _facts(self, name: str) -> dict[str, Any] | None:
        found = self._document("GET", path_of("facts", check_name(name)))
        return found if isinstance(found, dict) else None

    def _lines(self, verb: str, prefix: str) -> list[str]:
        data = self._ask("GET", path_of(verb, prefix), size_max=LISTING_SIZE_MAX, what=prefix)
        start = prefix if verb == "names" else ""
        names = data.decode("utf-8", "replace").splitlines()
        # Names of a hostile place are checked on the way in as well.
        return [name for name in names if name.startswith(start) and is_name(name)]

    def _document(self, method: str, path: str) -> Any:
        data = self._ask(method, path, size_max=SMALL_SIZE_MAX, what=path)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise unpack_problem(200, b"", self._url) from None

    def _ask(
        self, method: str, path: str, *, size_max: int = SMALL_SIZE_MAX, what: str = ""
    ) -> bytes:
        def ask(link: Link) -> bytes:
            link.request(method, path, [self._time()])
            link.end()
            answer = link.answer()
            self._check(link, answer)
            if (answer.size or 0) > size_max:
                raise RepositoryFormatError(f"{what} has {answer.size} bytes, more than {size_max}")
            return _limited(link, size_max, what or path)

        return self._try(ask)

    def _try(self, call: Callable[[Link], T]) -> T:
        # One that was idle may have been closed meanwhile: the second try has a new one. Further
        # ones are the business of ``steady.py``.
        for is_last in (False, True):
            try:
                with self._links.borrowed(is_new=is_last) as link:
                    return call(link)
            except LinkError as error:
                if is_last:
                    raise self._broken(error) from error
        raise AssertionError("every try returns or raises")

    def _check_leases(self, name: str) -> None:
        # Somebody else writes there now; what this session puts would be in its way.
        for prefix, lease in list(self._leases.items()):
            if name.startswith(prefix) and lease.lost is not None and not lease.is_released:
                raise lease.lost

    def _broken(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self._url}: {error}",
            effect="Nothing was committed by this call, or it is found when it is tried again; "
            "earlier points are untouched; the snapshot goes on tracking.",
            hint=getattr(error, "hint", "It is tried again."),
        )

    def _check(self, link: Link, answer: Answer) -> None:
        self._note_time(answer)
        if answer.status < 300:
            return
        body = _limited(link, PROBLEM_SIZE_MAX, "an error")
        error = unpack_problem(answer.status, body, self._url)
        raise LinkError(error.message) if isinstance(error, ChecksumError) else error

    def _note_time(self, answer: Answer) -> None:
        said = parse_seconds(answer.headers.get(TIME_HEADER.lower()))
        if said is not None:
            self._offset_s = said - time.time()

    def _time(self) -> tuple[str, str]:
        return TIME_HEADER, f"{time.time():.6f}"


def open_receiver(url: str, access: Access) -> ReceiverStore:
    """Return the place that ``https://host:port/`` or ``ssh://user@host`` names; nothing is sent.

    Connections are shared by all that open the same place with the same access.

    Raises:
        UsageError: it is not such a URL, or no certificate is named.
    """
    with _KNOWN_LOCK:
        if (url, access) not in _KNOWN:
            _KNOWN[url, access] = _opened(url, access)
        return _KNOWN[url, access]


_KNOWN: dict[tuple[str, Access], ReceiverStore] = {}
_KNOWN_LOCK = threading.Lock()


def _opened(url: str, access: Access) -> ReceiverStore:
    try:
        if is_ssh(url):
            return ReceiverStore(url, SshDialer(parse_ssh(url), access))
        address = parse_receiver(url)
    except ValueError as error:
        hint = "Write it like https://backup1.example.net:7420/ or ssh://blocksnap@backup1"
        raise UsageError(str(error), effect="Nothing was read or written.", hint=hint) from error
    if access.cert is None:
        raise UsageError(
            f"{url} lets nobody in without a certificate, and none is named",
            effect="Nothing was read or written.",
            hint="Name ca and cert of the target, or BLOCKSNAP_CA and BLOCKSNAP_CERT in the "
            "environment; blocksnapctl pair makes them.",
        )
    return ReceiverStore(url, TlsDialer(*address, access))


def _limited(link: Link, size_max: int, what: str) -> bytes:
    pieces, size = [], 0
    for piece in link.content():
        size += len(piece)
        if size > size_max:
            raise RepositoryFormatError(f"{what} has more than {size_max} bytes")
        pieces.append(piece)
    return b"".join(pieces)
