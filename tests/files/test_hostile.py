"""Any bytes changed in real file systems: a result or a documented error, in bounded memory."""

from __future__ import annotations

import tracemalloc
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING

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
MEMORY_MAX = 64 * MIB
PARTS_MAX = 2000


@cache
def image(kind: str) -> tuple[bytes, tuple[int, ...]]:
    """Return an image, and where in it are bytes that mean something."""
    with TemporaryDirectory() as folder:
        top, place = Path(folder) / "tree", Path(folder) / "image"
        is_xfs = kind.startswith("xfs")
        make_tree(top, is_special=not is_xfs, names=60)
        for name in ("large", "odd"):
            (top / name).write_bytes(b"content" * 1000)
        if is_xfs:
            for found in top.iterdir():
                if " " in found.name and found.is_file():
                    found.unlink()
            (top / "level 0").rename(Path(folder) / "away")
            (top / "many").chmod(0o755)
            xfs_image(place, top, *(("-m", "crc=0") if kind == "xfs-v4" else ()))
        else:
            words = {"ext4": ("-t", "ext4"), "ext2": ("-t", "ext2", "-b", "1024"),
                     "ext4-inline": ("-t", "ext4", "-O", "inline_data")}  # fmt: skip
            ext_image(place, top, *words[kind], "-N", "1024", size=12 * MIB)
        content = place.read_bytes()
    blocks = [at for at in range(0, len(content), 512) if any(content[at : at + 512])]
    return content, tuple(blocks)


class Changed(BytesImage):
    """An image with other bytes here and there, without a copy of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.changes: list[tuple[int, bytes]] = []

    def read_into(self, offset: int, view: memoryview) -> None:
        super().read_into(offset, view)
        end = offset + len(view)
        for at, new in self.changes:
            low, high = max(at, offset), min(at + len(new), end)
            if low < high:
                view[low - offset : high - offset] = new[low - at : high - at]


def use(image: BytesImage) -> None:
    """List and copy all there is, as the commands do."""
    files = chosen(volumes_of(ImageSource(image)), None)
    root = files.node(files.root)
    for _ in islice(listed(files, root, b"/", recursive=True, is_long=True), PARTS_MAX):
        pass
    with TemporaryDirectory() as folder:
        work = Copying(files, progress=lambda _: None, cancelled=lambda: False, overwrite=False)
        work.copy(root, b"", f"{folder}/copy", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
def test_changed_bytes(kind: str, data: st.DataObject) -> None:
    content, blocks = image(kind)
    changed = Changed(content)
    # Early blocks hold superblocks, descriptors and inodes: half of the changes go there.
    places = st.one_of(st.sampled_from(blocks[: max(1, len(blocks) // 8)]), st.sampled_from(blocks))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(places) + data.draw(st.integers(0, 511))
        new = data.draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\1"]) | st.binary(
            min_size=1, max_size=8
        ))  # fmt: skip
        changed.changes.append((at, new))
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
