"""Where repositories are kept: from a URL to its ObjectStore. Edge.

Every way to a repository begins here; a new kind of place is one line in ``open_store``. What is
reached over a network is always steadied; a directory only where its bandwidth is limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.model import NO_ACCESS
from blocksnapd.receiver_url import is_receiver
from blocksnapd.s3_url import is_s3
from blocksnapd.store.files import LocalStore, is_local, local_path
from blocksnapd.store.receiver import open_receiver
from blocksnapd.store.s3 import S3Store
from blocksnapd.store.s3_upkeep import upkeep
from blocksnapd.store.steady import SteadyStore, line_to
from blocksnapd.store.steady_receiver import SteadyReceiver

if TYPE_CHECKING:
    from blocksnapd.model import Access
    from blocksnapd.store.objects import ObjectStore


def open_store(url: str, access: Access = NO_ACCESS) -> ObjectStore:
    """Open the place that ``url`` names.

    Raises:
        UsageError: it is of a kind that this version cannot open.
        StoreMissingError: nothing is there. StoreError: it cannot be reached.
        KeyMissingError: what opens it is not at hand.
    """
    if is_s3(url):
        return SteadyStore(S3Store(url, access), line_to(url, access.traffic))
    if is_receiver(url):
        return SteadyReceiver(open_receiver(url, access), line_to(url, access.traffic))
    store = LocalStore(local_path(url))
    return SteadyStore(store, line_to(url, access.traffic)) if access.traffic.limits else store


def own_directories(url: str) -> tuple[str, ...]:
    """Return the directories of this host that the repository fills: nothing else may write there.

    Raises:
        UsageError: ``url`` is of a kind that this version cannot open.
    """
    return (local_path(url),) if is_local(url) else ()


def clock_offset_s(url: str, access: Access = NO_ACCESS) -> float | None:
    """Return how far the clock of the place is ahead of this host's; None: it has not told yet."""
    return open_receiver(url, access).clock_offset_s if is_receiver(url) else None


def upkeep_of(url: str, access: Access = NO_ACCESS) -> tuple[str, ...]:
    """Do what the place itself needs now and then; return what was done, as sentences.

    Raises:
        BlocksnapError: it could not be done now.
    """
    return upkeep(S3Store(url, access)) if is_s3(url) else ()
