"""Whole restores against the bytes of the image; and what is left when they end otherwise."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocksnapd.errors import CancelledRunError, ChecksumError, HostError, StoreError
from blocksnapd.restore.full import RestoreReport, restore_full
from blocksnapd.restore.gaps import gaps_of
from blocksnapd.restore.target import examine, open_target
from blocksnapd.units import MIB
from tests.restore.loop_device import loop_device
from tests.restore.memory_image import MemoryImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocksnapd.model import U64
    from blocksnapd.restore.progress import Progress

BLOCK = 4096


def restore(
    image: MemoryImage,
    path: object,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    overwrite: bool = False,
    verify: bool = True,
) -> RestoreReport:
    data_size = image.data_extents().size
    plan = examine(str(path), image_size=image.size, data_size=data_size, overwrite=overwrite)
    target = open_target(plan)
    return restore_full(image, target, progress=progress, cancelled=cancelled, verify=verify)


def content(size: int, runs: list[tuple[int, int]]) -> bytes:
    """Return ``size`` bytes, zero but for runs of (first block, bytes)."""
    image = bytearray(size)
    for block, length in runs:
        at = block * BLOCK % max(size, 1)
        part = os.urandom(length)[: size - at]
        image[at : at + len(part)] = part
    return bytes(image)


sizes = st.builds(
    lambda blocks, by: max(0, blocks * BLOCK + by),
    st.sampled_from([0, 1, 2, 15, 16, 17, 256, 300]),
    st.sampled_from([-513, -512, -1, 0, 1, 511, 512]),
)
runs_of_data = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 70_000)), max_size=6)


@given(sizes, runs_of_data, st.integers(0, 100), st.sampled_from(["none", "shorter", "longer"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_image_in_any_order_over_any_old_file(
    tmp_path: Path, size: int, runs: list[tuple[int, int]], seed: int, old: str
) -> None:
    image = MemoryImage(content(size, runs), BLOCK, seed)
    path = tmp_path / "restored"
    path.unlink(missing_ok=True)
    if old != "none":
        path.write_bytes(b"\xaa" * (size // 2 if old == "shorter" else size + 10_000))
    report = restore(image, path, overwrite=old != "none")
    assert path.read_bytes() == image.content
    assert report.written_bytes == image.data_extents().size
    assert report.written_bytes + report.hole_bytes == report.verified_bytes == report.size == size
    assert report.read_bytes >= report.written_bytes
    assert os.listdir(tmp_path) == ["restored"]


@given(sizes, runs_of_data, st.integers(0, 100))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=25,
    deadline=None,
)
def test_any_image_onto_a_device_full_of_something_else(
    device: str, size: int, runs: list[tuple[int, int]], seed: int
) -> None:
    image = MemoryImage(content(size, runs), BLOCK, seed)
    with open(device, "wb") as file:
        file.write(b"\xaa" * 2 * MIB)
    report = restore(image, device)
    assert report.read_bytes == report.verified_bytes == size
    with open(device, "rb") as file:
        assert file.read() == image.content.ljust(2 * MIB, b"\xaa")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with loop_device(tmp_path_factory.mktemp("device"), 2 * MIB) as path:
        yield path


def test_holes_stay_holes(tmp_path: Path) -> None:
    size = 64 * MIB + 100
    image = MemoryImage(content(size, [(5, 9000), (9000, 300)]))
    report = restore(image, tmp_path / "new")
    assert (tmp_path / "new").stat().st_blocks * 512 < MIB
    assert report.read_bytes < MIB
    assert report.verified_bytes == size


def test_progress_goes_up_to_its_end_through_all_phases(tmp_path: Path) -> None:
    seen: list[Progress] = []
    restore(MemoryImage(os.urandom(5 * MIB)), tmp_path / "new", progress=seen.append)
    assert list(dict.fromkeys(p.phase for p in seen)) == [
        "clear", "write", "sync", "verify", "done",
    ]  # fmt: skip
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == 10 * MIB
    assert seen[-1].eta_s == 0


def test_without_verification_nothing_is_claimed(tmp_path: Path) -> None:
    image = MemoryImage(os.urandom(MIB))
    seen: list[Progress] = []
    report = restore(image, tmp_path / "new", verify=False, progress=seen.append)
    assert (report.verified_bytes, report.read_bytes) == (0, 0)
    assert seen[-1].done == seen[-1].total == MIB
    assert (tmp_path / "new").read_bytes() == image.content


def test_what_was_written_is_released_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what was written in any order, and twice: it may not have been on the disk yet."""
    released: list[tuple[int, int]] = []
    real = os.posix_fadvise

    def note(fd: int, offset: int, length: int, advice: int) -> None:
        released.append((offset, offset + length))
        real(fd, offset, length, advice)

    monkeypatch.setattr("blocksnapd.restore.full.RELEASE_SIZE", MIB)
    monkeypatch.setattr(os, "posix_fadvise", note)
    size = 8 * MIB - 100
    restore(MemoryImage(os.urandom(size), seed=4), tmp_path / "new", verify=False)
    assert released[-1] == (0, size)  # with the last sync
    assert len(released) > 5
    assert all(0 <= start < end <= size for start, end in released)
    assert all(one[0] < two[1] and two[0] < one[1] for one, two in itertools.pairwise(released))


def test_cancelling_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"precious")
    asked = iter([False, False, True])
    with pytest.raises(CancelledRunError) as caught:
        restore(
            MemoryImage(os.urandom(8 * MIB)), path, overwrite=True, cancelled=lambda: next(asked)
        )
    assert caught.value.effect == f"{path} is as it was before. The repository is untouched."
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["old"]


def test_cancelling_on_a_device_leaves_nothing_that_looks_whole(device: str) -> None:
    asked = iter([False, False, True])
    with open(device, "wb") as file:
        file.write(b"\xaa" * 2 * MIB)
    with pytest.raises(CancelledRunError) as caught:
        restore(MemoryImage(os.urandom(2 * MIB)), device, cancelled=lambda: next(asked))
    assert "its beginning is blank" in caught.value.effect
    with open(device, "rb") as file:
        assert file.read(MIB) == bytes(MIB)


def test_a_target_that_changes_what_was_written_is_caught_and_the_place_is_told(
    tmp_path: Path,
) -> None:
    """Somebody writes one byte between writing and reading back."""
    image = MemoryImage(os.urandom(6 * MIB))

    def meddle(progress: Progress) -> None:
        if progress.phase == "verify" and not progress.done > 6 * MIB:
            with open(tmp_path / "new.blocksnap-partial", "r+b") as file:
                file.seek(5 * MIB + 77)
                file.write(bytes([image.content[5 * MIB + 77] ^ 1]))

    with pytest.raises(ChecksumError, match="first at bytes 5242957-5242958") as caught:
        restore(image, tmp_path / "new", progress=meddle)
    assert caught.value.effect == f"Nothing is under {tmp_path}/new. The repository is untouched."
    assert not os.listdir(tmp_path)


def test_old_content_in_a_hole_is_caught(tmp_path: Path) -> None:
    image = MemoryImage(content(4 * MIB, [(3, 100)]))

    def meddle(progress: Progress) -> None:
        if progress.phase == "sync":
            with open(tmp_path / "new.blocksnap-partial", "r+b") as file:
                file.seek(2 * MIB)
                file.write(b"old")

    with pytest.raises(ChecksumError, match="first at bytes 2097152-2097155"):
        restore(image, tmp_path / "new", progress=meddle)
    assert not os.listdir(tmp_path)


class Broken(MemoryImage):
    """An image whose repository fails or loses pieces."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        super().__init__(content)
        self.error = error

    def pieces(self) -> Iterator[tuple[U64, memoryview]]:
        whole = super().pieces()
        yield next(whole)
        if self.error is not None:
            raise self.error


def test_damage_in_the_repository_leaves_no_file_and_says_so(tmp_path: Path) -> None:
    broken = Broken(os.urandom(8 * MIB), ChecksumError("pack 7 is damaged", effect="Lost: 64 KiB."))
    with pytest.raises(ChecksumError) as caught:
        restore(broken, tmp_path / "new")
    assert caught.value.effect.startswith("Lost: 64 KiB. Nothing is under")
    assert not os.listdir(tmp_path)


def test_any_other_end_leaves_no_file_either(tmp_path: Path) -> None:
    for error in (StoreError("gone"), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)):
            restore(Broken(os.urandom(8 * MIB), error), tmp_path / "new")  # type: ignore[arg-type]
        assert not os.listdir(tmp_path)


def test_content_that_the_packs_do_not_give_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ChecksumError, match="lists 8388608 bytes of content, its packs gave"):
        restore(Broken(os.urandom(8 * MIB), None), tmp_path / "new")
    assert not os.listdir(tmp_path)


def test_a_full_disk_in_the_middle_is_a_sentence(tmp_path: Path) -> None:
    """A limit on file sizes in a child stands for the disk that fills up."""
    program = """
import resource, signal, sys
from tests.restore.test_full import restore, MemoryImage
from blocksnapd.errors import HostError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(progress):
    if progress.phase == "write":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    restore(MemoryImage(b"x" * (4 << 20)), sys.argv[1], progress=limit)
except HostError as error:
    print(error.sentences())
"""
    said = run_child(program, tmp_path / "new").communicate(timeout=60)[0]
    assert "File too large. Nothing is under" in said
    assert "The repository is untouched." in said
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("phase", ["write", "sync", "verify"])
def test_killed_at_any_moment_no_file_looks_whole(phase: str, tmp_path: Path) -> None:
    """The next restore to that name is none the worse for it."""
    program = f"""
import sys
from tests.restore.test_full import restore, MemoryImage
def halt(progress):
    if progress.phase == {phase!r}:
        print("there", flush=True)
        input()
restore(MemoryImage(b"x" * (4 << 20)), sys.argv[1], progress=halt)
"""
    path = tmp_path / "new"
    process = run_child(program, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert os.listdir(tmp_path) == ["new.blocksnap-partial"]
    image = MemoryImage(os.urandom(MIB))
    restore(image, path)
    assert path.read_bytes() == image.content
    assert os.listdir(tmp_path) == ["new"]


def run_child(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )


@given(st.lists(st.booleans(), max_size=40), st.integers(1, BLOCK), st.integers(1, 50))
def test_gaps_are_what_extents_leave_out(mask: list[bool], tail: int, span: int) -> None:
    """Against one flag per block, in spans of any size; the last block may be a partial one."""
    size = max(0, (len(mask) - 1) * BLOCK + tail) if mask else 0
    image = MemoryImage(b"".join(bytes([m]) * BLOCK for m in mask)[:size], BLOCK)
    covered, before = np.zeros(size, bool), 0
    for gaps in gaps_of(image, span * BLOCK):
        for start, end in zip(gaps.starts.tolist(), gaps.ends.tolist(), strict=True):
            assert before <= start < end <= size
            covered[start:end], before = True, end
    assert covered.tolist() == [not byte for byte in image.content]


def test_a_write_that_fails_is_told_as_the_hosts(tmp_path: Path) -> None:
    """The descriptor is made read-only behind its back: every later write fails."""
    image = MemoryImage(os.urandom(MIB))
    target = open_target(examine(str(tmp_path / "new"), image_size=MIB, data_size=MIB))

    def lose(progress: Progress) -> None:
        if progress.phase == "write":
            read_only = os.open(tmp_path / "new.blocksnap-partial", os.O_RDONLY)
            os.dup2(read_only, target._fd)
            os.close(read_only)

    with pytest.raises(HostError, match="failed writing offset"):
        restore_full(image, target, progress=lose, cancelled=lambda: False)
    assert not os.listdir(tmp_path)
