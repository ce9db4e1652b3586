"""Golden repositories, one of every format ever released: still readable, every byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from blocksnapd.store.repository import Repository

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(p.name for p in GOLDEN.glob("format-*"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_repository_is_readable(version):
    root = GOLDEN / version
    repository = Repository.open(
        str(root / "repo"), restore_key=str(root / "keys/restore.key"), passphrase="golden"
    )
    images = json.loads((root / "images.json").read_text(encoding="utf-8"))
    points = [p for volume in repository.volumes() for p in repository.points(volume)]
    assert [p.name for p in points] == sorted(images)
    for point in points:
        image = repository.open_image(point)
        content = bytearray(image.size)
        image.read_into(0, memoryview(content))
        assert hashlib.sha256(content).hexdigest() == images[point.name]
        assert repository.verify(point).is_whole


def test_the_first_format_is_among_them():
    assert "format-1" in VERSIONS
