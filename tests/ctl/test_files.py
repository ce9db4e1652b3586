"""What ``ls`` prints of the parts of a list; the verbs themselves are in tests/flow."""

from __future__ import annotations

import io
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from blocksnapctl.files import _quoted, _Shown
from blocksnapctl.output import Output

if TYPE_CHECKING:
    import pytest

ENTRY = {
    "name": "passwd", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "links": 1,
    "size": 1234, "mtime": 1_600_000_000, "mtime_ns": 1_600_000_000 * 10**9, "inode": 12,
}  # fmt: skip


def printed(*parts: dict[str, Any], **options: bool) -> tuple[int, str, str]:
    names = ("json", "plain", "quiet", "verbose", "no_color", "long", "recursive")
    arguments = Namespace(**{name: options.get(name, False) for name in names})
    out, err = io.StringIO(), io.StringIO()
    context: Any = Namespace(output=Output(out, err, arguments, {}), arguments=arguments)
    shown = _Shown(context, "p51")
    code = max(shown.part(part) for part in parts)
    return code, out.getvalue(), err.getvalue()


def test_a_short_list_marks_what_is_no_file() -> None:
    kinds = ("file", "directory", "symlink", "fifo", "socket", "block device")
    entries = [{"name": f"n{i}", "type": kind} for i, kind in enumerate(kinds)]
    code, out, err = printed({"directory": "/", "entries": entries})
    assert (code, out.split(), err) == (0, ["n0", "n1/", "n2@", "n3|", "n4=", "n5"], "")


def test_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    link = {**ENTRY, "name": "l\x1b[31m", "type": "symlink", "mode": 0o777, "target": "a\nb"}
    device = {**ENTRY, "name": "null", "type": "character device", "device": [1, 3]}
    _, out, _ = printed({"directory": "/etc", "entries": [ENTRY, link, device]}, long=True)
    one, two, three = out.splitlines()
    assert one.split() == ["-rw-r--r--", "1", "0", "0", "1234", *one.split()[5:-1], "passwd"]
    assert "2020-09-13" in one
    assert two.endswith("l�[31m -> a�b")
    assert "1, 3" in three
    assert three.startswith("crw-r--r--")


def test_directories_of_a_deep_list_have_headings_once() -> None:
    parts = [{"directory": "/", "entries": [ENTRY]}, {"directory": "/", "entries": [ENTRY]},
             {"directory": "/x", "entries": []}]  # fmt: skip
    _, out, _ = printed(*parts, recursive=True)
    assert out == "/:\npasswd\npasswd\n\n/x:\n"


def test_lines_for_scripts() -> None:
    _, out, _ = printed({"directory": "/etc", "entries": [ENTRY]}, plain=True)
    assert out == "file\t420\t1\t0\t0\t1234\t1600000000\t/etc/passwd\t\n"


def test_what_is_damaged_and_what_is_said() -> None:
    bad = {"name": "bad", "type": "damaged", "problem": "inode 7 is not in use"}
    code, out, _ = printed({"directory": "/", "entries": [bad, ENTRY]})
    assert (code, "inode 7" in out) == (14, True)
    code, _, err = printed({"note": "its log was not replayed"})
    assert (code, "not replayed" in err) == (13, True)
    code, _, err = printed({"remark": "large"})
    assert (code, err) == (0, "large\n")


def test_file_systems_tell_how_to_name_them() -> None:
    volumes = [
        {"number": 1, "kind": "xfs", "size": 1 << 30, "label": "", "place": "partition 1",
         "readable": True, "notes": ["its log was not replayed"]},
        {"number": 2, "kind": "swap", "size": 1 << 20, "label": "", "place": "partition 2",
         "readable": False, "notes": []},
    ]  # fmt: skip
    _, out, err = printed({"volumes": volumes})
    assert "p51:1:/" in out
    assert "p51:2:/" not in out
    assert "1: its log" in err
    assert printed({"volumes": volumes}, plain=True)[1].startswith("1\txfs\t1073741824\t\t")


def test_paths_keep_every_byte() -> None:
    assert _quoted("/a b/\udcff") == "/a%20b/%FF"
