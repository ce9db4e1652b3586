"""Who shares what, and when it is closed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from blocksnapd.errors import BusyError, ChecksumError, NotFoundError
from blocksnapd.export import exports as module
from blocksnapd.export.exports import Exports
from tests.export.serving import Shelf
from tests.restore.memory_image import MemoryImage

IMAGE = MemoryImage(b"content" * 1000)


def shelf(*names: str) -> Shelf:
    return Shelf(dict.fromkeys(names or ("a", "b"), IMAGE))


async def opened(exports: Exports, name: str, group: object = 1):
    return await exports.open(await exports.resolve(name, group), group)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for ends in a thread
            await asyncio.sleep(0.002)


async def test_an_image_is_opened_once_for_all_and_closed_after_the_last():
    found = shelf()
    exports = Exports(found, idle_s=0.0)
    leases = await asyncio.gather(*(opened(exports, "a", group) for group in range(5)))
    assert found.opened == ["a"]
    assert len({id(lease.disk) for lease in leases}) == 1
    for lease in leases[1:]:
        exports.give_back(lease)
    await asyncio.sleep(0.02)
    assert found.closed == []
    exports.give_back(leases[0])
    await until(lambda: found.closed == ["a"])
    assert exports.open_count == 0
    exports.give_back(await opened(exports, "a"))
    assert found.opened == ["a", "a"]
    await exports.stop()


async def test_who_comes_back_soon_finds_it_open():
    found = shelf()
    exports = Exports(found, idle_s=60.0)
    for _ in range(3):
        exports.give_back(await opened(exports, "a"))
    assert (found.opened, found.closed) == (["a"], [])
    await exports.stop()
    assert found.closed == ["a"]


async def test_a_name_keeps_its_meaning_for_a_group_while_it_lives():
    found = shelf("old", "new")
    found.aliases["latest"] = "old"
    exports = Exports(found)
    exports.join(1)
    assert (await exports.resolve("latest", 1)).name == "old"
    found.aliases["latest"] = "new"
    exports.join(2)
    exports.join(1)
    exports.leave(1)
    assert (await exports.resolve("latest", 1)).name == "old"
    assert (await exports.resolve("latest", 2)).name == "new"
    exports.leave(1)
    exports.join(1)
    assert (await exports.resolve("latest", 1)).name == "new"


async def test_a_client_cannot_make_it_remember_without_end(monkeypatch):
    monkeypatch.setattr(module, "OPEN_MAX", 3)
    exports = Exports(shelf(*map(str, range(10))))
    exports.join(1)
    for name in range(10):
        await exports.resolve(str(name), 1)
    assert len(exports._meant) == 3


async def test_a_failed_opening_is_told_to_all_and_tried_again():
    found, go_on = shelf(), threading.Event()
    right, calls = found._open, []

    def fail(name):
        calls.append(name)
        go_on.wait(5)
        raise ChecksumError("it is damaged")

    found._open = fail
    exports = Exports(found)
    waiting = [asyncio.create_task(opened(exports, "a", group)) for group in range(3)]
    await until(lambda: calls)
    go_on.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(r) for r in results] == [ChecksumError] * 3
    assert calls == ["a"]
    found._open = right
    exports.give_back(await opened(exports, "a"))
    await exports.stop()
    assert (found.opened, found.closed) == (["a"], ["a"])


async def test_one_who_leaves_while_it_opens_leaves_it_to_the_others():
    found, go_on = shelf(), threading.Event()
    right = found._open

    def slow(name):
        go_on.wait(5)
        return right(name)

    found._open = slow
    exports = Exports(found, idle_s=0.0)
    first = asyncio.create_task(opened(exports, "a"))
    second = asyncio.create_task(opened(exports, "a", 2))
    third = asyncio.create_task(opened(exports, "b", 3))
    await asyncio.sleep(0.01)
    first.cancel()
    third.cancel()
    go_on.set()
    lease = await second
    await until(lambda: found.closed == ["b"])  # nobody was left to want that one
    exports.give_back(lease)
    await until(lambda: found.closed == ["b", "a"])


async def test_only_so_many_are_open_and_unused_ones_go_first(monkeypatch):
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    found = shelf("a", "b", "c")
    exports = Exports(found)
    first = await opened(exports, "a")
    exports.give_back(await opened(exports, "b"))
    third = await opened(exports, "c")
    await until(lambda: found.closed == ["b"])
    with pytest.raises(BusyError):
        await opened(exports, "b")
    exports.give_back(first)
    exports.give_back(third)
    await exports.stop()
    assert sorted(found.closed) == ["a", "b", "c"]


async def test_each_group_writes_to_an_overlay_of_its_own(tmp_path):
    found = shelf()
    exports = Exports(found, overlays=str(tmp_path), idle_s=0.0)
    assert exports.is_writable
    one, again, other = [await opened(exports, "a", group) for group in (1, 1, 2)]
    one.disk.write(0, b"CHANGED")
    views = [bytearray(7) for _ in range(3)]
    for lease, view in zip((one, again, other), views, strict=True):
        lease.disk.read_into(0, memoryview(view))
    assert views == [b"CHANGED", b"CHANGED", b"content"]
    assert found.opened == ["a"]
    assert exports.open_count == 3
    for lease in (one, again, other):
        assert found.closed == []
        exports.give_back(lease)
    await until(lambda: found.closed == ["a"])
    fresh, view = await opened(exports, "a", 1), bytearray(7)
    fresh.disk.read_into(0, memoryview(view))
    assert view == b"content"
    exports.give_back(fresh)
    await exports.stop()
    assert exports.open_count == 0


async def test_an_overlay_that_cannot_be_made_gives_the_image_back(tmp_path):
    found = shelf()
    exports = Exports(found, overlays=str(tmp_path / "gone"), idle_s=0.0)
    for _ in range(2):
        with pytest.raises(Exception, match="no file for the overlay"):
            await opened(exports, "a")
    await until(lambda: exports.open_count == 0)
    await until(lambda: len(found.closed) == len(found.opened))


async def test_unknown_names_are_the_resolvers_to_tell():
    with pytest.raises(NotFoundError):
        await Exports(shelf()).resolve("none", 1)
    assert await Exports(shelf("a")).names() == [("a", "about a")]
