"""Whether a store does what a repository relies on, tried out before one is made there. Edge.

A store that ignores conditions looks fine until two writers meet; one that answers a range with
the whole object until somebody restores. So ``probe`` tries it, in objects of its own under
``probe/``: no promise of a manual is taken for it. What a repository cannot do without is refused;
what it can is worked around, and told.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Final

from blocksnapd.errors import KeyMissingError, ObjectExistsError, RefusedError, StoreError
from blocksnapd.store.s3_errors import read_answer
from blocksnapd.store.s3_parts import put_in_parts

if TYPE_CHECKING:
    from blocksnapd.store.s3 import S3Store

PREFIX: Final = "probe/"
ROUNDS: Final = 4
WRITERS: Final = 8
_FIRST, _SECOND = b"the first object of this name", b"another one, which must not win"
_SIZE_MAX: Final = 4096


def probe(store: S3Store) -> tuple[str, ...]:
    """Try the store out; return what people should know of it, as sentences.

    Raises:
        RefusedError: it cannot keep a repository. StoreError: it failed.
        KeyMissingError: the credentials do not allow to write, read and list.
    """
    tried = _Probe(store)
    try:
        tried.create_only()
        tried.race()
        tried.ranges()
        tried.parts()
        tried.checksums()
    finally:
        tried.remove()
    return tuple(tried.notes)


class _Probe:
    """Each check makes objects of its own; the first that fails a must raises RefusedError."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._made: list[str] = []
        self.notes: list[str] = []

    def create_only(self) -> None:
        """One after the other: the second is refused, the first stays."""
        name = self._name()
        self._store.put(name, [_FIRST])
        if self._is_written(name, _SECOND) or not self._holds(name, _FIRST):
            raise self._refused("wrote one object over another although it was asked not to")

    def race(self) -> None:
        """Many at once: one is told that it won, and its object is there."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in range(ROUNDS):
                name, start = self._name(), Barrier(WRITERS)

                def write(data: bytes, name: str = name, start: Barrier = start) -> bytes | None:
                    start.wait()
                    return data if self._is_written(name, data) else None

                given = [b"%d of those who write at once" % n for n in range(WRITERS)]
                won = [data for data in pool.map(write, given) if data is not None]
                if len(won) != 1 or not self._holds(name, won[0]):
                    raise self._refused(
                        f"told {len(won)} of {WRITERS} who wrote one name at once that they won"
                    )

    def ranges(self) -> None:
        """A part of an object, its size and its age can be asked for."""
        name = self._made[0]
        try:
            found = self._store.get_range(name, 4, 5), self._store.size(name)
            self._store.age(name)
        except StoreError as error:
            raise self._refused(f"cannot read parts of objects: {error.message}") from error
        if found != (_FIRST[4:9], len(_FIRST)):
            raise self._refused("answers with another part of an object than was asked for")

    def parts(self) -> None:
        """An upload in parts works; its condition is looked at, as far as that goes."""
        store, name, data = self._store, self._name(), memoryview(_FIRST)
        admin, bucket = store.clients.admin, store.place.bucket
        store.create(name, _FIRST, lambda: put_in_parts(admin, bucket, store.key(name), data))
        if not self._holds(name, _FIRST):
            raise self._refused("makes something else of an upload in parts than was sent")
        try:
            put_in_parts(admin, bucket, store.key(name), memoryview(_SECOND))
        except Exception as error:
            if not read_answer(error).is_taken:
                raise
        else:
            self.notes.append(
                "Uploads in parts are finished here without a look at what has the name already. "
                "Only packs are uploaded so, and no two have one name: it is no danger, but a "
                "holder of the credentials can write over a pack."
            )

    def checksums(self) -> None:
        """Bytes that are not those of their checksum are refused."""
        store, name = self._store, self._name()
        wrong = base64.b64encode(hashlib.sha256(_SECOND).digest()).decode()
        try:
            store.clients.admin.put_object(
                Bucket=store.place.bucket, Key=store.key(name), Body=_FIRST, ChecksumSHA256=wrong
            )
        except Exception as error:
            if read_answer(error).status != 400:
                raise
        else:
            self.notes.append(
                "This store does not compare what it gets with the checksum that is sent. What "
                "breaks on the way is found by verification, not at once."
            )

    def remove(self) -> None:
        """Remove what was made, or say that it stays."""
        try:
            for name in self._made:
                self._store.delete(name)
        except KeyMissingError:
            self.notes.append(
                f"These credentials may not delete, as a source's should not; {len(self._made)} "
                f"small objects stay in {PREFIX} and mean nothing."
            )

    def _name(self) -> str:
        self._made.append(f"{PREFIX}{secrets.token_hex(8)}")
        return self._made[-1]

    def _is_written(self, name: str, data: bytes) -> bool:
        try:
            self._store.put(name, [data])
        except ObjectExistsError:
            return False
        return True

    def _holds(self, name: str, data: bytes) -> bool:
        return self._store.get(name, size_max=_SIZE_MAX) == data

    def _refused(self, deed: str) -> RefusedError:
        return RefusedError(
            f"the store behind {self._store.url} {deed}",
            effect="No repository was made: points could be lost there without anybody noticing.",
            hint="Use a store that keeps to If-None-Match and to ranges, such as Amazon S3 or "
            "SeaweedFS 4.48, or a directory.",
        )
