"""A cache by size: what was used last stays, within the limit; nothing is made twice in vain."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from blocksnapd.store.sized_cache import SizedCache


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 30))
def test_it_holds_the_last_used_that_fit(keys, size_max):
    """Value ``k`` has ``k`` bytes; the model is a list, last used last."""
    cache: SizedCache[int] = SizedCache(size_max, lambda value: value)
    model: list[int] = []
    for key in keys:
        made: list[int] = []
        assert cache.get(key, lambda key=key, made=made: made.append(key) or key) == key
        assert bool(made) == (key not in model)
        model = [k for k in model if k != key] + [key]
        if made:
            while sum(model) > size_max and len(model) > 1:
                model.pop(0)
        assert len(cache) == len(model)
        assert cache.size == sum(model)
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


def test_what_cannot_be_made_is_not_kept():
    cache: SizedCache[int] = SizedCache(10, lambda value: value)
    calls = []

    def fail() -> int:
        calls.append(1)
        raise ValueError

    for _ in range(2):
        try:
            cache.get("a", fail)
        except ValueError:
            continue
    assert len(calls) == 2
    assert len(cache) == 0


def test_what_several_want_at_once_is_made_once():
    """They wait for the first; where it fails, the next one tries."""
    cache: SizedCache[int] = SizedCache(10, lambda value: value)
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def make() -> int:
        calls.append(1)
        begun.set()
        assert go_on.wait(10)
        if len(calls) == 1:
            raise ValueError
        return 7

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(cache.get, "a", make)
        assert begun.wait(10)
        others = [threads.submit(cache.get, "a", make) for _ in range(3)]
        assert cache.get("b", lambda: 2) == 2  # nobody else is held up
        go_on.set()
        assert isinstance(first.exception(10), ValueError)
        assert [other.result(10) for other in others] == [7] * 3
    assert len(calls) == 2
