"""Stop at every call that changes the disk, start again: a point is there whole, or not at all."""

from __future__ import annotations

import os
import shutil
import threading

import numpy as np
import pytest

from blocksnapd.errors import ObjectExistsError
from blocksnapd.runtime import durable
from blocksnapd.store import files
from blocksnapd.store.files import LocalStore
from tests.store.support import VOLUME, Lab, check_image, point_id

CHANGING = ("mkdir", "open", "writev", "fsync", "link", "unlink", "rename")


class Killed(BaseException):
    """The process ended here."""


class Dying:
    """The module ``os`` of a process that dies before its n-th change; a write dies half done."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.guard = threading.Lock()  # packs are put by several threads: one change at a time
        self.trace: list[tuple] = []

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in CHANGING:
            return real

        def call(*args, **kwargs):
            with self.guard:
                return change(*args, **kwargs)

        def change(*args, **kwargs):
            if self.limit is not None and len(self.trace) >= self.limit:
                if name == "writev" and len(self.trace) == self.limit:
                    whole = b"".join(args[1])
                    real(args[0], [whole[: len(whole) // 2]])
                self.trace.append(("dead",))
                raise Killed
            self.trace.append((name, *args))
            try:
                result = real(*args, **kwargs)
            except OSError as error:  # of two who make one folder at once: nothing was changed
                self.trace[-1] = ("failed", error)
                raise
            self.trace[-1] = (name, *args, result)
            return result

        return call


@pytest.fixture
def base(tmp_path, monkeypatch) -> Lab:
    """Two points in a directory; packs so small that a third needs several."""
    monkeypatch.setattr("blocksnapd.store.pack_writer.BATCH_SIZE", 65536)
    monkeypatch.setattr("blocksnapd.store.pack_writer.PACK_SIZE_TARGET", 60_000)
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 40_000)
    (tmp_path / "base").mkdir()
    lab = Lab(store=LocalStore(str(tmp_path / "base")), blocks=60)
    lab.write(range(5, 50), noise=True)
    lab.commit()
    lab.commit(lab.write([1, 2, 3]))
    return lab


def on_copy(lab: Lab, root) -> Lab:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(lab.store.url, root)
    copy = Lab(store=LocalStore(str(root)), keys=lab.keys, blocks=60)
    copy.image[:] = lab.image
    copy.kept = list(lab.kept)
    return copy


def attempt(lab: Lab, changed) -> bool:
    """Commit point 3 on a process that may die; return whether it lived."""
    sink = None
    try:
        sink = lab.sink(3)
        lab.feed(sink, changed)
        sink.commit(lab.facts("delta", 3))
    except Killed:
        if sink is not None:  # what the kernel does for a dead process
            sink._workers.shutdown(wait=True, cancel_futures=True)
            sink._sender.close(cancel=True)
            sink._lock.release()
        return False
    return True


def test_killed_before_every_change_of_the_disk(base, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    changed = np.union1d(base.write(range(10, 58), noise=True), base.zero([5, 6]))
    image, outcomes = base.bytes(), []
    for limit in range(1000):
        lab = on_copy(base, root)
        dying = Dying(limit)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "os", dying)
            patch.setattr(files, "os", dying)
            lived = attempt(lab, changed)
        lab = on_copy_again(lab, root)
        newest = lab.writer.newest(VOLUME)
        outcomes.append(newest.seq)
        for point, old in lab.kept:
            check_image(lab.reader, point, old)
        if newest.seq == 2:
            assert attempt(lab, changed)  # the same point again: nothing is in its way
        else:
            with pytest.raises(ObjectExistsError):
                lab.sink(3)
        point = lab.reader.points(VOLUME)[-1]
        assert point.facts.point_id == point_id(3)
        check_image(lab.reader, point, image)
        assert lab.reader.verify(point).is_whole
        assert os.listdir(root / "v" / VOLUME / ".tmp") == []
        if lived:
            break
    assert lived
    assert outcomes == sorted(outcomes)  # once the point is there it stays
    assert outcomes.count(2) > 20
    assert outcomes.count(3) >= 2  # between the link and the end there are steps, too


def on_copy_again(lab: Lab, root) -> Lab:
    """Open the directory as the next process does."""
    again = Lab(store=LocalStore(str(root)), keys=lab.keys, blocks=60)
    again.image[:] = lab.image
    again.kept = list(lab.kept)
    return again


def test_everything_is_durable_before_the_point_has_its_name(base, monkeypatch):
    """What a power cut needs: content, name and directory of each pack, then the point."""
    dying = Dying(None)
    changed = base.write(range(10, 58), noise=True)
    root = base.store.url
    shutil.rmtree(os.path.join(root, "v", VOLUME, "d"))  # its folders are made anew
    monkeypatch.setattr(durable, "os", dying)
    monkeypatch.setattr(files, "os", dying)
    assert attempt(base, changed)
    monkeypatch.undo()
    opened: dict[int, str] = {}
    written, dirty, unsynced = set(), set(), set()
    committed = False
    for name, *args, result in dying.trace:
        if name == "open":
            opened[result] = args[0]
        elif name == "writev":
            dirty.add(opened[args[0]])
            written.add(opened[args[0]])
        elif name == "fsync":
            path = opened[args[0]]
            dirty.discard(path)
            unsynced = {p for p in unsynced if os.path.dirname(p) != path}
        elif name == "mkdir":
            unsynced.add(args[0])
        elif name == "link":
            assert args[0] in written, f"{args[1]} was written in a way that is not looked at here"
            assert args[0] not in dirty, f"{args[1]} was named before its content was on disk"
            if args[1].endswith(".pt"):
                names = {p for p in unsynced if not os.path.basename(p).startswith(".")}
                assert not names, "the point was named before what it names was on disk"
                committed = True
            unsynced.add(args[1])
    assert committed
    assert not dirty
    assert unsynced == set()
    assert len([a for n, *a, _ in dying.trace if n == "link"]) >= 3
    made = {args[0] for name, *args in dying.trace if name == "mkdir"}
    packs = os.path.join(root, "v", VOLUME, "d")
    assert {packs, *(entry.path for entry in os.scandir(packs))} <= made


def test_recovery_twice_is_recovery_once(base, tmp_path, monkeypatch):
    """What a dead writer left is never taken for a point, however often one looks."""
    changed = base.write(range(10, 58), noise=True)
    dying = Dying(25)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", dying)
        patch.setattr(files, "os", dying)
        assert not attempt(base, changed)
    root = base.store.url
    for _ in range(2):
        lab = on_copy_again(base, root)
        assert lab.writer.newest(VOLUME).seq == 2
        lab.sink(3).abort()
        assert len(lab.reader.points(VOLUME)) == 2
        assert [check.problem for check in lab.reader.history(VOLUME)] == ["", ""]
