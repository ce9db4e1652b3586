"""Calls made at once."""

from __future__ import annotations

import threading

import pytest

from blocksnapd.errors import StoreError
from blocksnapd.store.together import together


def test_all_are_under_way_at_once():
    meeting = threading.Barrier(3, timeout=20)
    together(*[lambda: (meeting.wait(), None)[1]] * 3)


def test_the_first_error_counts_and_all_are_waited_for():
    done = []

    def fail(name):
        done.append(name)
        raise StoreError(name)

    with pytest.raises(StoreError, match="first"):
        together(lambda: fail("first"), lambda: fail("second"), lambda: done.append("third"))
    assert sorted(done) == ["first", "second", "third"]
