"""Golden repositories, one of every format ever released: still readable, every byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from blocksnapd.maintain.verify_levels import VolumeVerifier
from blocksnapd.store.files import LocalStore
from blocksnapd.store.keys import load_maintenance, load_restore
from blocksnapd.store.listing import entry_name, list_points
from blocksnapd.store.manifests import Manifests
from blocksnapd.store.point_reader import PointReader
from blocksnapd.store.repository import Repository
from tests.store import independent_maintenance, independent_reader

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(p.name for p in GOLDEN.glob("format-*"))
VOLUME = "vol-1"


def images_of(version):
    """Return the digest of each listed point's image, by the name of the point."""
    return json.loads((GOLDEN / version / "images.json").read_text(encoding="utf-8"))


def keys_of(version):
    return load_restore(str(GOLDEN / version / "keys/restore.key"), "golden")


def listed(version):
    store, keys = LocalStore(str(GOLDEN / version / "repo")), keys_of(version)
    loaded = Manifests(store, keys).newest(VOLUME)
    points = list_points(store, PointReader(store, keys.source, keys), loaded).points
    return loaded.manifest, [entry_name(VOLUME, entry) for entry in points]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_repository_is_readable(version):
    images = images_of(version)
    repository = Repository.open(str(GOLDEN / version / "repo"), restore_key=keys_of(version))
    assert repository.volumes() == [VOLUME]
    assert listed(version)[1] == sorted(images)
    for name, digest in images.items():
        image = repository.open_image(name)
        content = bytearray(image.size)
        image.read_into(0, memoryview(content))
        assert hashlib.sha256(content).hexdigest() == digest
        assert repository.verify(name).is_whole


@pytest.mark.parametrize("version", VERSIONS)
def test_the_independent_reader_restores_every_listed_point(version):
    root = GOLDEN / version / "repo"
    text = (GOLDEN / version / "keys/restore.key").read_text(encoding="utf-8")
    keys = independent_reader.Keys(text, "golden")
    for name, digest in images_of(version).items():
        image = independent_maintenance.restore(root, keys, name)
        assert hashlib.sha256(image).hexdigest() == digest


def test_the_formats_and_their_first_writers_are_among_them():
    assert {"format-1", "format-1-first"} <= set(VERSIONS)


def test_the_golden_repository_has_something_of_everything():
    """What is not in it is not proven to stay readable."""
    manifest, names = listed("format-1")
    for part in (manifest.layers, manifest.moved, manifest.patches, manifest.forgotten,
                 manifest.holds):  # fmt: skip
        assert part
    store = LocalStore(str(GOLDEN / "format-1/repo"))
    seqs = [int(name.split("/")[-1][:16], 16) for name in names]
    assert seqs != list(range(1, len(seqs) + 1))  # some expired
    kinds = {name[0] + name[name.rindex(".") :] for name in store.list_names("")}
    assert kinds == {"g.cond", "g.done", "m.mf", "r.json", "t.bad", "t.healed", "t.ok", "v.ly",
                     "v.pk", "v.pt"}  # fmt: skip
    reader = PointReader(store, keys_of("format-1").source, keys_of("format-1"))
    bodies = [reader.load(name).body for name in names]
    assert any(body.packs and not body.shipped_bytes for body in bodies)  # nothing but references
    repacked = [n for n in store.list_names(f"v/{VOLUME}/d/") if n.split("/")[-1][0] == "r"]
    assert len(repacked) == 2


def test_the_key_of_maintenance_checks_it(tmp_path):
    key = load_maintenance(str(GOLDEN / "format-1/keys/maintenance.key"))
    store = LocalStore(str(GOLDEN / "format-1/repo"))
    verifier = VolumeVerifier(store, key, VOLUME, scratch=str(tmp_path))
    found = verifier.structure()
    verifier.data(found, found.packs)
    assert found.told() == []
