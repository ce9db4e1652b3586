"""Calls that do not depend on each other, made at once: one round trip instead of several. Edge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def together(*calls: Callable[[], None]) -> None:
    """Make all ``calls`` at once and wait for each; of their errors the first one's is raised."""
    with ThreadPoolExecutor(len(calls), thread_name_prefix="together") as threads:
        for call in [threads.submit(call) for call in calls]:
            call.result()
