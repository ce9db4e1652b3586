"""Object storage whose administrator lies: objects swapped, replayed, cut behind the source's back.

The real SeaweedFS, written to with the administrator's key past all that our own code refuses. What
readers and the next cycle make of it is what ``test_lying_store.py`` shows of a place in memory.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from blocksnapd.errors import BlocksnapError
from blocksnapd.maintain.verify_levels import VolumeVerifier
from blocksnapd.store.names import manifests_prefix, packs_prefix, point_name, points_prefix
from tests.maintain.merged_lab import MergedLab
from tests.store.support import VOLUME, check_image, point_id

if TYPE_CHECKING:
    from tests.servers.seaweed import SeaweedFs

PREFIXES = [points_prefix(VOLUME), packs_prefix(VOLUME), manifests_prefix(VOLUME)]


class LyingLab(MergedLab):
    """A repository in a bucket whose administrator writes what he likes."""

    def names(self, prefix: str) -> list[str]:
        return self.store.list_names(prefix)

    def lie(self, name: str, data: bytes) -> None:
        """Put ``data`` over what is there."""
        self._admin.put_object(**self._at(name), Body=data)

    def hide(self, name: str) -> None:
        self._admin.delete_object(**self._at(name))

    def problems(self) -> list[str]:
        """Return what a verification of the whole volume says."""
        verifier = VolumeVerifier(self.store, self.key, VOLUME)
        found = verifier.structure()
        verifier.data(found, list(found.packs))
        return found.told()

    def is_named(self, name: str) -> bool:
        return any(text.startswith(f"{name}: ") for text in self.problems())

    @property
    def _admin(self) -> Any:
        return self.store.clients.admin

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.store.place.bucket, "Key": self.store.key(name)}


@pytest.fixture
def lab(seaweed: SeaweedFs, monkeypatch: pytest.MonkeyPatch) -> LyingLab:
    """Four points with packs, the first three of them in a manifest."""
    monkeypatch.setattr("blocksnapd.store.sink.INLINE_SIZE_MAX", 0)
    lab = LyingLab(store=seaweed.store())
    lab.write(range(40), noise=True)
    lab.commit()
    for at in (3, 9):
        lab.commit(lab.write(range(at, at + 5), noise=True))
    lab.maintain()
    lab.commit(lab.write(range(11, 16), noise=True))
    assert lab.problems() == []
    return lab


def read(lab: LyingLab, name: str) -> bytes:
    return lab.store.get(name, size_max=1 << 30)


def check_never_wrong(lab: LyingLab) -> None:
    """Every point gives what it held, or an error: never anything else."""
    lab.reopen()
    for point, image in lab.kept:
        with contextlib.suppress(BlocksnapError):
            check_image(lab.reader, point, image)


@pytest.mark.parametrize("prefix", PREFIXES[:2])
def test_two_objects_swapped(lab, prefix):
    one, other = lab.names(prefix)[-2:]
    data, more = read(lab, one), read(lab, other)
    lab.lie(one, more)
    lab.lie(other, data)
    assert lab.is_named(one)
    assert lab.is_named(other)
    check_never_wrong(lab)
    lab.lie(one, data)
    lab.lie(other, more)
    assert lab.problems() == []
    lab.check_all()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("keep", [0, 1, 300, -1])
def test_an_object_cut_short(lab, prefix, keep):
    name = lab.names(prefix)[-1]
    lab.lie(name, read(lab, name)[:keep])
    if prefix == manifests_prefix(VOLUME):  # what it tells is in the points as well
        with pytest.raises(BlocksnapError):
            lab.manifests.newest(VOLUME)
    else:
        assert lab.is_named(name)
    check_never_wrong(lab)


def test_an_older_point_replayed_as_the_newest(lab):
    """The source takes it for damaged, makes a full point after it, and names what it saw."""
    older, newest = lab.names(points_prefix(VOLUME))[-2:]
    lab.lie(newest, read(lab, older))
    lab.reopen()
    head = lab.writer.newest(VOLUME)
    assert head.is_damaged
    assert lab.is_named(newest)
    sink = lab.sink(5, base=head)
    lab.feed(sink, np.flatnonzero(lab.image.any(axis=1)))
    lab.kept[-1] = sink.commit(lab.facts("full", 5)), lab.bytes()
    check_image(lab.reader, *lab.kept[-1])
    check_never_wrong(lab)


def test_the_state_of_an_earlier_day_replayed(lab):
    """What was remembered is newer: nothing follows it, and what is put back is whole again."""
    newest, image = lab.kept[-1]
    data = read(lab, newest.name)
    lab.hide(newest.name)
    lab.reopen()
    assert lab.writer.newest(VOLUME).seq == newest.seq - 1
    with pytest.raises(BlocksnapError, match="is not the newest"):
        lab.sink(9, base=newest.head)
    with pytest.raises(BlocksnapError):
        lab.reader.open_image(newest)
    lab.lie(newest.name, data)
    check_image(lab.reader, newest, image)


def test_another_object_comes_between_two_looks_of_a_source(lab):
    """A rival point, put by the administrator while a session is on its way."""
    sink = lab.sink(5)
    lab.feed(sink, lab.write(range(5), noise=True))
    rival = point_name(VOLUME, 5, point_id(7))
    lab.lie(rival, read(lab, lab.kept[-1][0].name))
    with pytest.raises(BlocksnapError, match="already has place 5"):
        sink.commit(lab.facts("delta", 5))
    sink.abort()
    assert lab.names(points_prefix(VOLUME))[-1] == rival
    lab.hide(rival)
    lab.check_all()
