"""Whoever reads what a command prints, and may have seen enough: ``volumes | head``. Edge."""

from __future__ import annotations

import os
import select
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ends_unread(exit_code: int) -> Iterator[None]:
    """End the program quietly with ``exit_code`` once nobody reads its standard output.

    Raises:
        SystemExit: so it is. BrokenPipeError: it was another pipe.
    """
    try:
        try:
            yield
        except SystemExit:  # so a command ends that printed its help
            _write_out()
            raise
        _write_out()
    except BrokenPipeError:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        if not watched.poll(0):
            raise
        # Python writes out once more at its exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(exit_code) from None


def _write_out() -> None:
    print(end="", flush=True)  # also where there is no standard output at all
