"""The commit at a receiver, which looks around by itself, and where its word is not enough."""

from __future__ import annotations

import pytest

from blocksnapd.errors import CondemnedError, ObjectExistsError
from blocksnapd.store.collection_format import Condemned
from blocksnapd.store.collection_lists import CollectionLists
from blocksnapd.store.commit import Commit
from blocksnapd.store.files import LocalStore
from blocksnapd.store.names import point_name
from blocksnapd.store.steady import Line
from blocksnapd.store.steady_receiver import SteadyReceiver
from tests.receive.running import Running
from tests.store.support import VOLUME, Lab, make_repository, point_id

NAME = point_name(VOLUME, 2, point_id(2))


@pytest.fixture
def receiver(tmp_path):
    with Running(tmp_path) as running:
        yield running


@pytest.fixture
def lab(receiver) -> Lab:
    (receiver.root / "db01").mkdir()
    keys = make_repository(LocalStore(str(receiver.root / "db01")))
    lab = Lab(store=SteadyReceiver(receiver.store("source"), Line()), keys=keys, blocks=3000)
    lab.write(range(10, 60))
    lab.commit()
    return lab


def verbs(receiver) -> list[str]:
    """Return what was asked since the last time, without what locks do."""
    found = [verb for _, verb, _, _ in receiver.heard if verb != "locks"]
    receiver.heard.clear()
    return found


def condemn(receiver, lab: Lab, epoch: int, *packs: str) -> None:
    """Publish a list as the maintenance of the receiver does."""
    source = lab.keys.source
    record = Condemned(source.repository_id, VOLUME, epoch, 0, 0, 1, packs=packs)
    CollectionLists(LocalStore(str(receiver.root / "db01")), source, VOLUME).put(record)


def names_there(receiver) -> list[str]:
    return LocalStore(str(receiver.root / "db01")).list_names(f"v/{VOLUME}/p/")


def fed(lab: Lab):
    """Return a sink with a change too large to go into the point."""
    changed = lab.write(range(400), noise=True)
    sink = lab.sink(2)
    lab.feed(sink, changed)
    sink.finish(lab.facts("delta", 2))
    return sink


def test_the_point_is_all_that_is_asked(receiver, lab):
    sink = fed(lab)
    verbs(receiver)
    sink.commit(lab.facts("delta", 2))
    assert verbs(receiver) == ["put"]
    assert NAME in names_there(receiver)


def test_a_list_that_came_meanwhile_and_means_others_is_read(receiver, lab):
    sink = fed(lab)
    condemn(receiver, lab, 1, f"v/{VOLUME}/d/20260101/{point_id(9)}-0000-00000000.pk")
    verbs(receiver)
    sink.commit(lab.facts("delta", 2))
    said = verbs(receiver)
    assert said.count("put") == 2  # the first was refused
    assert said.index("put") < said.index("get")  # the list
    assert NAME in names_there(receiver)


def test_a_list_that_came_meanwhile_and_means_this_point_stops_it(receiver, lab):
    sink = fed(lab)
    condemn(receiver, lab, 1, *(ref.name for ref in sink._sender.packs()))
    with pytest.raises(CondemnedError, match="was not committed"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()
    assert NAME not in names_there(receiver)


@pytest.mark.parametrize("means_it", [True, False])
def test_a_list_that_comes_right_after_the_point_is_seen(receiver, lab, monkeypatch, means_it):
    """Between the receiver's two looks."""
    sink = fed(lab)
    own = [ref.name for ref in sink._sender.packs()] if means_it else []
    place = receiver.places.all()[0]
    seen_after = place.seen_after

    def later(name):
        condemn(receiver, lab, 1, *own)
        return seen_after(name)

    monkeypatch.setattr(place, "seen_after", later)
    if means_it:
        with pytest.raises(CondemnedError, match="is not relied on"):
            sink.commit(lab.facts("delta", 2))
        sink.abort()
    else:
        sink.commit(lab.facts("delta", 2))
    assert NAME in names_there(receiver)


def test_a_point_that_is_not_alone_is_looked_after(receiver, lab, monkeypatch):
    """As when somebody copies one in by hand in that very moment."""
    sink = fed(lab)
    place, other = receiver.places.all()[0], point_name(VOLUME, 2, point_id(7))
    seen_after = place.seen_after

    def later(name):
        LocalStore(str(receiver.root / "db01")).put(other, [b"rival"])
        return seen_after(name)

    monkeypatch.setattr(place, "seen_after", later)
    with pytest.raises(ObjectExistsError, match="beside another point"):
        sink.commit(lab.facts("delta", 2))
    sink.abort()


def test_a_session_that_is_too_old_asks_no_receiver(receiver, lab):
    sink = fed(lab)
    sink._watch.began -= 8 * 86400
    verbs(receiver)
    with pytest.raises(CondemnedError, match="longer than 7 days"):
        sink.commit(lab.facts("delta", 2))
    assert "put" not in verbs(receiver)
    sink.abort()


def test_a_lost_answer_is_found_out_and_looked_after(receiver, lab):
    sink = fed(lab)
    links = lab.store._receiver._links
    for link in links._idle:
        link._stream.close()  # the first try meets a line that is dead, the second a new one
    sink.commit(lab.facts("delta", 2))
    assert NAME in names_there(receiver)


def test_a_place_that_does_not_look_is_looked_at_by_the_writer():
    lab = Lab(blocks=400)
    lab.write(range(10, 60))
    lab.commit()
    sink = lab.sink(2)
    rival = point_name(VOLUME, 2, point_id(5))
    lab.store.put(rival, [b"first"])
    commit = Commit(lab.store, sink._watch, NAME, set())
    with pytest.raises(ObjectExistsError):
        commit.put(b"point")
    assert not lab.store.exists(NAME)
    sink.abort()
