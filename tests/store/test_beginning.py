"""The lock and the first look of a session."""

from __future__ import annotations

import pytest

from blocksnapd.errors import BusyError, ObjectExistsError, StoreMissingError
from blocksnapd.store.beginning import check_base, locked, points_of
from blocksnapd.store.names import REPOSITORY_NAME, point_name
from blocksnapd.store.repo_file import SIZE_MAX
from tests.receive.running import Running
from tests.store.support import VOLUME, Lab, point_id


@pytest.fixture(params=["memory", "receiver"])
def lab(request, tmp_path):
    if request.param == "memory":
        yield Lab()
        return
    with Running(tmp_path) as receiver:
        (receiver.root / "db01").mkdir()
        yield Lab(store=receiver.store("maintainer"))


def test_the_lock_is_held_and_the_place_as_it_is(lab):
    lab.store.put(f"v/{VOLUME}/p/no-point", [b""])
    lab.store.put(point_name(VOLUME, 1, point_id(1)), [b"sealed"])
    lock, shown = locked(lab.store, lab.keys.source, VOLUME)
    assert points_of(shown, VOLUME) == [point_name(VOLUME, 1, point_id(1))]
    with pytest.raises(BusyError):
        locked(lab.store, lab.keys.source, VOLUME)
    lock.release()
    locked(lab.store, lab.keys.source, VOLUME)[0].release()


def test_no_lock_stays_when_the_repository_is_gone(lab):
    data = lab.store.get(REPOSITORY_NAME, size_max=SIZE_MAX)
    lab.store.delete(REPOSITORY_NAME)
    for _ in range(2):
        with pytest.raises(StoreMissingError, match="there is no repository"):
            locked(lab.store, lab.keys.source, VOLUME)
    lab.store.put(REPOSITORY_NAME, [data])
    locked(lab.store, lab.keys.source, VOLUME)[0].release()


def test_a_point_follows_the_newest_alone():
    lab = Lab()
    lab.write(range(9))
    lab.commit()
    head, names = lab.writer.newest(VOLUME), lab.writer.names(VOLUME)
    check_base(names, point_id(2), head)
    check_base([], point_id(1), None)
    with pytest.raises(ObjectExistsError, match=f"not the newest of volume {VOLUME}"):
        check_base([], point_id(2), head)
    with pytest.raises(ObjectExistsError):
        check_base([*names, point_name(VOLUME, 2, point_id(3))], point_id(2), head)
