"""A place that looks by itself shows what the same questions, asked one by one, would show."""

from __future__ import annotations

import pytest

from blocksnapd.store.files import LocalStore
from blocksnapd.store.looks import Glance, glance
from blocksnapd.store.names import REPOSITORY_NAME, condemned_name, point_name, record_name
from blocksnapd.store.repo_file import SIZE_MAX
from tests.fakes.memory_objects import MemoryObjects
from tests.receive.running import Running
from tests.store.support import VOLUME, make_repository, point_id

PREFIXES = [f"v/{VOLUME}/p/", f"g/{VOLUME}/", f"t/{VOLUME}/"]


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        (running.root / "db01").mkdir()
        local = LocalStore(str(running.root / "db01"))
        make_repository(local)
        for seq in (1, 2, 3):
            local.put(point_name(VOLUME, seq, point_id(seq)), [b"sealed"])
        local.put(condemned_name(VOLUME, 4), [b"listed"])
        for at, kind in enumerate(("ok", "bad")):
            local.put(record_name(VOLUME, "202601", at, "0" * 8, kind), [b"told"])
        yield running


@pytest.mark.parametrize("role", ["source", "reader"])
def test_it_shows_what_single_questions_show(receiver, role):
    store = receiver.store(role)
    shown = glance(store, VOLUME)
    said = len(receiver.heard)
    found = [shown.list_names(prefix) for prefix in PREFIXES]
    data = shown.get(REPOSITORY_NAME, size_max=SIZE_MAX)
    shown.settle(PREFIXES[0])
    assert [verb for _, verb, _, _ in receiver.heard] == ["look"] * said
    assert found == [store.list_names(prefix) for prefix in PREFIXES]
    assert data == store.get(REPOSITORY_NAME, size_max=SIZE_MAX)
    points, _, records = found
    assert [len(points), len(records)] == ([2, 1] if role == "source" else [3, 2])


def test_it_stays_what_it_was_and_all_else_is_asked(receiver):
    local = LocalStore(str(receiver.root / "db01"))
    shown = glance(receiver.store("maintainer"), VOLUME)
    name = point_name(VOLUME, 4, point_id(4))
    local.put(name, [b"later"])
    assert name not in shown.list_names(PREFIXES[0])
    assert shown.get(name, size_max=9) == b"later"
    assert (shown.exists(name), shown.size(name), shown.get_range(name, 1, 2)) == (True, 5, b"at")
    assert shown.age(name) < 3600
    assert name in shown.list_names(f"v/{VOLUME}/")
    assert shown.children("v/") == [VOLUME]
    assert shown.free_size() > 0
    assert shown.put("v/b/p/x", [b"x"]) == 1
    shown.settle("v/b/p/")
    shown.delete("v/b/p/x")
    assert not shown.exists("v/b/p/x")
    shown.lock("v/b/").release()


def test_without_a_repository_there_is_none_to_show(receiver):
    (receiver.root / "db01" / REPOSITORY_NAME).unlink()
    assert receiver.store("source").look(VOLUME).repository is None


def test_a_place_that_cannot_look_is_asked_itself(receiver):
    plain = MemoryObjects()
    assert glance(plain, VOLUME) is plain
    assert isinstance(glance(receiver.store("source"), VOLUME), Glance)
