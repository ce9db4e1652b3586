"""Volume groups made by hand from the format's description; real ones are in tests/lab."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError, FormatError
from blocksnapd.files import lvm_text
from blocksnapd.files.lvm import Disk, is_physical_volume, logical_volumes
from blocksnapd.files.source import ImageSource
from tests.files.corpus import BytesImage

EXTENT = 64 << 10
START = 128 << 10
AREA = 64 << 10
SIZE = START + 16 * EXTENT
UUIDS = [f"aaaaaabbbbccccddddeeeeffffgggg{n:02}" for n in range(3)]


def crc(data: bytes) -> int:
    """The checksum as lvm2 computes it, bit by bit."""
    value = 0xF597A6CF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


def dashed(text: str) -> str:
    parts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(text[a:b] for a, b in pairwise(parts))


def segment(number: int, first: int, count: int, kind: str, *stripes: object) -> str:
    listed = ", ".join(f'"{s}"' if isinstance(s, str) else str(s) for s in stripes)
    return (
        f"segment{number} {{\nstart_extent = {first}\nextent_count = {count}  # so many\n"
        f'type = "{kind}"\nstripe_count = {len(stripes) // 2}\nstripe_size = 16\n'
        f"stripes = [ {listed} ]\n}}\n"
    )


def text(seqno: int = 3) -> str:
    disks = "".join(
        f'pv{n} {{\nid = "{dashed(UUIDS[n])}"\ndevice = "/dev/x{n}"\npe_start = {START // 512}\n'
        f"pe_count = 16\n}}\n"
        for n in range(3)
    )
    volumes = {
        "linear": segment(1, 0, 2, "striped", "pv0", 4) + segment(2, 2, 1, "striped", "pv1", 0),
        "one": segment(1, 0, 2, "striped", "pv0", 0) + segment(2, 2, 2, "striped", "pv0", 2),
        "stripes": segment(1, 0, 4, "striped", "pv0", 8, "pv1", 4),
        "elsewhere": segment(1, 0, 1, "striped", "pv2", 0),
        "mirror": segment(1, 0, 1, "raid1", "pv0", 0),
        "hole": segment(1, 1, 1, "striped", "pv0", 0),
        "behind": segment(1, 0, 9, "striped", "pv0", 9),
    }
    told = "".join(
        f'{name} {{\nid = "x"\nstatus = ["READ", "WRITE", "VISIBLE"]\n{body}}}\n'
        for name, body in volumes.items()
    )
    hidden = 'hidden {\nstatus = ["READ"]\n' + segment(1, 0, 1, "striped", "pv0", 0) + "}\n"
    return (
        f'contents = "Text Format Volume Group"\nversion = 1\n\nvg0 {{\nid = "g-\\"quoted\\""\n'
        f"seqno = {seqno}\nextent_size = {EXTENT // 512}\nphysical_volumes {{\n{disks}}}\n"
        f"logical_volumes {{\n{told}{hidden}}}\n}}\n# the end\n"
    )


def disk(number: int, content: bytes, said: str, *, at: int = 512) -> bytearray:
    """Return a physical volume whose metadata begins at ``at`` of its ring."""
    found = bytearray(SIZE)
    found[START:] = content
    label = struct.pack("<8sQII8s", b"LABELONE", 1, 0, 32, b"LVM2 001")
    header = UUIDS[number].encode() + struct.pack("<Q4Q4Q", SIZE, START, 0, 0, 0, 4096, AREA, 0, 0)
    found[512 : 512 + len(label) + len(header)] = label + header
    body = said.encode() + b"\0"
    area = struct.pack("<I16sIQQ", 0, b" LVM2 x[5A%r0N*>", 1, 4096, AREA)
    found[4096 : 4096 + 64] = area + struct.pack("<QQII", at, len(body), crc(body), 0)
    for index, byte in enumerate(body):
        place = at + index
        found[4096 + (place if place < AREA else place - AREA + 512)] = byte
    return found


CONTENT = [random.Random(n).randbytes(SIZE - START) for n in range(2)]


def seen(*disks: bytes | bytearray) -> dict[str, Any]:
    found = logical_volumes(
        [Disk(ImageSource(BytesImage(d)), n * 10_000_000) for n, d in enumerate(disks)]
    )
    return {volume.name: volume for volume in found}


def extents(number: int, first: int, count: int) -> bytes:
    return CONTENT[number][first * EXTENT : (first + count) * EXTENT]


def test_volumes_are_put_together() -> None:
    found = seen(disk(0, CONTENT[0], text(2)), disk(1, CONTENT[1], text(), at=AREA - 900))
    assert {name for name, v in found.items() if v.source} == {
        "vg0/linear", "vg0/one", "vg0/stripes"
    }  # fmt: skip
    linear, one, stripes = (found[f"vg0/{n}"] for n in ("linear", "one", "stripes"))
    assert linear.source.read_at(0, linear.size) == extents(0, 4, 2) + extents(1, 0, 1)
    assert (one.source.read_at(0, one.size), one.offset) == (extents(0, 0, 4), START)
    assert (linear.offset, stripes.offset) == (None, None)
    first, second = extents(0, 8, 2), extents(1, 4, 2)
    wanted = b"".join(
        part[at : at + 8192] for at in range(0, 2 * EXTENT, 8192) for part in (first, second)
    )
    assert stripes.source.read_at(0, stripes.size) == wanted
    assert "raid1" in found["vg0/mirror"].note
    assert "not in this point" in found["vg0/elsewhere"].note
    assert "damaged" in found["vg0/hole"].note
    assert "behind its end" in found["vg0/behind"].note


def test_metadata_that_is_not_whole_is_not_believed() -> None:
    good = disk(0, CONTENT[0], text())
    assert is_physical_volume(bytes(good[:2048]))
    for at in (4096 + 10, 4096 + 40, 4096 + 56, 4096 + 700, 512 + 25):
        changed = good.copy()
        changed[at] ^= 1
        assert seen(changed) == {}


@given(st.text(alphabet='ab1 \n{}[]=,"#\\.-', max_size=60))
@settings(deadline=None)
def test_any_text_is_parsed_or_not(said: str) -> None:
    try:
        assert isinstance(lvm_text.parse(said), dict)
    except FormatError:
        return


@pytest.mark.parametrize("said", ["a {" * 5000, "a = [" + "[" * 5000, "a = " + "9" * 5000, 'a = "'])
def test_hostile_text(said: str) -> None:
    with pytest.raises(FormatError):
        lvm_text.parse(said)


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None)
def test_any_values_give_volumes_or_none(changes: list[tuple[int, int]]) -> None:
    """Changes that the checksum agrees with: what somebody wrote who wanted to."""
    said = bytearray(text().encode())
    for at, new in changes:
        said[at % len(said)] = new
    try:
        for volume in seen(disk(0, CONTENT[0], said.decode(errors="replace"))).values():
            if volume.source:
                volume.source.read_at(0, min(volume.source.size, 100))
    except BlocksnapError as error:
        raise AssertionError("what cannot be is left out") from error
