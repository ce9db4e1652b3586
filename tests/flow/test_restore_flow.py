"""Getting a volume back as an operator does: by the clock on the wall, planned, around damage."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tests.flow.kit import LIMIT_S, MIB, Site, told

if TYPE_CHECKING:
    import pytest

SIZE = 12 * MIB


def protected(site: Site) -> tuple[str, list[bytes]]:
    """Return a volume's name, and its content at each of its two points."""
    first = site.set_up(size=SIZE, used=6 * MIB)
    site.start()
    site.until_done()
    second = first[: 8 * MIB] + os.urandom(2 * MIB) + first[10 * MIB :]
    site.write_image((0, second))
    assert site.run()["result"] == "success"
    return str(site.image), [first, second]


def test_by_the_clock_on_the_wall(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a zone of its own, at which every point is told and can be asked for."""
    name, contents = protected(site)
    monkeypatch.setenv("TZ", "XST-9:30")
    points = site.points()
    there = [
        datetime.fromisoformat(p["time"]) + timedelta(hours=9, minutes=30) for p in points
    ]  # fmt: skip
    to = site.folder / "restored.img"
    listed = site.ctl("points", name)
    assert listed.out.count("+09:30") == 2
    for at, content in zip(there, contents, strict=True):
        text = f"{at:%Y-%m-%d %H:%M:%S.%f}"
        done = site.ctl("restore", name, "--at", text, "--to", str(to), key=True)
        assert done.code == 0, done
        shown = f"{text} read as {at:%Y-%m-%d %H:%M:%S} +09:30; the point is of "
        assert f"{shown}{at:%H:%M:%S} +09:30: that very instant." in done.err
        assert to.read_bytes() == content
        to.unlink()
    before = f"{there[0]:%Y-%m-%d %H:%M:%S.%f}"
    done = site.ctl("restore", name, "--before", before, "--to", str(to), key=True)
    told(done, 11, "has no point older than", points[0]["id"], "+09:30")


def test_planned_then_done(site: Site) -> None:
    name, contents = protected(site)
    to = site.folder / "restored.img"
    words = ("restore", f"{name}@latest", "--to", str(to))
    done = site.ctl(*words, "--dry-run", key=True)
    assert done.code == 0, done
    assert f"to         {to}, a new file\n" in done.out
    assert "write      8.0 MiB, and 4.0 MiB of zeros that take no room\n" in done.out
    assert "ever were; prove it with: blocksnapctl verify p" in done.out
    assert not to.exists()
    assert site.ctl("verify", name, key=True).code == 0
    found = site.ctl(*words, "--dry-run", "--json", key=True).documents[-1]
    assert (found["content_bytes"], found["target"], found["damaged_bytes"]) == (8 * MIB, "file", 0)
    assert found["read_back"] is not None
    lines = site.ctl(*words, "--json", key=True).documents
    assert all(line["kind"] == "restore" for line in lines)
    assert (lines[-1]["result"], lines[-1]["kept_bytes"]) == ("success", 0)
    assert to.read_bytes() == contents[1]
    out, said = on_a_terminal(site, *words, "--yes")
    assert "restored p" in out
    assert b"\r\x1b[K[" in said, "a bar"
    assert b"%" in said


def on_a_terminal(site: Site, *words: str) -> tuple[str, bytes]:
    """Run a command whose standard error is a terminal; return its output and what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "blocksnapctl", *words, "--key", str(site.keys / "restore.key")],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**os.environ, "TERM": "xterm", "BLOCKSNAP_SOCKET": str(site.socket)},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # when nobody holds the other end any more
        while part := os.read(ours, 4096):
            said += part
    os.close(ours)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    return out, said


def test_around_damage(site: Site) -> None:
    """The pack of the first point is gone: of the second only what it changed is left."""
    name, contents = protected(site)
    largest = max(site.packs(), key=lambda p: p.stat().st_size)
    largest.unlink()
    to = site.folder / "restored.img"
    words = ("restore", f"latest:{name}", "--to", str(to))
    done = site.ctl(*words, key=True)
    told(done, 14, "are damaged in the repository", "--allow-damaged", "None of the 8 points")
    assert not to.exists()
    done = site.ctl(*words, "--allow-damaged", key=True)
    assert done.code == 14
    listed = f"{to}.damaged"
    assert f"which, tells {listed}" in done.out
    assert listed in done.err
    with open(listed, encoding="utf-8") as file:
        head, *ranges = map(json.loads, file)
    wanted = bytearray(contents[1])
    for each in ranges:
        wanted[each["start"] : each["end"]] = bytes(each["end"] - each["start"])
    assert to.read_bytes() == wanted != contents[1]
    assert head["damaged_bytes"] == 6 * MIB
    assert site.ctl("verify", name, key=True).code == 14
    done = site.ctl(*words, "--dry-run", key=True)
    assert (done.code, "6.0 MiB of it are known to be damaged" in done.out) == (14, True)
