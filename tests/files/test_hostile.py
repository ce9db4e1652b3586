"""Any bytes changed in real file systems: a result or a documented error, in bounded memory."""

from __future__ import annotations

import random
import tracemalloc
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import BlocksnapError
from blocksnapd.files.attributes import acl_from_ext, acl_from_xfs
from blocksnapd.files.copying import Copying
from blocksnapd.files.ext import Ext
from blocksnapd.files.ext_groups import GroupTables
from blocksnapd.files.ext_maps import ExtMaps
from blocksnapd.files.listing import listed
from blocksnapd.files.source import ImageSource
from blocksnapd.files.volumes import chosen, volumes_of
from blocksnapd.files.xfs_attributes import XfsAttributes
from blocksnapd.files.xfs_directories import block_entries, short_entries
from tests.files.corpus import MIB, BytesImage, ext_image, make_tree, xfs_image

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("ext4", "ext4-inline", "ext2", "xfs", "xfs-v4")
CPU_S_MAX = 20.0
PAGE = 64 << 10
MEMORY_MAX = 64 * MIB
PARTS_MAX = 2000


class Sparse:
    """What an image holds, in memory without its holes; ``places``: where bytes mean something."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.pages: dict[int, bytes] = {}
        self.places: list[int] = []
        with path.open("rb") as file:
            for number in range(-(-self.size // PAGE)):
                page = file.read(PAGE)
                if page.strip(b"\0"):
                    self.pages[number] = page
                    self.places += [
                        number * PAGE + at
                        for at in range(0, PAGE, 512)
                        if page[at : at + 512].strip(b"\0")
                    ]


class Changed:
    """An image with other bytes here and there."""

    block_size = 4096
    point: Any = None

    def __init__(self, below: Sparse) -> None:
        self._below, self.size = below, below.size
        self.changes: list[tuple[int, bytes]] = []

    def read_into(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        for number in range(offset // PAGE, -(-end // PAGE)):
            self._put(view, offset, number * PAGE, self._below.pages.get(number, bytes(PAGE)))
        for at, new in self.changes:
            self._put(view, offset, at, new)

    @staticmethod
    def _put(view: memoryview, offset: int, at: int, data: bytes) -> None:
        low, high = max(at, offset), min(at + len(data), offset + len(view))
        if low < high:
            view[low - offset : high - offset] = data[low - at : high - at]


@cache
def image(kind: str) -> Sparse:
    """Return a real file system with a tree in it."""
    with TemporaryDirectory() as folder:
        top, place = Path(folder) / "tree", Path(folder) / "image"
        is_xfs = kind.startswith("xfs")
        make_tree(top, is_special=not is_xfs, names=60)
        for name in ("large", "odd"):
            (top / name).write_bytes(b"content" * 1000)
        if is_xfs:
            (top / "änderung ☃").unlink()  # names with blanks are not for prototypes
            (top / "level 0").rename(Path(folder) / "away")
            (top / "many").chmod(0o755)
            xfs_image(place, top, *(("-m", "crc=0") if kind == "xfs-v4" else ()))
        else:
            words = {"ext4": ("-t", "ext4"), "ext2": ("-t", "ext2", "-b", "1024"),
                     "ext4-inline": ("-t", "ext4", "-O", "inline_data")}  # fmt: skip
            ext_image(place, top, *words[kind], "-N", "1024", size=12 * MIB)
        return Sparse(place)


def use(image: Changed) -> None:
    """List and copy all there is, as the commands do."""
    files = chosen(volumes_of(ImageSource(image)), None)
    root = files.node(files.root)
    for _ in islice(listed(files, root, b"/", recursive=True, is_long=True), PARTS_MAX):
        pass
    with TemporaryDirectory() as folder:
        work = Copying(files, progress=lambda _: None, cancelled=lambda: False, overwrite=False)
        work.copy(root, b"", f"{folder}/copy", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_bytes(kind: str, seed: int) -> None:
    change_and_use(kind, seed)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_changed_many_times(kind: str) -> None:
    for seed in range(800):
        change_and_use(kind, seed)


def change_and_use(kind: str, seed: int) -> None:
    below, dice = image(kind), random.Random(seed)
    changed = Changed(below)
    # Early places hold superblocks, descriptors and inodes: half of the changes go there.
    pool = below.places[: len(below.places) // 8 + 1] if dice.random() < 0.5 else below.places
    for _ in range(dice.randint(1, 12)):
        words = [b"\0", b"\xff", b"\x7f", b"\x80", b"\1", dice.randbytes(dice.randint(1, 8))]
        new = dice.choice(words)
        changed.changes.append((dice.choice(pool) + dice.randrange(512), new))
    began = process_time()
    tracemalloc.start()
    try:
        use(changed)
    except BlocksnapError:
        pass  # documented; anything else is not
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert process_time() - began < CPU_S_MAX
    assert peak < MEMORY_MAX


@given(st.binary(max_size=600), st.booleans(), st.booleans())
@settings(deadline=None)
def test_small_parsers_take_any_bytes(data: bytes, is_v5: bool, has_types: bool) -> None:
    def no_error_but_ours(parts: Sequence[object]) -> None:
        for part in parts:
            try:
                list(part() if callable(part) else ())  # type: ignore[call-overload]
            except BlocksnapError:
                continue

    source = ImageSource(BytesImage(data.ljust(4096, b"\1")))
    block = (b"XDB3" if is_v5 else b"XD2B") + data.ljust(508, b"\0")
    no_error_but_ours([
        lambda: acl_from_ext(data), lambda: acl_from_xfs(data),
        lambda: short_entries(data, has_types=has_types),
        lambda: block_entries(block, is_v5=is_v5, has_types=has_types),
        lambda: XfsAttributes(source, GEOMETRY).short(data),
        lambda: ExtMaps(source, 1024, 4).extents(b"\x0a\xf3" + data.ljust(58, b"\0")[:58], 1 << 40),
        lambda: ExtMaps(source, 1024, 4).indirect(data.ljust(60, b"\0")[:60], 1 << 40),
        lambda: [Ext(source)],
        lambda: [GroupTables(source, data.ljust(1024, b"\1"), 1024, 4).inode_at(7, 128)],
        lambda: volumes_of(source),
    ])  # fmt: skip


class GEOMETRY:
    block_size, is_v5 = 1024, True
