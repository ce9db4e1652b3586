"""The hosts of a receiver in a bucket, one folder each; others may stand before it, too. Edge.

What comes is spooled here until it is whole, then put: create-only is the bucket's. Nothing else of
a host is kept in a receiver, so that one can end, and another go on, at any moment. A call fails
once, as it fails: its source tries again, for as long as it does for any place, and says so.

Two receivers before one bucket see of each other whose turn it is to put a point, ``turns.py``. A
lock is of one receiver alone, and says so.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from blocksnapd.config_model import HOST_NAME
from blocksnapd.errors import RefusedError, StoreError, StoreFullError
from blocksnapd.model import Access
from blocksnapd.receive.roots import NOT_STARTED, no_repository
from blocksnapd.receive.spool import Spool
from blocksnapd.receive.turns import Turns
from blocksnapd.receive.usage import OBJECT_SIZE_MIN
from blocksnapd.store.floor_objects import put_floor
from blocksnapd.store.names import REPOSITORY_NAME
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.s3_probe import probe

if TYPE_CHECKING:
    from blocksnapd.receive.spool import SpooledUpload
    from blocksnapd.receive.turns import Turn
    from blocksnapd.store.s3_errors import Answer

# No host can have this name. The store is tried out below it, and turns lie there.
OWN_FOLDER: Final = "receiver="


class BucketStore(S3Store):
    """The objects of one host, or all, in a bucket. Thread-safe."""

    def __init__(self, url: str, access: Access, spool: Spool) -> None:
        """Open the place that ``url`` names; raises as S3Store."""
        super().__init__(url, access)
        self._spool = spool

    def begin(self, name: str) -> SpooledUpload:
        """Return a new object of no bytes yet."""
        return self._spool.begin(name, lambda data: self.put(name, [data]))

    def failed(self, answer: Answer, verb: str, name: str) -> StoreError:
        """Return the error, told so that a source knows whose trouble it is."""
        error = super().failed(answer, verb, name)
        if answer.is_missing and not answer.no_bucket:
            return error
        kind = StoreFullError if isinstance(error, StoreFullError) else StoreError
        hint = f"On the receiver: {error.hint} The source tries again by itself."
        return kind(f"the receiver's bucket: {error.message}", effect=error.effect, hint=hint)


class BucketRoot:
    """One folder per host below the prefix of ``url``.

    Args:
        url: ``s3://bucket/prefix?…``.
        credentials: a file; None: the environment is asked.
        spool: the directory where objects are kept until they are whole.
        keeper: by which name this receiver keeps its floors, see ``floor_objects.py``.

    Raises:
        UsageError: the libraries are not installed. KeyMissingError: there are no credentials.
    """

    count_again_s = 300.0  # others put there, too

    def __init__(self, url: str, credentials: str | None, spool: str, keeper: str) -> None:
        self._spool, self._keeper = Spool(spool), keeper
        ca = os.environ.get("BLOCKSNAP_CA") or None
        self._access = Access(ca=ca, credentials=credentials)
        self._all = BucketStore(url, self._access, self._spool)
        self._own = self._all.below(OWN_FOLDER)
        self._turns = Turns(self._own)
        self._guard = threading.Lock()
        self._stores: dict[str, BucketStore] = {}

    def check(self) -> tuple[str, ...]:
        """Try the bucket and the spool out."""
        try:
            self._spool.check()
            return probe(S3Store(self._own.url, self._access))
        except (RefusedError, StoreError) as error:
            raise type(error)(error.message, effect=NOT_STARTED, hint=error.hint) from error

    def hosts(self) -> list[str]:
        """Return the folders that can be hosts'."""
        return [name for name in self._all.children("") if HOST_NAME.fullmatch(name)]

    def url(self, host: str) -> str:
        """Return the URL of a host's repository."""
        return self._at(host).url

    def opened(self, host: str) -> BucketStore:
        """Return the objects of a host."""
        store = self._at(host)
        if not store.exists(REPOSITORY_NAME):
            raise no_repository(host)
        return store

    def made(self, host: str, floor_s: float | None) -> BucketStore:
        """Write the floor of a host, before there is anything to forget."""
        self.set_floor(host, floor_s)
        return self._at(host)

    def set_floor(self, host: str, floor_s: float | None) -> str:
        """Have the host's repository say what this receiver's floor is."""
        return put_floor(self._at(host), self._keeper, floor_s)

    def turn(self, host: str, point: str) -> Turn:
        """Have other receivers wait; see ``turns.py``."""
        return self._turns.take(host, point)

    def check_room(self, size: int, reserve: int) -> None:
        """Look at the spool: the bucket tells of no end."""
        del reserve
        self._spool.check_room(size)

    def free_size(self) -> int | None:
        """Return None: nobody knows."""
        return self._all.free_size()

    def used(self, host: str) -> int:
        """List a host's folder: one request for each thousand objects."""
        return sum(max(size, OBJECT_SIZE_MIN) for size in self._at(host).sizes())

    def _at(self, host: str) -> BucketStore:
        with self._guard:
            if host not in self._stores:
                self._stores[host] = self._all.below(host)
            return self._stores[host]
