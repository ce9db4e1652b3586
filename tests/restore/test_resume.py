"""Restores that are killed at each of their steps and gone on with; and what is never believed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from blocksnapd.errors import (
    CancelledRunError,
    ChecksumError,
    HostError,
    StoreError,
    StoreMissingError,
)
from blocksnapd.restore.file_target import PARTIAL_SUFFIX, partial_size
from blocksnapd.restore.journal import JOURNAL_SUFFIX, Batch, Journal
from blocksnapd.restore.resume import Resume
from blocksnapd.units import MIB
from tests.restore.crashing import journal_path, make_image, restore
from tests.restore.loop_device import loop_device
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocksnapd.model import U64
    from blocksnapd.restore.progress import Progress

BLOCK = 4096


def killed(target: object, *steps: int, **environ: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.restore.crashing", str(target), *map(str, steps)],
        capture_output=True, text=True, check=True, timeout=120, env={**os.environ, **environ},
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_killed_at_every_other_step(tmp_path: Path) -> None:
    found = killed(tmp_path / "image", 3, 0, 1000, 2)
    content = make_image(3).data_extents().size
    assert len(found) > 20, "steps there are"
    assert all(each["equal"] for each in found)
    assert {each["kept"] + each["written"] for each in found} == {content}
    kept = [each["kept"] for each in found]
    assert max(kept) > content * 3 // 4, "near the end little is written again"
    assert kept[0] == 0
    assert os.listdir(tmp_path) == ["image"]


def test_a_device_killed_at_every_few_steps(tmp_path: Path) -> None:
    """Its first MiB is written last, so that is never kept."""
    with loop_device(tmp_path, 3 * MIB) as device:
        with open(device, "wb") as file:
            file.write(b"\xaa" * 3 * MIB)
        found = killed(device, 4, 0, 1000, 3, JOURNALS=str(tmp_path))
        image = make_image(4)
        after_head = image.data_extents(MIB).size
        assert len(found) > 10
        assert all(each["equal"] for each in found)
        assert after_head // 2 < max(each["kept"] for each in found) <= after_head
        assert not os.path.exists(tmp_path / "device")
        with open(device, "rb") as file:
            assert file.read()[image.size :] == b"\xaa" * (3 * MIB - image.size)


class Stop:
    """Cancels a restore when it has come so far; ``looks`` counts how often it was asked."""

    def __init__(self, bytes_: int) -> None:
        self.bytes, self.done = bytes_, 0

    def progress(self, now: Progress) -> None:
        if now.phase == "write":
            self.done = now.done

    def cancelled(self) -> bool:
        return self.done > self.bytes


def interrupted(tmp_path: Path, image: MemoryImage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave what a restore left that was cancelled at two thirds."""
    monkeypatch.setattr("blocksnapd.restore.progress.REPORT_EVERY_S", 0)
    path, stop = tmp_path / "image", Stop(image.data_extents().size * 2 // 3)
    with pytest.raises(CancelledRunError) as caught:
        restore(image, str(path), progress=stop.progress, cancelled=stop.cancelled)
    assert f"is kept as {path}{PARTIAL_SUFFIX}, to go on with." in caught.value.effect
    assert sorted(os.listdir(tmp_path)) == ["image" + JOURNAL_SUFFIX, "image" + PARTIAL_SUFFIX]
    assert partial_size(str(path)) >= image.data_extents().size // 3
    return path


def test_a_cancelled_one_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image(5)
    path = interrupted(tmp_path, image, monkeypatch)
    seen: list[Progress] = []
    report = restore(image, str(path), progress=seen.append)
    assert path.read_bytes() == image.content
    assert report.kept_bytes > image.data_extents().size // 3
    assert report.kept_bytes + report.written_bytes + report.hole_bytes == image.size
    assert list(dict.fromkeys(p.phase for p in seen)) == [
        "clear", "check", "write", "sync", "verify", "done",
    ]  # fmt: skip
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total
    assert os.listdir(tmp_path) == ["image"]


def kept_blocks(path: Path, image: MemoryImage) -> set[int]:
    about = {"size": image.size, "sum": image.content[:50].hex()}
    runs = [
        (int(start), int(length))
        for batch in Journal(journal_path(str(path)), about).read()
        for start, length in zip(batch.starts, batch.lengths, strict=True)
    ]
    return {block for start, length in runs for block in range(start, start + length)}


def test_what_was_not_synced_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: every block that no batch tells of is something else now."""
    image = make_image(6)
    path = interrupted(tmp_path, image, monkeypatch)
    kept = kept_blocks(path, image)
    assert kept
    with open(f"{path}{PARTIAL_SUFFIX}", "r+b") as file:
        for block in set(image.blocks()) - kept:
            file.seek(block * BLOCK)
            file.write(os.urandom(BLOCK)[: image.size - block * BLOCK])
    report = restore(image, str(path))
    assert path.read_bytes() == image.content
    assert report.kept_bytes == sum(min(BLOCK, image.size - b * BLOCK) for b in kept)


def test_what_the_disk_lost_since_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of a batch: the batch is not kept, the others are; killed again, it is still so."""
    image = make_image(7)
    path = interrupted(tmp_path, image, monkeypatch)
    kept = kept_blocks(path, image)
    with open(f"{path}{PARTIAL_SUFFIX}", "r+b") as file:
        at = random.Random(1).choice(sorted(kept)) * BLOCK
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    report = restore(image, str(path))
    assert path.read_bytes() == image.content
    assert 0 < report.kept_bytes < len(kept) * BLOCK


def test_cancelled_while_it_is_looked_at_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(8)
    path = interrupted(tmp_path, image, monkeypatch)
    kept = kept_blocks(path, image)
    with pytest.raises(CancelledRunError):
        restore(image, str(path), cancelled=lambda: True)
    assert kept_blocks(path, image) == kept
    assert restore(image, str(path)).kept_bytes > 0


def test_of_another_point_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = interrupted(tmp_path, make_image(9), monkeypatch)
    other = make_image(10)
    assert restore(other, str(path)).kept_bytes == 0
    assert path.read_bytes() == other.content
    assert os.listdir(tmp_path) == ["image"]


class Failing(MemoryImage):
    """Its repository fails in the middle."""

    error: Exception = StoreError("gone")

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        for number, piece in enumerate(super().pieces()):
            if number == 6:
                raise self.error
            yield piece


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (StoreError("gone"), True),
        (StoreMissingError("no pack"), False),
        (ChecksumError("damaged"), False),
        (HostError("full"), False),
    ],
)
def test_what_stays_when_it_fails(error: Exception, stays: bool, tmp_path: Path) -> None:
    """What a repository gave before it went is good; of a damaged point or a bad target nothing."""
    image = Failing(os.urandom(3 * MIB))
    image.error = error
    with pytest.raises(type(error)):
        restore(image, str(tmp_path / "image"))
    assert bool(os.listdir(tmp_path)) == stays
    if stays:
        report = restore(MemoryImage(image.content), str(tmp_path / "image"))
        assert report.kept_bytes > 0
        assert (tmp_path / "image").read_bytes() == image.content


def test_a_journal_that_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j"), {})
    one = Batch(np.array([0], np.uint64), np.array([4], np.uint64), 0)
    journal.start([one, one])
    image = MemoryImage(bytes(MIB))
    resume = Resume(journal, image.without)
    kept = resume.keep(resume.found(), image, BLOCK, lambda _: None)
    assert (len(kept.starts), kept.size, journal.read()) == (0, 0, [])
    beyond = Batch(np.array([1 << 40], np.uint64), np.array([4], np.uint64), 0)
    journal.start([one, beyond])
    kept = resume.keep(resume.found(), image, BLOCK, lambda _: None)
    assert (kept.starts.tolist(), kept.size, kept.is_cleared) == ([0], 4 * BLOCK, True)
    resume.close()


def test_a_journal_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    image = MemoryImage(bytes(MIB))
    resume = Resume(Journal(str(tmp_path / "gone" / "j"), {}), image.without)
    with pytest.raises(HostError, match="cannot be written: No such file"):
        resume.keep([], image, BLOCK, lambda _: None)
    resume.close()
