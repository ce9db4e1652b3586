"""A prefix of a bucket in object storage as a place for objects. Edge.

Create-only is the store's ``If-None-Match: *``, probed when the repository is made
(``s3_probe.py``). An answer that got lost or says "taken" is settled by looking: our bytes there
are success, other bytes are not ours to touch. What was acknowledged is durable. Ages are told by
the store's clock alone, in whole seconds. Trying again is up to ``steady.py``. See FORMAT.md § 2.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

from blocksnapd.errors import (
    BlocksnapError,
    ObjectExistsError,
    RepositoryFormatError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from blocksnapd.s3_url import below_s3_url, parse_s3_url
from blocksnapd.store.names import check_name, is_name, is_pack_name
from blocksnapd.store.s3_client import Clients
from blocksnapd.store.s3_errors import Answer, read_answer, told
from blocksnapd.store.s3_parts import PART_SIZE, put_in_parts
from blocksnapd.store.writer_lock import lock_on_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blocksnapd.model import Access
    from blocksnapd.store.objects import Lock

WHOLE_SIZE_MAX: Final = 2 * PART_SIZE  # packs above go in parts
_OFFSET_MAX: Final = 1 << 62


class S3Store:
    """An ObjectStore in object storage. Thread-safe."""

    def __init__(self, url: str, access: Access) -> None:
        """Open the place that ``url`` names; nothing is asked of it yet.

        Raises:
            UsageError: ``url`` is malformed, or the libraries are not installed.
            KeyMissingError: there are no credentials.
        """
        try:
            self.place = parse_s3_url(url)
        except ValueError as error:
            raise UsageError(
                str(error),
                effect="Nothing was read or written.",
                hint="s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION",
            ) from error
        self._url = url
        self.clients = Clients(self.place, access)

    @property
    def url(self) -> str:
        """The place, for people."""
        return self._url

    def put(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Create an object of ``parts`` joined; durable on return. Return its size."""
        check_name(name)
        data = b"".join(parts)
        if len(data) > WHOLE_SIZE_MAX and is_pack_name(name):
            self.create(name, data, lambda: self._put_in_parts(name, data))
        else:
            self.create(name, data, lambda: self._put_whole(name, data))
        return len(data)

    def create(self, name: str, data: bytes, send: Callable[[], None]) -> None:
        """Have ``send`` create an object of ``data``; look what became of it where that is open.

        Raises:
            ObjectExistsError: another object has the name. StoreFullError: no room.
            KeyMissingError: the credentials do not allow it.
            StoreError: it is not there, but may be later; or nobody answers.
        """
        try:
            send()
        except Exception as error:
            answer = _answered(error)
            if not (answer.is_taken or answer.may_pass):
                raise self.failed(answer, "write", name) from error
            found = self._compare(name, data)
            if found is False:
                raise self._exists(name) from error
            if found is None:
                # The request died on its way, or another one was just under way: try again.
                raise self.failed(answer, "write", name) from error

    def get(self, name: str, *, size_max: int) -> bytes:
        """Return a whole object of at most ``size_max`` bytes."""
        check_name(name)
        with self._told("read", name):
            found = self.clients.data.get(name)
            size = found.meta["size"]
            if size > size_max:
                raise RepositoryFormatError(f"{name} has {size} bytes, more than {size_max}")
            return bytes(found.bytes())

    def get_range(self, name: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of an object from ``offset``, or fewer where it ends."""
        check_name(name)
        end = offset + size
        if not size or end > _OFFSET_MAX:
            there = self.size(name)  # such a range cannot be asked for
            if not size or offset >= there:
                return b""
            end = there
        with self._told("read", name):
            try:
                return bytes(self.clients.data.get_range(name, start=offset, end=end))
            except Exception as error:
                if _answered(error).is_beyond and offset >= self.size(name):
                    return b""
                raise

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        check_name(name)
        with self._told("read", name):
            return self.clients.data.head(name)["size"]

    def age(self, name: str) -> float:
        """Return for how many seconds the object has been there, by the store's clock."""
        check_name(name)
        with self._told("read", name):
            found = self.clients.admin.head_object(Bucket=self.place.bucket, Key=self.key(name))
        try:
            now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
            return float((now - found["LastModified"]).total_seconds())
        except (KeyError, ValueError, TypeError) as error:
            raise StoreError(
                f"{self._url} does not tell its own time",
                effect="Nothing was removed: without a clock nothing counts as old.",
                hint="Reach the store without the proxy that drops the header Date.",
            ) from error

    def exists(self, name: str) -> bool:
        """Return whether the object is there."""
        check_name(name)
        try:
            self.size(name)
        except StoreMissingError:
            # Without a bucket the answer is the same, until one asks for content.
            try:
                self.clients.data.get(name)
            except Exception as error:
                answer = _answered(error)
                if answer.is_missing and not answer.no_bucket:
                    return False
                raise self.failed(answer, "read", name) from error
        return True

    def list_names(self, prefix: str) -> list[str]:
        """Return all object names that start with ``prefix``, sorted."""
        found: list[str] = []
        with self._told("list", prefix):
            for page in self.clients.data.list(prefix, chunk_size=1000):
                found += (each["path"] for each in page)
        return sorted(name for name in found if name.startswith(prefix) and is_name(name))

    def children(self, prefix: str) -> list[str]:
        """Return the sorted next parts of names under ``prefix``."""
        with self._told("list", prefix):
            found = self.clients.data.list_with_delimiter(prefix)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        parts = {path.rstrip("/")[len(prefix) :] for path in paths if path.startswith(prefix)}
        return sorted(part for part in parts if "/" not in part and is_name(part))

    def delete(self, name: str) -> None:
        """Remove an object durably; none there is success."""
        check_name(name)
        with self._told("remove", name):
            try:
                self.clients.data.delete(name)
            except FileNotFoundError:
                return

    def settle(self, prefix: str) -> None:
        """Do nothing: what can be seen in object storage is durable."""

    def free_size(self) -> int | None:
        """Return None: object storage tells no end."""
        return None

    def lock(self, prefix: str) -> Lock:
        """Become the one writer under ``prefix`` on this host, see ``writer_lock.py``."""
        place = self.place
        return lock_on_host(f"{place.endpoint}/{place.bucket}/{place.prefix}", prefix)

    def key(self, name: str) -> str:
        """Return the key of an object in the bucket."""
        return f"{self.place.prefix}{name}"

    def below(self, part: str) -> Self:
        """Return the place one folder down; clients are shared as far as can be."""
        other = copy(self)
        other._url = below_s3_url(self._url, part)
        other.place = parse_s3_url(other._url)
        other.clients = self.clients.at(other.place)
        return other

    def sizes(self) -> Iterator[int]:
        """Yield the size of every object here, whatever its name."""
        with self._told("list", "the objects"):
            for page in self.clients.data.list(chunk_size=1000):
                yield from (each["size"] for each in page)

    def failed(self, answer: Answer, verb: str, name: str) -> StoreError:
        """Return the error that tells ``answer`` to a request to ``verb`` the object ``name``."""
        return told(answer, verb, name, self._url)

    def _put_whole(self, name: str, data: bytes) -> None:
        self.clients.data.put(name, data, mode="create", use_multipart=False)

    def _put_in_parts(self, name: str, data: bytes) -> None:
        place = self.place
        put_in_parts(self.clients.admin, place.bucket, self.key(name), memoryview(data))

    def _compare(self, name: str, data: bytes) -> bool | None:
        """Return whether ``name`` holds ``data``; None: there is nothing of that name."""
        with self._told("read", name):
            try:
                found = self.clients.data.get(name)
                return found.meta["size"] == len(data) and bytes(found.bytes()) == data
            except Exception as error:
                if _answered(error).is_missing:
                    return None
                raise

    def _exists(self, name: str) -> ObjectExistsError:
        return ObjectExistsError(
            f"{name} exists in {self._url}",
            effect="It was not touched: names are written once.",
            hint="Look at the newest point; another run may have committed it.",
        )

    @contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except BlocksnapError:
            raise
        except Exception as error:
            raise self.failed(_answered(error), verb, name) from error


def _answered(error: Exception) -> Answer:
    """Return what was answered; raise what none of the libraries would: a fault of our own."""
    import botocore.exceptions
    import obstore.exceptions

    known: tuple[Any, ...] = (
        obstore.exceptions.BaseError, FileNotFoundError,
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError,
        botocore.exceptions.HTTPClientError,
    )  # fmt: skip
    if not isinstance(error, known):
        raise error
    return read_answer(error)
