"""A lock held at a receiver: a request whose body goes on until it is released. Edge: threads.

The receiver frees the lock when the body or the connection ends, or when no beat came for a while.
A connection that broke is made anew by the thread that beats; if somebody else got the lock
meanwhile, it is lost for good, and what is put under it is refused here.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.store.receiver_link import LinkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocksnapd.store.receiver_link import Link, Links

log = logging.getLogger(__name__)

RELEASE_S_MAX = 10.0


class Lease:
    """A held lock. ``release`` may come from any thread, and waits for nobody.

    Args:
        links: connections to the receiver; one is taken for as long as the lock is held.
        take: asks for the lock on one of them; returns whether it keeps out everybody, not only
            who comes through the same receiver; raises what the receiver answers.
        beat_s: how often to say that this process lives.
    """

    def __init__(self, links: Links, take: Callable[[Link], bool], *, beat_s: float) -> None:
        self._links, self._take, self._beat_s = links, take, beat_s
        self._released = threading.Event()
        self.lost: BlocksnapError | None = None
        self.is_everywhere = False
        self._held: ExitStack | None = None
        self._link: Link | None = None
        self._acquire()
        self._thread = threading.Thread(target=self._beat, name="receiver-lease", daemon=True)
        self._thread.start()

    @property
    def is_released(self) -> bool:
        """Whether it was let go."""
        return self._released.is_set()

    def release(self) -> None:
        """Let go; a second call does nothing.

        The thread that beats tells the receiver. Should it not come to that, because this process
        ends, the connection ends as well.
        """
        self._released.set()

    def wait_until_over(self) -> None:
        """Wait until the receiver has heard of the release, but not for ever."""
        self._thread.join(RELEASE_S_MAX)

    def _let_go(self) -> None:
        if self._held is None or self._link is None:
            return
        try:
            with self._held:
                self._link.end()
                for _ in self._link.content():
                    pass
        except LinkError as error:
            log.info("the receiver frees a lock by itself: %s", error)

    def _acquire(self) -> None:
        with ExitStack() as stack:
            link = stack.enter_context(self._links.borrowed())
            self.is_everywhere = self._take(link)
            self._link, self._held = link, stack.pop_all()

    def _beat(self) -> None:
        while not self._released.wait(self._beat_s):
            if self._held is None:
                self._try_again()
                continue
            assert self._link is not None
            try:
                self._link.body([b"\n"])
                is_over = self._link.is_over()
            except LinkError:
                is_over = True
            if is_over:
                self._link.close()
                self._held = None
                self._try_again()
        self._let_go()

    def _try_again(self) -> None:
        if self.lost is not None:
            return
        try:
            self._acquire()
        except LinkError as error:
            log.info("the lock at the receiver cannot be taken again yet: %s", error)
        except BlocksnapError as error:
            self.lost = error
            log.warning("the lock at the receiver is lost: %s", error.message)
