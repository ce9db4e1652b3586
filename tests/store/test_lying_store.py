"""A place that answers with what was never asked of it: whole, genuine, and not the truth.

Every object it gives is one that a key of the repository made, so no checksum speaks against it.
Bytes that are flipped, cut, exchanged or replayed under another name are in ``test_damage.py`` and
``test_verify.py``; lists that lose a manifest or a point in ``test_manifests.py`` and
``test_listing.py``; collections in ``test_epoch_watch.py``; promises not kept in ``sim/liar.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from blocksnapd.errors import BlocksnapError, NotFoundError, StoreError
from blocksnapd.maintain.prune import Pruner
from blocksnapd.maintain.retention import Policy
from blocksnapd.maintain.verify_levels import VolumeVerifier
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.names import manifests_prefix, packs_prefix, points_prefix
from blocksnapd.store.repository import Repository
from tests.fakes.memory_objects import MemoryObjects
from tests.maintain.merged_lab import MergedLab
from tests.store.support import VOLUME, check_image

if TYPE_CHECKING:
    from collections.abc import Callable


class Liar(MemoryObjects):
    """Objects in memory; ``hidden`` are denied, ``listed`` makes lists what it likes.

    ``told`` gives the bytes of an object to whoever reads it: the name, the truth → what is said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()
        self.listed: Callable[[list[str]], list[str]] = lambda names: names
        self.told: Callable[[str, bytes], bytes] = lambda _, data: data

    def list_names(self, prefix: str) -> list[str]:
        names = [name for name in super().list_names(prefix) if name not in self.hidden]
        return self.listed(names)

    def exists(self, name: str) -> bool:
        return name not in self.hidden and super().exists(name)

    def _find(self, name: str) -> bytes:
        data = super()._find("hidden" if name in self.hidden else name)
        return self.told(name, data)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> MergedLab:
    """Five points with packs, the first three of them in a manifest, and a second manifest."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab = MergedLab(store=Liar())
    lab.write(range(40), noise=True)
    lab.commit()
    for at in (3, 9):
        lab.commit(lab.write(range(at, at + 5), noise=True))
    lab.maintain()
    for at in (11, 20):
        lab.commit(lab.write(range(at, at + 5), noise=True))
    return lab


def problems(lab: MergedLab) -> list[str]:
    """Return what a verification of the whole volume says."""
    verifier = VolumeVerifier(lab.store, lab.key, VOLUME)
    found = verifier.structure()
    verifier.data(found, list(found.packs))
    return found.told()


def pruner(lab: MergedLab) -> Pruner:
    return Pruner(lab.store, lab.key, lambda: 1.8e9)


def test_what_is_true_is_found_true(lab):
    assert problems(lab) == []
    lab.check_all()


@pytest.mark.parametrize("prefix", [points_prefix(VOLUME), packs_prefix(VOLUME)])
def test_two_objects_exchanged_for_readers_only(lab, prefix):
    """What lies there is right; whoever reads one is given the other."""
    one, other = lab.store.list_names(prefix)[:2]
    swap = {one: other, other: one}
    objects = lab.store.objects
    lab.store.told = lambda name, data: objects[swap[name]] if name in swap else data
    said = problems(lab)
    for name in swap:
        assert any(text.startswith(f"{name}: ") for text in said), (name, said)
    with pytest.raises(BlocksnapError):
        check_image(lab.reader, *lab.kept[0])
    point, image = lab.kept[-1]
    report = lab.reader.verify(point)
    if report.is_whole:  # merged layers lead around what was exchanged
        check_image(lab.reader, point, image)
    else:
        assert any(name in text for name in swap for text in report.problems)


ORDERS = {
    "reversed": lambda names: names[::-1],
    "rotated": lambda names: names[2:] + names[:2],
    "doubled": lambda names: [name for name in names for _ in range(2)],
}


@pytest.mark.parametrize("how", ORDERS)
def test_lists_in_another_order(lab, how):
    """An older point may pass for the newest; nothing can be put after it, and history names it."""
    before = set(lab.store.objects)
    lab.store.listed = ORDERS[how]
    with pytest.raises(BlocksnapError, match=r"two newest points|already has place"):
        lab.commit(lab.write([1], noise=True))
    assert set(lab.store.objects) == before
    assert any(check.problem for check in lab.reader.history(VOLUME))
    lab.check_all()


def test_the_newest_point_is_hidden(lab):
    """``newest`` tells which one it goes on from; a second point in that place is named as such."""
    newest = lab.kept[-1][0]
    lab.store.hidden = {newest.name}
    head = lab.writer.newest(VOLUME)
    assert head is not None
    assert head.name == lab.kept[-2][0].name
    with pytest.raises(NotFoundError, match="there is no point"):
        lab.reader.load_point(newest.name)
    with pytest.raises(BlocksnapError):
        lab.reader.open_image(newest)
    lab.commit(lab.write([1], noise=True), number=77)
    lab.store.hidden = set()
    with pytest.raises(BlocksnapError, match="two newest points"):
        lab.writer.newest(VOLUME)
    assert any("a second point of this number" in c.problem for c in lab.reader.history(VOLUME))


def test_a_point_is_hidden_that_others_follow(lab):
    name = lab.kept[-2][0].name
    lab.store.hidden = {name}
    assert any(name in text for text in problems(lab))
    assert name in pruner(lab).look(VOLUME).missing
    plan = pruner(lab).plan(VOLUME, Policy(rules=(), min_points=1))
    assert "missing" in {guard.name for guard in plan.guards}


def test_an_older_manifest_is_shown(lab):
    """Nothing is undone by it: what follows is a name that is taken, or a point it would forget."""
    loaded, points = lab.look()
    lab.manifests.publish(loaded, replace(loaded.manifest, points=points), time_us=9)
    names = lab.store.list_names(manifests_prefix(VOLUME))
    assert len(names) == 2
    lab.store.listed = lambda found: [name for name in found if name != names[-1]]
    with pytest.raises(StoreError, match="the listing of manifests left out"):
        lab.manifests.newest(VOLUME)
    lab.store.listed = lambda found: found
    lab.store.hidden = {names[-1]}  # denied in every way: nothing here can know
    older = lab.manifests.newest(VOLUME)
    assert older.generation == 1
    with pytest.raises(BlocksnapError):
        lab.manifests.publish(older, replace(older.manifest, points=points[:1]), time_us=10)
    lab.check_all()  # whatever it says, points give what they held
    lab.store.hidden = set()
    objects = lab.store.objects
    lab.store.told = lambda name, data: objects[names[0]] if name == names[-1] else data
    with pytest.raises(BlocksnapError):
        lab.manifests.newest(VOLUME)
    assert any(text.startswith(f"{names[-1]}: ") for text in problems(lab))


def test_the_whole_repository_of_an_earlier_day(lab):
    """All of it fits together. Only who remembers a newer point can tell: ``newest`` says which."""
    remembered = lab.kept[-1][0]
    lab.store.hidden = {point.name for point, _ in lab.kept[3:]}
    head = lab.writer.newest(VOLUME)
    assert head is not None
    assert (head.seq, remembered.seq) == (3, 5)
    assert problems(lab) == []
    with pytest.raises(BlocksnapError, match="is not the newest"):
        lab.sink(9, base=remembered.head)


def test_two_readers_are_told_different_things(lab):
    """One who was shown another newest point: the next point of the other does not follow it."""
    source = Repository.on(lab.store, source=lab.keys.source)
    hidden = lab.kept[-1][0].name
    lab.store.hidden = {hidden}
    theirs = source.newest(VOLUME)
    lab.store.hidden = set()
    mine = lab.writer.newest(VOLUME)
    assert theirs is not None
    assert mine is not None
    assert (theirs.seq, mine.seq) == (4, 5)
    with pytest.raises(BlocksnapError, match="already has place 5"):
        lab.sink(9, base=theirs)
    # An image is opened by what its point is, not by what the place calls it.
    forged = lab.store.objects[lab.kept[-2][0].name]
    lab.store.told = lambda name, data: forged if name == hidden else data
    with pytest.raises(BlocksnapError):
        lab.reader.open_image(lab.kept[-1][0])


@pytest.mark.parametrize("keep", [0, 1, 400, -1])
def test_a_read_that_ends_early(lab, keep):
    """Sizes are told as they are; the bytes that come are fewer."""
    for prefix in (points_prefix(VOLUME), packs_prefix(VOLUME), manifests_prefix(VOLUME)):
        name = lab.store.list_names(prefix)[-1]
        lab.store.told = lambda n, data, cut=name: data[:keep] if n == cut else data
        assert any(text.startswith(f"{name}: ") for text in problems(lab)), name
        lab.store.told = lambda _, data: data
    assert Manifests(lab.store, lab.key).newest(VOLUME).generation == 1
