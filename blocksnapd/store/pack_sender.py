"""Packs on their way: sent while the next one is filled, a few at a time. Edge (threads).

A place that takes its time to answer would otherwise leave the line empty between two packs. How
many are under way is bounded, so memory is, too; who sends one more waits.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TYPE_CHECKING

from blocksnapd.errors import StoreFullError

if TYPE_CHECKING:
    from blocksnapd.store.objects import ObjectStore
    from blocksnapd.store.pack_writer import FinishedPack, PackWriter
    from blocksnapd.store.point_format import PackRef
    from blocksnapd.store.runs import Runs
    from blocksnapd.store.session_log import SessionLog

PACKS_IN_FLIGHT = 2  # beside the one that is filled


class PackSender:
    """Sends the packs of one session; all methods from one thread.

    ``refs`` tells of each pack by its number in the session, ``stored`` the bytes put so far.
    """

    def __init__(self, store: ObjectStore, log: SessionLog) -> None:
        self._store, self._log = store, log
        self._threads = ThreadPoolExecutor(PACKS_IN_FLIGHT, thread_name_prefix="pack")
        self._under_way: deque[Future[None]] = deque()
        self._guard = Lock()
        self._put: list[str] = []
        self._is_full = False
        self.refs: dict[int, PackRef] = {}
        self.stored = 0

    def packs(self) -> list[PackRef]:
        """Return all packs in the order of their numbers."""
        return [self.refs[number] for number in sorted(self.refs)]

    def send(self, number: int, pack: PackWriter, zeros: list[Runs]) -> None:
        """Finish ``pack`` and put it, behind the caller's back; wait while too many are under way.

        Raises:
            StoreFullError, StoreError: an earlier one could not be put.
        """
        while len(self._under_way) >= PACKS_IN_FLIGHT:
            wait(self._under_way, return_when=FIRST_COMPLETED)
            self.check()
        self._under_way.append(
            self._threads.submit(lambda: self._put_pack(number, pack, pack.finish(zeros)))
        )

    def send_now(self, number: int, pack: PackWriter, finished: FinishedPack) -> None:
        """Put a finished pack; raises as ``send``."""
        self._put_pack(number, pack, finished)

    def check(self) -> None:
        """Raise what went wrong so far, if anything did."""
        ended = [one for one in self._under_way if one.done()]
        for one in ended:
            self._under_way.remove(one)
            one.result()

    def wait(self) -> None:
        """Wait until all that was sent is durable; raises as ``send``."""
        while self._under_way:
            self._under_way.popleft().result()

    def close(self, *, cancel: bool) -> None:
        """Start nothing more; with ``cancel`` wait for what is under way, good or bad."""
        self._threads.shutdown(wait=cancel, cancel_futures=cancel)

    def leftovers(self) -> list[str]:
        """Return the packs put that no later session will go on from.

        Where the place is full that is all of them: the room may be needed for something else.
        """
        if not self._is_full:
            return self._put
        names = [*self._put, *self._log.names]
        self._log.remove()
        return names

    def _put_pack(self, number: int, pack: PackWriter, finished: FinishedPack) -> None:
        with self._guard:
            self._put.append(finished.ref.name)
        try:
            size = self._store.put(finished.ref.name, finished.parts)
        except StoreFullError:
            self._is_full = True
            raise
        with self._guard:
            self.stored += size
            self.refs[number] = finished.ref
        if self._log.note(finished.ref, *pack.content()):
            with self._guard:
                self._put.remove(finished.ref.name)
