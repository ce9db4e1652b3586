"""Points with packs that are really damaged: refused with a way out, or restored with a list."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from blocksnapd.errors import HostError, RefusedError
from blocksnapd.service import salvaging
from blocksnapd.store.image import Image
from tests.service.test_worker_operations import Host, name

if TYPE_CHECKING:
    from pathlib import Path

    from blocksnapd.control.messages import Run

BLOCK = 4096


class Damaged(Host):
    """Points 1 to 4: the second has 400 blocks in a pack of its own, the third half of these."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lab.resize(1000 * BLOCK - 99)
        self.lab.kept.clear()
        for blocks in (range(900), range(300, 700), range(300, 500), range(200, 800)):
            self.lab.commit(self.lab.write(blocks, noise=True), number=len(self.lab.kept) + 10)
        self.made = [point for point, _ in self.lab.kept]
        self.packs = sorted(self.root.glob("v/*/d/*/*.pk"), key=lambda p: p.name)

    def id(self, number: int) -> str:
        return self.made[number].facts.point_id

    def content(self, number: int) -> bytes:
        return self.lab.kept[number][1]


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    host = Damaged(tmp_path)
    await host.held.load()
    return host


def pack_of(host: Damaged, number: int) -> Path:
    return next(p for p in host.packs if p.name.startswith(host.id(number)))


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def restored(host: Host, number: int, to: Path, **more: Any) -> Run:
    point_id = host.id(number)  # type: ignore[attr-defined]
    return await host.done(kind="restore", point=point_id, to=str(to), **more)


def ranges_in(path: Path) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    head, *lines = map(json.loads, path.read_text().splitlines())
    return head, [(line["start"], line["end"]) for line in lines]


def zeroed(content: bytes, ranges: list[tuple[int, int]]) -> bytes:
    found = bytearray(content)
    for start, end in ranges:
        found[start:end] = bytes(end - start)
    return bytes(found)


async def test_refused_with_how_much_and_what_instead(host: Damaged, tmp_path: Path) -> None:
    """A pack is gone: its point lacks 400 blocks, the next one half of them, the others none."""
    os.unlink(pack_of(host, 1))
    for number, lost in ((1, 400), (2, 200)):
        run = await restored(host, number, tmp_path / "out")
        assert run["error"] is not None
        assert (run["result"], run["error"]["exit_code"]) == ("failed", 14)
        told = f"({lost * BLOCK} bytes in 1 range) of {host.id(number)} are damaged"
        assert told in run["error"]["message"]
        assert "Nothing is under" in run["error"]["effect"]
        hint = run["error"]["hint"]
        assert host.id(0) in hint
        assert host.id(3) in hint
        assert host.id(3 - number) not in hint
        assert "--allow-damaged" in hint
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.damaged").exists()
    for number in (0, 3):
        assert (await restored(host, number, tmp_path / f"{number}"))["result"] == "success"
        assert (tmp_path / f"{number}").read_bytes() == host.content(number)


async def test_allowed_it_is_restored_with_a_list_of_what_is_not(
    host: Damaged, tmp_path: Path
) -> None:
    pack = pack_of(host, 1)
    flip(pack, pack.stat().st_size // 2)
    run = await restored(host, 1, tmp_path / "out", allow_damaged=True)
    assert run["result"] == "warning"
    head, ranges = ranges_in(tmp_path / "out.damaged")
    lost = sum(end - start for start, end in ranges)
    assert 0 < lost <= 64 * BLOCK
    assert (head["point"], head["volume"], head["to"]) == (
        host.id(1), name(host), str(tmp_path / "out"),
    )  # fmt: skip
    assert (head["damaged_bytes"], head["ranges"], head["unmapped_bytes"]) == (lost, len(ranges), 0)
    assert pack.name.removesuffix(".pk") in head["problems"][0]
    assert (run["damaged_bytes"], run["damaged_list"]) == (lost, str(tmp_path / "out.damaged"))
    assert f"({lost} bytes) of the point are lost and are zero in" in run["warnings"][0]
    assert (tmp_path / "out").read_bytes() == zeroed(host.content(1), ranges)
    assert host.content(1) != zeroed(host.content(1), ranges)
    again = await restored(host, 1, tmp_path / "out", allow_damaged=True, overwrite=True)
    assert again["damaged_bytes"] == lost, "its own list may be written over"


async def test_of_a_refused_one_nothing_is_left(host: Damaged, tmp_path: Path) -> None:
    os.unlink(pack_of(host, 3))
    before = sorted(os.listdir(tmp_path))
    run = await restored(host, 3, tmp_path / "out")
    assert run["error"] is not None
    assert pack_of(host, 3).name in run["error"]["message"]
    assert sorted(os.listdir(tmp_path)) == before


async def test_a_whole_point_with_the_flag_is_as_without(host: Damaged, tmp_path: Path) -> None:
    run = await restored(host, 2, tmp_path / "out", allow_damaged=True)
    assert (run["result"], "damaged_bytes" in run) == ("success", False)
    assert not (tmp_path / "out.damaged").exists()
    assert (tmp_path / "out").read_bytes() == host.content(2)


async def test_no_other_file_becomes_a_list(host: Damaged, tmp_path: Path) -> None:
    os.unlink(pack_of(host, 1))
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "link").symlink_to(precious)
    for place in (precious, tmp_path / "link", tmp_path, tmp_path / "none" / "x"):
        run = await restored(host, 1, tmp_path / "out", allow_damaged=True, damaged_list=str(place))
        assert run["error"] is not None
        assert run["error"]["exit_code"] == 12
        assert "--damaged-list FILE" in run["error"]["hint"]
    assert precious.read_text() == "precious"
    other = tmp_path / "listed"
    run = await restored(host, 1, tmp_path / "out", allow_damaged=True, damaged_list=str(other))
    assert (run["damaged_list"], run["damaged_bytes"]) == (str(other), 400 * BLOCK)
    assert ranges_in(other)[1] == [(300 * BLOCK, 700 * BLOCK)]


async def test_a_repository_that_goes_while_it_is_read_is_not_damaged(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk it lies on is unmounted: that is no damage, and nothing is listed as such."""
    real = Image.damage

    def lose(image: Image, progress: Any) -> Any:
        os.rename(host.root, tmp_path / "elsewhere")
        return real(image, progress)

    monkeypatch.setattr(Image, "damage", lose)
    run = await restored(host, 3, tmp_path / "out", allow_damaged=True)
    assert run["error"] is not None
    assert run["error"]["exit_code"] != 14
    assert not (tmp_path / "out.damaged").exists()


async def test_nothing_whole_nearby_is_told(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvaging, "LOOKED_AT_MAX", 1)
    for pack in host.packs:
        os.unlink(pack)
    run = await restored(host, 3, tmp_path / "out")
    assert run["error"] is not None
    assert "None of the 1 points on either side" in run["error"]["hint"]


async def test_a_point_whose_history_is_gone_is_refused_whatever_is_allowed(
    host: Damaged, tmp_path: Path
) -> None:
    """The point before it is deleted: nobody knows where the rest of its content lies."""
    (host.root / host.made[1].name).unlink()
    for allowed in (False, True):
        run = await restored(host, 2, tmp_path / "out", allow_damaged=allowed)
        assert run["error"] is not None
        assert run["error"]["exit_code"] == 14
        assert f"{host.id(2)} cannot be opened: " in run["error"]["message"]
        assert "Where its content lies is not known any more" in run["error"]["effect"]
        assert host.id(0) in run["error"]["hint"]
        assert host.id(3) not in run["error"]["hint"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith("out")]


async def test_a_list_that_cannot_be_written_stops_the_restore(
    host: Damaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    os.unlink(pack_of(host, 1))
    image = host.held.open_image(host.id(1))
    damage = image.damage(lambda _done, _total: None)
    monkeypatch.setattr("blocksnapd.runtime.durable.replace", full)
    with pytest.raises(HostError, match="cannot be written: No space"):
        salvaging.write_list(str(tmp_path / "list"), image, damage, "x")
    (tmp_path / "other").write_bytes(b'{"schema": 1, "type": "damage"}')
    with pytest.raises(RefusedError, match="no list of what is damaged"):
        salvaging.check_place(str(tmp_path / "other"))
