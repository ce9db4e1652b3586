"""Commands whose output nobody reads to its end: quiet, and no other broken pipe is hidden."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from blocksnapd.runtime.reader import ends_unread


@pytest.mark.parametrize(
    "words", [("volumes",), ("config", "schema"), ("explain", "--all"), ("restore", "--help")]
)
def test_a_reader_that_has_seen_enough_gets_no_traceback(words: tuple[str, ...]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "blocksnapctl", *words], stdin=subprocess.DEVNULL,
        stdout=writes, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writes)
    assert (done.returncode, done.stderr) == (130, "")


def test_another_broken_pipe_is_told() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with pytest.raises(BrokenPipeError), ends_unread(130):
        os.write(writes, b"to somebody else")
    os.close(writes)


def test_without_any_output_a_command_does_its_work() -> None:
    line = f"exec {sys.executable} -P -m blocksnapd config schema >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
