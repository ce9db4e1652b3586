"""What a drill asks of a restored image: is its file system in order, is its user content. Edge.

The file system's own checker looks, without mounting: nothing of an image gets into this kernel.
ext4 gets its journal replayed into the scratch file first, by e2fsck. XFS replays its log only
when it is mounted: where that log holds something, an image that looks broken without it is not
proven, and not called broken either. A point that LVM made was frozen first and has it written.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Final

from blocksnapd.control.drill_messages import FOUND_MAX, LINE_LENGTH_MAX
from blocksnapd.errors import HostError
from blocksnapd.runtime import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blocksnapd.control.drill_messages import DrillStep, Result
    from blocksnapd.runtime.process import Finished

_EXT_MAGIC: Final = (1024 + 56, b"\x53\xef")
_XFS_MAGIC: Final = (0, b"XFSB")
_DIRTY_LOG: Final = "metadata changes in a log"
_NO_ANSWER: Final = 127  # as a shell has it: there is no such program


async def check_file_system(image: str, timeout_s: float) -> DrillStep:
    """Check the file system that begins where ``image`` begins; the file may be written to.

    Never raises what a checker can meet: that is in the step.
    """
    started = time.monotonic()
    if _has(image, _EXT_MAGIC):
        result, method, found = await _ext(image, timeout_s)
    elif _has(image, _XFS_MAGIC):
        result, method, found = await _xfs(image, timeout_s)
    else:
        result, method = "skipped", "no ext2/3/4 or XFS file system begins where the image does"
        found = []
    return _step("fsck", result, started, method, found)


async def check_by_user(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> DrillStep:
    """Run the operator's own check; it passes with exit status 0."""
    started = time.monotonic()
    done = await _run(argv, timeout_s, environment)
    found = _lines(done)
    if done.status:
        found.insert(0, f"exit status {done.status}")
    result: Result = "failed" if done.status else "success"
    return _step("check", result, started, shlex.join(argv), found[:FOUND_MAX])


async def _ext(image: str, timeout_s: float) -> tuple[Result, str, list[str]]:
    method = "e2fsck -E journal_only on the restored file, then e2fsck -fn"
    replayed = await _run(["e2fsck", "-y", "-E", "journal_only", image], timeout_s)
    if replayed.status == _NO_ANSWER:
        return "warning", method, _lines(replayed)
    checked = await _run(["e2fsck", "-fn", image], timeout_s)
    if checked.status:
        return "failed", method, _lines(checked)
    return "success", method, []


async def _xfs(image: str, timeout_s: float) -> tuple[Result, str, list[str]]:
    method = "xfs_repair -n -f on the restored file"
    done = await _run(["xfs_repair", "-n", "-f", image], timeout_s)
    if not done.status:
        return "success", method, []
    if done.status == _NO_ANSWER:
        return "warning", method, _lines(done)
    if _DIRTY_LOG in done.stdout + done.stderr:
        said = "its log holds changes that only a mount replays; without them it is not in order"
        return "warning", f"{method}, without replaying its log", [said, *_lines(done)][:FOUND_MAX]
    return "failed", method, _lines(done)


async def _run(
    argv: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None
) -> Finished:
    try:
        return await process.run(argv, timeout_s=timeout_s, environment=environment)
    except OSError as error:
        said = f"{argv[0]} cannot be run: {error.strerror or error}"
        return process.Finished(tuple(argv), _NO_ANSWER, "", said, 0.0)
    except HostError as error:  # it took too long, or said too much
        return process.Finished(tuple(argv), -1, "", error.message, 0.0)


def _has(image: str, mark: tuple[int, bytes]) -> bool:
    offset, magic = mark
    with open(image, "rb", buffering=0) as file:
        return os.pread(file.fileno(), len(magic), offset) == magic


def _lines(done: Finished) -> list[str]:
    text = f"{done.stdout}\n{done.stderr}"
    lines = [line.strip()[:LINE_LENGTH_MAX] for line in text.splitlines() if line.strip()]
    return ["".join(c if c.isprintable() else "�" for c in line) for line in lines[-FOUND_MAX:]]


def _step(
    name: str, result: Result, started: float, method: str, found: list[str]
) -> DrillStep:  # fmt: skip
    seconds = time.monotonic() - started
    return {
        "name": name, "result": result, "seconds": seconds, "method": method[:4096],
        "found": found,
    }  # fmt: skip
